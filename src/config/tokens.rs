//! Tokens of those who read and administer.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};

use super::kinds::Kind;
use super::reader::Reader;
use super::section::Section;
use super::setting::Setting;
use super::settings as set;
use super::value::{Value, Wants, Wrong};

/// The fewest characters: what a person makes up is shorter, and can be guessed.
const SHORTEST: usize = 16;

/// What would be a good token.
const REMEDY: &str = "make one with `openssl rand -hex 32`";

pub(super) static TOKENS: Kind<Vec<SecretString>> = Kind {
    wants: Wants { noun: "a list of tokens", example: "[\"${env:READ_TOKEN}\"]" },
    read: |reader, value, wants| {
        if value.is_empty_list() {
            // It could be meant as "nobody" or as "everybody".
            reader.error(&value.spot(), "an empty list lets nobody in", "list a token, or leave it out");
            return None;
        }
        let elements = value.list(reader, wants)?.iter().map(|node| Value { node, ..value });
        let mut seen = BTreeSet::new();
        let tokens: Vec<_> = elements.map(|element| token(reader, element, &mut seen)).collect();
        tokens.into_iter().collect()
    },
};

fn token(reader: &mut Reader<'_>, element: Value<'_>, seen: &mut BTreeSet<String>) -> Option<SecretString> {
    let wants = Wants { noun: "a token", example: "\"${env:READ_TOKEN}\"" };
    let text = element.text(reader, &wants)?.text;
    // The problem tells nothing of the value but its length, so it may be said of what came from outside, too.
    if let Err(Wrong { problem, remedy }) = check(&text) {
        reader.error(&element.spot(), problem, remedy.unwrap_or_default());
        return None;
    }
    if !seen.insert(text.clone()) {
        reader.error(&element.spot(), "is in the list twice", "list each token once");
        return None;
    }
    Some(text.into())
}

/// Whether a token is long enough and can be sent (RFC 6750 §2.1: `b64token`).
fn check(token: &str) -> Result<(), Wrong> {
    if token.len() < SHORTEST {
        let problem = format!("a token has at least {SHORTEST} characters, this one has {}", token.len());
        return Err(Wrong::with_remedy(problem, REMEDY));
    }
    let unpadded = token.trim_end_matches('=');
    if unpadded.is_empty() || !unpadded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)) {
        return Err(Wrong::with_remedy("has a character that no `Authorization: Bearer` can carry", REMEDY));
    }
    Ok(())
}

/// The tokens of a table; `None` when they are wrong.
pub(super) fn of(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    setting: &Setting<Vec<SecretString>>,
) -> Option<Vec<SecretString>> {
    match section.value(setting) {
        Some(_) => section.find(reader, setting).map(|found| found.value),
        None => Some(Vec::new()),
    }
}

/// Refuses a token that would be of both kinds: whoever was given it to read could administer.
pub(super) fn check_roles<'s, 'a: 's>(
    reader: &mut Reader<'_>,
    server: &'s Section<'a>,
    sources: impl Iterator<Item = &'s Section<'a>>,
) {
    let Some(admin) = server.find(reader, &set::ADMIN_TOKENS) else { return };
    let admin: BTreeSet<&str> = admin.value.iter().map(ExposeSecret::expose_secret).collect();
    for section in [server].into_iter().chain(sources) {
        let Some(read) = section.find(reader, &set::READ_TOKENS) else { continue };
        if read.value.iter().any(|token| admin.contains(token.expose_secret())) {
            let problem = "has a token that is in admin_tokens too";
            reader.error(&read.at, problem, "give each role tokens of its own");
        }
    }
}

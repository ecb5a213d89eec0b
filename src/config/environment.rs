//! What a configuration takes from outside its file: `${env:NAME}` and `${file:PATH}`. (Variables that take the place of
//! settings are in `overrides.rs`.)

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::value::Wrong;

/// Where variables and files come from; tests bring their own.
pub trait Environment {
    /// The environment variable of that name.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// The names of all variables, some of which may set something. None, unless it is told otherwise.
    fn names(&self) -> Vec<OsString> {
        Vec::new()
    }

    /// The contents of a file.
    ///
    /// # Errors
    /// Why it can't be read.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<OsString> {
        std::env::vars_os().map(|(name, _)| name).collect()
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// A text of the configuration with everything put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// The text.
    pub text: String,
    /// Whether some of it came from outside the file, so that it must not be shown.
    pub expanded: bool,
}

/// Puts in what `${env:NAME}` and `${file:PATH}` stand for; `$${` is a literal `${`.
///
/// # Errors
/// What is wrong, in words, without any value that was put in.
pub(super) fn expand(written: &str, environment: &dyn Environment) -> Result<Text, Wrong> {
    let mut text = String::with_capacity(written.len());
    let mut expanded = false;
    let mut rest = written;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            text.push_str(before);
            text.push_str("${");
            rest = after;
            continue;
        }
        let (reference, behind) =
            after.split_once('}').ok_or_else(|| Wrong::with_remedy("`${` without its `}`", LITERAL))?;
        text.push_str(before);
        text.push_str(&resolve(reference, environment)?);
        expanded = true;
        rest = behind;
    }
    text.push_str(rest);
    Ok(Text { text, expanded })
}

/// What to write where no reference is meant.
const LITERAL: &str = "write `$${` for a literal `${`";

fn resolve(reference: &str, environment: &dyn Environment) -> Result<String, Wrong> {
    match reference.split_once(':') {
        Some(("env", name)) if !name.is_empty() => environment
            .variable(name)
            .ok_or_else(|| format!("the environment variable `{name}` is not set"))?
            .into_string()
            .map_err(|_| format!("the environment variable `{name}` is not UTF-8 text").into()),
        Some(("file", path)) if !path.is_empty() => {
            let bytes =
                environment.file(Path::new(path)).map_err(|error| format!("`{path}` can't be read: {error}"))?;
            let mut text = String::from_utf8(bytes).map_err(|_| format!("`{path}` is not UTF-8 text"))?;
            // Editors and `echo` end a file with a newline that is not part of the secret in it.
            if text.ends_with('\n') {
                text.truncate(text.len() - 1);
                text.truncate(text.strip_suffix('\r').map_or(text.len(), str::len));
            }
            Ok(text)
        }
        _ => {
            let problem = format!("`${{{reference}}}` is not `${{env:NAME}}` or `${{file:PATH}}`");
            Err(Wrong::with_remedy(problem, LITERAL))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Outside;

    impl Environment for Outside {
        fn variable(&self, name: &str) -> Option<OsString> {
            (name == "WHO").then(|| "Ada".into())
        }

        fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
            match path.to_str() {
                Some("/unix") => Ok(b"s3cret\n".into()),
                Some("/dos") => Ok(b"s3cret\r\n".into()),
                Some("/two") => Ok(b"s3cret\n\n".into()),
                Some("/bytes") => Ok(b"\xff".into()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    #[test]
    fn references_stand_for_what_is_outside() {
        for (written, text) in [
            ("plain $ {x} $5", "plain $ {x} $5"),
            ("${env:WHO}", "Ada"),
            ("<${env:WHO}|${env:WHO}>", "<Ada|Ada>"),
            ("$${env:WHO}", "${env:WHO}"),
            ("$${${env:WHO}", "${Ada"),
            ("${file:/unix}.", "s3cret."),
            ("${file:/dos}.", "s3cret."),
            ("${file:/two}.", "s3cret\n."),
        ] {
            assert_eq!(expand(written, &Outside).ok().unwrap().text, text, "{written}");
        }
        assert!(expand("${env:WHO}", &Outside).ok().unwrap().expanded);
        assert!(!expand("$${env:WHO}", &Outside).ok().unwrap().expanded);
    }

    #[test]
    fn what_can_not_be_put_in_is_named() {
        for (written, problem) in [
            ("${env:NOBODY}", "the environment variable `NOBODY` is not set"),
            ("${file:/none}", "`/none` can't be read: entity not found"),
            ("${file:/bytes}", "`/bytes` is not UTF-8 text"),
            ("${WHO}", "`${WHO}` is not `${env:NAME}` or `${file:PATH}`"),
            ("${env:}", "`${env:}` is not `${env:NAME}` or `${file:PATH}`"),
            ("${env:WHO", "`${` without its `}`"),
        ] {
            assert_eq!(expand(written, &Outside).err().unwrap().problem, problem, "{written}");
        }
    }
}

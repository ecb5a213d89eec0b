//! The code against the table of rooms in `src/lib.rs`: who may import whom.
//!
//! Comments are not looked at, tests in `src` are. A path counts wherever it stands, in a `use` or in an expression.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::house::sources;

/// What each room may import.
type Table = BTreeMap<String, May>;

#[derive(Debug, PartialEq, Eq)]
enum May {
    ImportEverything,
    Import(BTreeSet<String>),
}

impl May {
    fn import(&self, room: &str) -> bool {
        match self {
            Self::ImportEverything => true,
            Self::Import(rooms) => rooms.contains(room),
        }
    }
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let (table, mut offences) = (documented_table(), Vec::new());
    for (path, text) in sources() {
        let Some(room) = room_of(&path) else { continue };
        let may = table.get(&room).unwrap_or_else(|| panic!("the table in src/lib.rs has no room `{room}`"));
        for import in imports(&text, depth_of(&path)) {
            if import != room && !may.import(&import) {
                offences.push(format!("src/{}: `{room}` may not import `{import}`", path.display()));
            }
        }
    }
    assert!(offences.is_empty(), "against the table in src/lib.rs:\n{}", offences.join("\n"));
}

#[test]
fn the_table_lists_the_rooms_that_there_are() {
    let rooms: BTreeSet<String> = sources().iter().filter_map(|(path, _)| room_of(path)).collect();
    let table = documented_table();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), rooms);
    for (room, may) in &table {
        if let May::Import(imports) = may {
            assert!(imports.is_subset(&rooms), "`{room}` may import rooms that there aren't");
        }
    }
}

#[test]
fn imports_are_found_wherever_they_stand() {
    let found = |text: &str, depth| imports(text, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(found("use crate::store::Store;", 1), ["store"]);
    assert_eq!(found("use crate::{store::{Store, Claim}, api, domain::x as y};", 1), ["api", "domain", "store"]);
    assert_eq!(
        found("fn f() -> crate::api::A { g(\"http://x\", crate::store::new('\"', \"\\\"\")) }", 1),
        ["api", "store"]
    );
    assert_eq!(found("pub(crate) fn f() {} pub(in crate::api) fn g() {}", 1), ["api"]);
    assert_eq!(found("use crate::*;", 1), ["*"]);
    assert_eq!(
        found("// crate::api\n/* crate::api /* */ crate::api */ const A: &str = r#\"crate::api \"#;", 1),
        [""; 0]
    );
    assert_eq!(found("fn f<'a>(_: &'a str) { crate::api::f() }", 1), ["api"]);
}

#[test]
fn a_path_of_supers_that_leaves_the_room_is_an_import() {
    let found = |text: &str, depth| imports(text, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(found("use super::api::A;", 1), ["api"]);
    assert_eq!(found("use super::neighbour::A;", 2), [""; 0]);
    assert_eq!(found("use super::super::api::A;", 2), ["api"]);
    assert_eq!(found("mod tests { use super::*; use super::super::api; }", 1), ["api"]);
    assert_eq!(found("mod tests { fn f() {} } use super::{api, store};", 1), ["api", "store"]);
}

/// Reads the table `| room | may import |` from the documentation of the crate.
fn documented_table() -> Table {
    let (_, lib) = sources().into_iter().find(|(path, _)| path == Path::new("lib.rs")).unwrap();
    let rows = lib
        .lines()
        .skip_while(|line| *line != "//! | room | may import |")
        .skip(2)
        .map_while(|line| line.strip_prefix("//! | ")?.strip_suffix(" |")?.split_once(" | "));
    let mut table = Table::new();
    for (rooms, may) in rows {
        for room in names(rooms) {
            let may = match may {
                "everything" => May::ImportEverything,
                "nothing of the crate" => May::Import(BTreeSet::new()),
                list => May::Import(names(list).collect()),
            };
            assert!(table.insert(room.clone(), may).is_none(), "`{room}` is twice in the table");
        }
    }
    assert!(!table.is_empty(), "src/lib.rs has no table that begins with `| room | may import |`");
    table
}

/// The names of a cell: `` `a`, `b` ``.
fn names(cell: &str) -> impl Iterator<Item = String> {
    cell.split(", ").map(move |name| {
        let name = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
        name.unwrap_or_else(|| panic!("not a list of `rooms`: {cell}")).to_owned()
    })
}

/// `store/sqlite/claim.rs` is of the room `store`, `clock.rs` is one; `lib.rs` and `main.rs` hold the house together.
fn room_of(path: &Path) -> Option<String> {
    let room = path.iter().next()?.to_str()?.trim_end_matches(".rs");
    (!["lib", "main"].contains(&room)).then(|| room.to_owned())
}

/// How many modules the file's own is below the root of the crate: 1 for `store/mod.rs`, 2 for `store/claim.rs`.
fn depth_of(path: &Path) -> usize {
    path.iter().count() - usize::from(path.ends_with("mod.rs"))
}

/// The rooms that the paths in a file lead to; its module lies `depth` below the root.
fn imports(text: &str, depth: usize) -> BTreeSet<String> {
    let tokens = tokens(text);
    let mut found = BTreeSet::new();
    // For each open brace, whether it is a module's.
    let mut braces = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let here = depth + braces.iter().filter(|is_module| **is_module).count();
        match token.as_str() {
            "{" => braces.push(at >= 2 && tokens[at - 2] == "mod"),
            "}" => _ = braces.pop(),
            "crate" => found.extend(first_names(&tokens[at + 1..])),
            "super" => {
                let supers = 1 + tokens[at + 1..].chunks(2).take_while(|pair| pair == &["::", "super"]).count();
                at += 2 * (supers - 1);
                if supers == here {
                    found.extend(first_names(&tokens[at + 1..]));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// What follows the root of a path: one name, or those in braces that begin a branch.
fn first_names(rest: &[String]) -> Vec<String> {
    match rest {
        [colons, open, rest @ ..] if colons == "::" && open == "{" => {
            let (mut names, mut depth, mut begins) = (Vec::new(), 1, true);
            for token in rest {
                match token.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if begins && depth == 1 && token != "," {
                    names.push(token.clone());
                }
                begins = depth == 1 && token == ",";
            }
            names
        }
        [colons, name, ..] if colons == "::" => vec![name.clone()],
        _ => Vec::new(),
    }
}

/// A file's names, `::`, and other signs, without comments, texts and characters.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_text(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            // A lifetime has no quote after its name.
            let character = rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'');
            if character { quoted(rest, '\'') } else { 1 }
        } else {
            let length = match name {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                name => name,
            };
            if !first.is_whitespace() {
                tokens.push(rest[..length].to_owned());
            }
            length
        };
        rest = &rest[skipped..];
    }
    tokens
}

/// The length of a text or character, with its quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if character == quote && !escaped {
            return at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    rest.len()
}

/// The length of a raw text, if one begins here.
fn raw_text(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + length)
}

/// The length of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_u32;
    for (at, _) in rest.char_indices() {
        if rest[at..].starts_with("/*") {
            depth += 1;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at + 2;
            }
        }
    }
    rest.len()
}

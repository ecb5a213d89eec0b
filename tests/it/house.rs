//! Rules of the house that no compiler knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A longer file is asked whether it is two.
const LINES: usize = 400;

/// Files that were asked and are one all the same, with the reason.
const LONGER: &[(&str, &str)] = &[
    ("store/mod.rs", "the whole contract of the store, which is read as one"),
    ("store/postgres/mod.rs", "the same contract, each method in a line or two"),
    ("store/sqlite/mod.rs", "the same"),
    ("config/settings.rs", "one table of all settings"),
    ("telemetry/metrics.rs", "one table of all metrics, and who counts"),
    ("domain/decision/tests.rs", "one table of all decisions, and what holds for every history"),
];

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All Rust files of `src`, as paths within it, with their text.
pub fn sources() -> Vec<(PathBuf, String)> {
    let (src, mut files) = (repository("src"), Vec::new());
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.strip_prefix(&src).unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| -> BTreeSet<_> {
        fs::read_dir(repository(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(names("migrations/sqlite"), names("migrations/postgres"));
    assert!(!names("migrations/sqlite").is_empty());
}

#[test]
fn files_are_small_enough_to_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|(path, text)| text.lines().count() > LINES && !LONGER.iter().any(|(known, _)| path.ends_with(known)))
        .map(|(path, text)| format!("src/{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(
        long.is_empty(),
        "Longer than {LINES} lines. Split them, or list them in tests/it/house.rs with the reason:\n{}",
        long.join("\n")
    );
}

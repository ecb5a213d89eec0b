//! The README opens with what the demo prints and what its steps print when they are pasted into a shell. This runs them, and
//! compares. `HEADPOND_BLESS=1 cargo test --test it demo::transcript` writes the README's block anew.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::{Demo, PATIENCE};
use crate::house::repository;
use crate::support::program::Headpond;

const BEGIN: &str = "<!-- The next block is checked, and written, by tests/it/demo/transcript.rs. -->\n```console\n";
const END: &str = "```\n<!-- End of the checked block. -->\n";

#[tokio::test]
async fn the_readme_opens_with_what_the_demo_and_its_steps_print() {
    let headpond = Headpond::with_config("");
    let demo = Demo::start(&headpond).await;
    let ran = played(&demo, &headpond.path("")).await;
    for part in ["HTTP/1.1 200 OK\n", "headpond-state: fresh\n", "headpond-state: stale\n", "\"kind\":\"broken\""] {
        assert!(ran.contains(part), "{part:?} in {ran}");
    }
    let transcript = as_by_default(&demo, &ran);
    demo.stop().await;

    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the beginning of the block in README.md");
    let (block, after) = rest.split_once(END).expect("the end of the block in README.md");
    if std::env::var_os("HEADPOND_BLESS").is_some() {
        std::fs::write(repository("README.md"), format!("{before}{BEGIN}{transcript}{END}{after}")).unwrap();
        return;
    }
    let (written, ran) = (without_what_varies(block), without_what_varies(&transcript));
    let first = written.iter().zip(&ran).find(|(written, ran)| written != ran);
    assert!(
        first.is_none() && written.len() == ran.len(),
        "README.md shows something else (HEADPOND_BLESS=1 writes it anew): {first:#?}\n{transcript}"
    );
}

/// What the demo printed, with what each command of its steps prints below it.
async fn played(demo: &Demo, directory: &Path) -> String {
    let mut played = vec!["$ cargo run --release -- demo".to_owned()];
    let mut lines = demo.printed.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(begin) = line.strip_prefix(INDENT) else {
            played.push(line.to_owned());
            continue;
        };
        let mut command = vec![line];
        played.push(format!("{INDENT}$ {begin}"));
        while let Some(more) = lines.next_if(|line| line.starts_with(INDENT)) {
            command.push(more);
            played.push(more.to_owned());
        }
        let output = paste(&command.join("\n"), directory).await;
        played.extend(output.lines().map(|line| format!("{INDENT}{line}").trim_end().to_owned()));
    }
    played.join("\n") + "\n"
}

/// What commands are indented by.
const INDENT: &str = "    ";

/// What a shell prints that this is pasted into, exactly as the demo printed it.
async fn paste(command: &str, directory: &Path) -> String {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, shell.output()).await.expect("an end").expect("sh");
    assert!(output.status.success(), "{command}: {output:?} (it needs curl and sqlite3, which tests/run installs)");
    String::from_utf8(output.stdout).unwrap()
}

/// With the ports and the program's path that they have in a fresh clone.
fn as_by_default(demo: &Demo, transcript: &str) -> String {
    transcript
        .replace(&demo.api, "http://127.0.0.1:8080")
        .replace(&demo.upstream, "http://127.0.0.1:8081")
        .replace(env!("CARGO_BIN_EXE_headpond"), "target/release/headpond")
}

/// Its lines without times, numbers and hashes; status lines and words stay.
pub fn without_what_varies(transcript: &str) -> Vec<String> {
    transcript.lines().map(normal).collect()
}

fn normal(line: &str) -> String {
    if line.trim_start().starts_with("HTTP/") {
        return line.to_owned();
    }
    if let Some((name, _)) = line.split_once(": ")
        && ["last-modified", "date", "etag"].contains(&name.trim_start())
    {
        return format!("{name}: …");
    }
    let mut normal = String::new();
    for character in line.chars() {
        match character {
            // A number, its sign and its fraction become one 0.
            '0'..='9' if !normal.ends_with('0') => normal.push('0'),
            '0'..='9' => {}
            '.' if normal.ends_with('0') => {}
            other => normal.push(other),
        }
    }
    normal.replace("-0", "0")
}

#[test]
fn what_varies_is_taken_out_and_nothing_else() {
    for (one, another) in [
        ("    last-modified: Tue, 15 Nov 1994 08:12:31 GMT", "    last-modified: Wed, 16 Nov 1994 08:12:31 GMT"),
        ("    etag: \"0f3\"", "    etag: \"99a\""),
        ("    age: 5", "    age: 12"),
        ("{\"temperature\":-3.4,\"wind\":5}", "{\"temperature\":17.0,\"wind\":5.25}"),
        ("\"at\":\"2026-07-27T20:28:55.123456Z\"", "\"at\":\"2026-07-28T20:28:55Z\""),
        ("cache-status: headpond;hit;ttl=-6", "cache-status: headpond;hit;ttl=9"),
    ] {
        assert_eq!(normal(one), normal(another));
    }
    for (one, another) in [
        ("    HTTP/1.1 200 OK", "    HTTP/1.1 503 Service Unavailable"),
        ("    headpond-state: fresh", "    headpond-state: stale"),
        ("\"kind\":\"broken\"", "\"kind\":\"timeout\""),
        ("    age: 5", "    age: five"),
    ] {
        assert_ne!(normal(one), normal(another));
    }
}

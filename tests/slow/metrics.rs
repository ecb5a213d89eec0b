//! What `serve` tells Prometheus, judged by Prometheus' own linter.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, eventually, files_config, get};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(promtool_finds_nothing_to_say_of_the_metrics);

async fn promtool_finds_nothing_to_say_of_the_metrics(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=50, "");
    let nginx = Nginx::start(files.path()).await;
    let headpond = Headpond::with_config(&files_config(database, &nginx.url(), 50, "", "refresh_every = \"1h\""));
    let serving = headpond.serve().await;
    eventually("all fetched", Duration::from_secs(20), async || {
        get(&serving.url("/readyz")).await.ok().filter(|answer| answer.status() == 200)
    })
    .await;
    get(&serving.url("/v1/users/1")).await.unwrap();
    let text = get(&serving.url("/metrics")).await.unwrap().text().await.unwrap();
    serving.stop().await;

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: install the distribution's package `prometheus`");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    assert!(said.status.success() && words.is_empty(), "{}\n{text}", String::from_utf8_lossy(&words));
    println!("promtool check metrics: clean, {} lines", text.lines().count());
}

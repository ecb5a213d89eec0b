//! What `docs/deploy.md` gives to copy.

use std::fs;

use crate::house::repository;
use crate::support::nginx::Nginx;
use crate::support::program::{Headpond, client};
use crate::support::store::Database;

/// The block of this language in the page.
fn block(language: &str) -> String {
    let page = fs::read_to_string(repository("docs").join("deploy.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_unit_stops_no_earlier_than_the_program_does_and_names_commands_that_there_are() {
    let unit = block("ini");
    let value = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} in {unit}")).to_owned()
    };
    let seconds = |name: &str| humantime::parse_duration(&value(name)).unwrap();
    let example = fs::read_to_string(repository("config.example.toml")).unwrap();
    let grace = example.lines().find_map(|line| line.strip_prefix("# shutdown_grace = ")).unwrap();
    assert!(seconds("TimeoutStopSec") > humantime::parse_duration(grace.trim_matches('"')).unwrap());
    assert_eq!(value("Type"), "notify");
    assert!(value("ExecStart").ends_with(" serve"));
}

#[tokio::test]
async fn nginx_in_front_hands_keys_on_as_they_were_sent_and_keeps_administration_inside() {
    let files = tempfile::tempdir().unwrap();
    let upstream = Nginx::start(files.path()).await;
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[sources.users]\nurl = \"{}/users/{{key}}\"\n\
         keys = [\"a/b\"]\nrefresh_every = \"1h\"\n",
        database.url(),
        upstream.url()
    ));
    let serving = headpond.serve().await;
    let front = Nginx::start_servers(|port, ready| {
        block("nginx")
            .replace("127.0.0.1:8080", &serving.address.to_string())
            .replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port}; {ready}"))
            .replace("ssl_certificate", "# ssl_certificate")
    })
    .await;
    let status =
        async |path: &str| client().get(format!("{}{path}", front.url())).send().await.unwrap().status().as_u16();
    assert_eq!(status("/v1/users/a%2Fb/meta").await, 200, "the key arrives with its slash encoded");
    assert_eq!(status("/healthz").await, 200);
    assert_eq!((status("/metrics").await, status("/v1/-/reload").await), (404, 404));
    serving.stop().await;
    database.drop().await;
}

//! The served OpenAPI document, judged by Redocly's linter, and the served API by the document, with Schemathesis.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, Serving, eventually, files_config, get};
use crate::support::store::Database;

const REDOCLY: &str = "@redocly/cli@2";
const SCHEMATHESIS: &str = "schemathesis>=4,<5";

/// What Schemathesis looks for in each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,unsupported_method";

/// It has a table, which the document describes too.
const SOURCE: &str = r#"refresh_every = "1h"
[sources.users.table]
name = "users"
[sources.users.table.columns]
id = { path = "$.id", type = "integer" }
name = { path = "$.name", type = "text", nullable = true }
all = { path = "$", type = "json" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_well_formed_and_the_api_keeps_to_it() {
    let tools = tempfile::tempdir().unwrap();
    install(tools.path());
    for database in [Database::sqlite(), Database::on_test_server().await] {
        database.check(async |database| judge(database, &tools).await).await;
    }
}

async fn judge(database: &Database, tools: &TempDir) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=20, "");
    let nginx = Nginx::start(files.path()).await;
    let headpond = Headpond::with_config(&files_config(database, &nginx.url(), 20, "", SOURCE));
    let serving = headpond.serve().await;
    eventually("all fetched", Duration::from_secs(30), async || {
        get(&serving.url("/readyz")).await.ok().filter(|answer| answer.status() == 200)
    })
    .await;
    let document = get(&serving.url("/openapi.json")).await.unwrap().text().await.unwrap();
    let file = headpond.path("openapi.json");
    std::fs::write(&file, &document).unwrap();
    run(Command::new(tools.path().join("node_modules/.bin/redocly")).arg("lint").arg(&file));
    schemathesis(&serving, tools.path());
    serving.stop().await;
}

/// All operations but the reload, which answers for a file that nobody changes here, and takes its time.
fn schemathesis(serving: &Serving, tools: &Path) {
    run(Command::new(tools.join("venv/bin/schemathesis"))
        .current_dir(tools)
        .args(["run", &serving.url("/openapi.json"), "--checks", CHECKS, "--exclude-operation-id", "reload"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "60", "--seed", "1", "--no-color"])
        .args(["--generation-database", "none", "--continue-on-failure"]));
}

fn install(directory: &Path) {
    run(Command::new("npm").args(["install", "--no-fund", "--no-audit", "--prefix"]).arg(directory).arg(REDOCLY));
    let venv = directory.join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS]));
}

fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [done.stdout, done.stderr].concat();
    println!("{}", String::from_utf8_lossy(&said));
    assert!(done.status.success(), "{command:?}: {}", done.status);
}

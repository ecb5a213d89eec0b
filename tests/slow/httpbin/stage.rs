//! The servers, and Headpond in front of them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::cases::{self, CASES, Case, Expected, Origin};
use super::server::Httpbin;
use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, eventually};
use crate::support::store::Database;

/// How long a server may take to log a request whose answer has come: httpbin notices late that nobody reads any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// One database's turn.
pub struct Stage<'h> {
    httpbin: &'h Httpbin,
    nginx: Nginx,
    files: TempDir,
    headpond: Headpond,
}

/// What became of one refresh of a case.
#[derive(Debug)]
pub struct Happened {
    /// As the summary counts it; of a failure the kind.
    pub outcome: String,
    /// The statuses of all requests that it took.
    pub answered: Vec<u16>,
    pub why: String,
    /// Why it is due when it is due.
    pub because: String,
    pub version: u64,
    pub state: String,
    /// What readers get.
    pub copy: String,
}

/// An answer in a server's log.
struct Answered {
    status: u16,
    if_none_match: String,
}

/// Of both servers, to one case.
struct Answers {
    httpbin: Vec<Answered>,
    nginx: Vec<Answered>,
}

impl<'h> Stage<'h> {
    pub async fn set(database: &Database, httpbin: &'h Httpbin) -> Self {
        let files = tempfile::tempdir().unwrap();
        for case in CASES.iter().filter(|case| case.origin == Origin::Nginx) {
            write_json_files(files.path(), case.name, 1..=1, "as long as it is well");
        }
        let locations = cases::nginx_locations(&files.path().join("trouble"), &httpbin.url());
        let nginx = Nginx::start_with(files.path(), &locations).await;
        let headpond = Headpond::with_config(&cases::config(database, &httpbin.url(), &nginx.url()));
        Self { httpbin, nginx, files, headpond }
    }

    /// While this file is there, nginx is in trouble.
    pub fn trouble(&self) -> PathBuf {
        self.files.path().join("trouble")
    }

    /// Refreshes a case once.
    pub async fn refresh(&self, case: &Case, expected: &Expected) -> Happened {
        let before = self.answers_to(case);
        let refreshed = self.headpond.run(&["refresh", case.name, "--force", "--json"]).await.json();
        let outcome = outcome(&refreshed);
        let awaited = if expected.may_be_held && outcome == "held" { 0 } else { expected.answered.len() };
        let logged = async || Some(self.answers_to(case).since(&before)).filter(|answers| answers.len() >= awaited);
        let answers = eventually(case.path, PATIENCE, logged).await;
        let meta = self.headpond.run(&["get", case.name, "k", "--meta"]).await.json();
        Happened {
            why: why(&refreshed, &outcome, &answers),
            outcome,
            answered: answers.iter().map(|answer| answer.status).collect(),
            because: meta["due"]["because"].as_str().unwrap_or_default().to_owned(),
            version: meta["version"].as_u64().unwrap(),
            state: meta["state"].as_str().unwrap().to_owned(),
            copy: self.headpond.run(&["get", case.name, "k"]).await.stdout,
        }
    }

    /// What was answered to a case so far.
    fn answers_to(&self, case: &Case) -> Answers {
        let httpbin = self.httpbin.requests().into_iter().filter(|request| request.user_agent == case.name);
        let httpbin = httpbin.map(|request| Answered { status: request.status, if_none_match: request.if_none_match });
        // What nginx answers to a case is under its name.
        let path = format!("/{}", case.name);
        let is_of_case =
            |uri: &str| uri.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let nginx = self.nginx.requests().into_iter().filter(|request| is_of_case(&request.uri));
        let nginx = nginx.map(|request| Answered {
            status: request.status,
            if_none_match: request.if_none_match.unwrap_or("-".into()),
        });
        Answers { httpbin: httpbin.collect(), nginx: nginx.collect() }
    }
}

impl Answers {
    /// What came since, httpbin's first: where both are asked, it sends us on to nginx.
    fn since(mut self, before: &Self) -> Vec<Answered> {
        let mut since = self.httpbin.split_off(before.httpbin.len());
        since.extend(self.nginx.split_off(before.nginx.len()));
        since
    }
}

/// What a summary of one resource counts.
fn outcome(refreshed: &Value) -> String {
    let counted = ["new", "changed", "unchanged", "gone", "failed"].into_iter().find(|count| refreshed[count] == 1);
    match counted {
        Some("failed") => format!("failed: {}", refreshed["failures"][0]["kind"].as_str().unwrap()),
        Some(count) => count.to_owned(),
        None => "held".to_owned(),
    }
}

/// In words.
fn why(refreshed: &Value, outcome: &str, answers: &[Answered]) -> String {
    if let Some(detail) = refreshed["failures"][0]["detail"].as_str() {
        return detail.to_owned();
    }
    match (outcome, answers.last()) {
        ("held", _) => "its upstream asked for patience".to_owned(),
        (_, Some(last)) if last.status == 304 => format!("304 to If-None-Match: {}", last.if_none_match),
        ("unchanged", Some(_)) => "the same content".to_owned(),
        ("changed", Some(_)) => "other content".to_owned(),
        (_, Some(last)) => format!("{}", last.status),
        (_, None) => String::new(),
    }
}

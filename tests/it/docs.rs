//! The pages in `docs` against the code: nothing undocumented, nothing documented that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use headpond::telemetry::metrics::{ALL, Kind};

use crate::house::{repository, sources};
use crate::support::program::Headpond;

fn page(name: &str) -> String {
    fs::read_to_string(repository("docs").join(name)).unwrap()
}

/// The rows of all tables, cell by cell.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines().filter_map(|line| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect()))
}

/// What a cell shows as code: `` `a` ``.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

#[test]
fn every_metric_is_documented_as_it_is() {
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let known: Vec<_> = ALL
        .iter()
        .map(|metric| {
            vec![format!("`{}`", metric.name), kind(metric.kind).into(), metric.labels.join(", "), metric.help.into()]
        })
        .collect();
    let page = page("metrics.md");
    let documented: Vec<_> = rows(&page).filter(|row| row[0].starts_with("`headpond_")).collect();
    assert_eq!(documented, known, "docs/metrics.md lists telemetry::metrics::ALL");
}

#[test]
fn every_route_is_documented() {
    let page = page("api.md");
    let headings = page.lines().filter_map(|line| code(line.strip_prefix("### ")?));
    let documented: BTreeSet<_> = headings.map(|route| route.split('?').next().unwrap().to_owned()).collect();
    assert_eq!(documented, routes());
}

#[test]
fn every_route_and_problem_is_in_the_openapi_document() {
    let document = headpond::api::openapi::document(std::iter::empty());
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys().filter(|member| *member != "parameters");
        described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    assert_eq!(described, routes(), "src/api/openapi/document.json against src/api/mod.rs");
    let responses = document["components"]["responses"].to_string();
    let missing: Vec<_> = problems().into_iter().filter(|kind| !responses.contains(&format!("`{kind}`"))).collect();
    let is_elsewhere = |kind: &String| kind == "method-not-allowed";
    assert!(missing.iter().all(is_elsewhere), "src/api/openapi/document.json tells nothing of {missing:?}");
}

/// Method and path of each route: `.route("/path", get(handler))`.
fn routes() -> BTreeSet<String> {
    let (_, module) = sources().into_iter().find(|(path, _)| path.ends_with("api/mod.rs")).unwrap();
    let mut routes = BTreeSet::new();
    for call in module.split(".route(\"").skip(1) {
        let (path, handlers) = call.split_once("\", ").unwrap();
        let line = handlers.lines().next().unwrap();
        for (name, method) in [("get(", "GET"), ("post(", "POST"), ("put(", "PUT"), ("delete(", "DELETE")] {
            if line.contains(name) {
                routes.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(routes.len() > 5, "{routes:?}");
    routes
}

#[test]
fn every_problem_is_documented() {
    let page = page("api.md");
    let table = page.split_once("## Problems").unwrap().1;
    let documented: BTreeSet<_> = rows(table).filter_map(|row| code(row[0]).map(str::to_owned)).collect();
    assert_eq!(documented, problems());
}

/// The first text after each call that makes a problem.
fn problems() -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for (path, text) in sources() {
        if !path.starts_with("api") {
            continue;
        }
        let text = text.split("#[cfg(test)]").next().unwrap();
        for maker in ["Problem::new(", "bad_request(", "unavailable("] {
            for call in text.split(maker).skip(1) {
                let Some(kind) = call.split('"').nth(1) else { continue };
                let before = call.split('"').next().unwrap();
                // Not a definition, whose arguments have types.
                if !before.contains(':') || before.trim_start().starts_with("StatusCode::") {
                    kinds.insert(kind.to_owned());
                }
            }
        }
    }
    assert!(kinds.len() > 10, "{kinds:?}");
    kinds
}

#[tokio::test]
async fn every_command_and_option_is_documented() {
    let page = page("cli.md");
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (heading, body) = section.split_once('\n').unwrap();
        let Some(command) = code(heading).and_then(|heading| heading.strip_prefix("headpond")) else { continue };
        let command = command.split_whitespace().next().unwrap_or_default().to_owned();
        let options = rows(body).filter_map(|row| code(row[0])).filter(|cell| cell.starts_with("--"));
        let options = options.map(|option| option.split_whitespace().next().unwrap().to_owned()).collect();
        assert!(documented.insert(command.clone(), options).is_none(), "{command} is there twice");
    }
    assert_eq!(documented, commands().await);
}

/// Each command of the program with its own options; the global ones belong to no command.
async fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let headpond = Headpond::with_config("");
    let help = headpond.run(&["--help"]).await.stdout;
    let mut global = options(&help);
    global.remove("--version");
    let mut commands = BTreeMap::from([(String::new(), global.clone())]);
    for name in commands_in(&help) {
        let help = headpond.run(&[name, "--help"]).await.stdout;
        let mut own = options(&help);
        for below in commands_in(&help) {
            own.extend(options(&headpond.run(&[name, below, "--help"]).await.stdout));
        }
        commands.insert(name.to_owned(), own.difference(&global).cloned().collect());
    }
    commands
}

/// The commands that a help text lists.
fn commands_in(help: &str) -> Vec<&str> {
    let names = help.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    // A command's line is indented by two; what goes on from the line above, by more.
    let names = names.lines().filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

/// The long options that a help text lists.
fn options(help: &str) -> BTreeSet<String> {
    let words = help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
    let options = words.filter(|word| word.starts_with("--"));
    let options = options.map(|option| option.split(['=', '[']).next().unwrap().trim_end_matches(',').to_owned());
    options.filter(|option| option != "--help").collect()
}

//! Each example, run as its README says, on both databases: what it prints is what the README shows, and the upstream is killed in
//! the middle of it. `HEADPOND_BLESS=1 cargo test --test it examples` writes the READMEs' blocks anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::process::Command;

use crate::demo::transcript::without_what_varies;
use crate::house::repository;
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    the_leaderboard_goes_on_with_marked_avatars_while_the_user_service_is_dead,
    the_weather_of_the_hour_is_told_while_the_weather_service_is_dead,
    a_challenge_has_its_names_while_the_user_service_is_dead,
    a_database_that_is_not_empty_is_left_alone,
);

const PATIENCE: Duration = Duration::from_secs(120);
const BEGIN: &str = "<!-- The next block is checked, and written, by tests/it/examples. -->\n```console\n";
const END: &str = "```\n<!-- End of the checked block. -->\n";

async fn the_leaderboard_goes_on_with_marked_avatars_while_the_user_service_is_dead(database: &Database) {
    let steps = steps("leaderboard", database).await;
    let of =
        |step: usize, part: &str| steps[step].iter().filter(|line| line.contains(part)).cloned().collect::<Vec<_>>();
    assert_eq!(of(1, "1. 2005"), ["1. 2005  Dren Costa     /avatars/u33-1.png"]);
    assert_eq!(of(2, "GET /users"), ["The user service was asked: GET /users 200"]);
    assert_eq!(of(2, "1. 2005"), ["1. 2005  Dren Costa     /avatars/u33-2.png"]);
    assert_eq!(of(3, "1. 2051"), ["1. 2051  Greta Ferrari  /avatars/u66-1.png  (stale)"]);
    assert_eq!(of(3, "2. 2005"), ["2. 2005  Dren Costa     /avatars/u33-2.png  (stale)"]);
    assert_eq!(of(3, "players"), ["… 20 players, 20 of them stale"]);
    assert_eq!(of(4, "1. 2051"), ["1. 2051  Greta Ferrari  /avatars/u66-2.png"]);
    assert_eq!(of(4, "players"), ["… 20 players, 0 of them stale"]);
}

async fn the_weather_of_the_hour_is_told_while_the_weather_service_is_dead(database: &Database) {
    let steps = steps("weather", database).await;
    let known = answers(&steps[1]).remove(0);
    let while_dead = answers(&steps[3]);
    assert_eq!(while_dead[0], known, "berlin, the hour of the first step");
    for (url, status, answer) in &while_dead[..4] {
        assert_eq!(*status, 200, "{url}: {answer}");
        let weather: Value = serde_json::from_str(answer).unwrap();
        let (_, at) = url.split_once("?at=").unwrap();
        assert_eq!(weather["hour"], format!("{}:00:00Z", &at[..13]), "{url}: {answer}");
    }
    let hours: BTreeSet<_> = while_dead[..3].iter().map(|(_, _, answer)| answer).collect();
    assert_eq!(hours.len(), 3, "other hours have other weather: {hours:?}");
    let skopje = |step: usize| {
        let answers = answers(&steps[step]);
        answers.iter().filter(|(url, ..)| url.contains("/skopje?")).map(|(_, status, _)| *status).collect::<Vec<_>>()
    };
    assert_eq!((skopje(3), skopje(4)), (vec![503], vec![200]));
    assert_eq!(answers(&steps[2])[1].1, 404);
    let asked: Vec<_> = steps[4].iter().filter(|line| line.starts_with("GET /forecast/")).collect();
    let expected = [("atlantis", 404), ("berlin", 200), ("prishtina", 200), ("skopje", 200), ("tirana", 200)];
    assert_eq!(
        asked,
        expected.map(|(city, status)| format!("GET /forecast/{city} {status}")).iter().collect::<Vec<_>>()
    );
}

/// URL, status and body of each answer in a step.
fn answers(step: &[String]) -> Vec<(String, u16, String)> {
    let pairs = step.iter().zip(&step[1..]).filter(|(request, _)| request.contains("/weather/"));
    let answers = pairs.filter_map(|(request, answer)| {
        let (status, body) = answer.split_once(' ')?;
        Some((request.strip_prefix("GET ")?.to_owned(), status.parse().ok()?, body.to_owned()))
    });
    answers.collect()
}

async fn a_challenge_has_its_names_while_the_user_service_is_dead(database: &Database) {
    let steps = steps("challenge", database).await;
    let names = |step: usize| {
        let participants = steps[step].iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        participants.map(|participant| participant["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let first = names(1);
    assert!(first.len() == 6 && first.iter().all(Option::is_some), "{first:?}");
    let asked: Vec<_> = steps[1].iter().filter(|line| line.starts_with("GET /users?ids=")).collect();
    assert_eq!(asked.len(), 1, "one request for all of them");
    assert_eq!(names(2), [&first[..], &[Some("Ivo Ito".into()), None]].concat());
    assert_eq!(names(3), [&first[..], &[Some("Ivo Ito".into()), Some("Hana Ito".into())]].concat());
}

async fn a_database_that_is_not_empty_is_left_alone(database: &Database) {
    if matches!(database, Database::Sqlite { .. }) {
        std::fs::File::create(database.path()).unwrap();
    }
    database.execute_as_it_is("CREATE TABLE scores (mine integer)".into()).await.unwrap();
    let mut command = Command::new(program("leaderboard"));
    let output = command.args(["--database", &database.url()]).stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = "--database: it is not empty; give the example a database of its own\n";
    assert_eq!((String::from_utf8(output.stderr).unwrap().as_str(), &output.stdout[..]), (said, &b""[..]));
    assert_eq!(database.number("SELECT count(*) FROM scores").await, 0);
}

/// The lines of each step that an example has printed, what comes before the first step being the 0th.
async fn steps(name: &str, database: &Database) -> Vec<Vec<String>> {
    let printed = run(name, database).await;
    compare_with_readme(name, &printed, database);
    let mut steps = vec![Vec::new()];
    for line in printed.lines() {
        if line.starts_with(&format!("{}. ", steps.len())) {
            steps.push(Vec::new());
        }
        steps.last_mut().unwrap().push(line.trim().to_owned());
    }
    let killed = steps.iter().position(|step| step.iter().any(|line| line == "signal: 9 (SIGKILL)"));
    let killed = &steps[killed.expect("the upstream is killed")];
    assert!(killed.iter().any(|line| line.ends_with(": Connection refused (os error 111)")), "{killed:#?}");
    steps
}

/// Runs an example to its end, which must be a good one.
async fn run(name: &str, database: &Database) -> String {
    let mut command = Command::new(program(name));
    command.args(["--database", &database.url()]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("an end").unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// An example's program. `cargo test` makes it, `cargo test --test it` does not.
fn program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_headpond")).with_file_name("examples").join(name);
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified());
    let made = changed(&program).unwrap_or(SystemTime::UNIX_EPOCH);
    for folder in [name, "stage"] {
        for file in std::fs::read_dir(repository("examples").join(folder)).unwrap() {
            let file = file.unwrap().path();
            let is_code = file.extension().is_some_and(|extension| extension != "md");
            assert!(
                !is_code || changed(&file).unwrap() <= made,
                "{} is newer: run `cargo build --examples`",
                file.display()
            );
        }
    }
    program
}

fn compare_with_readme(name: &str, printed: &str, database: &Database) {
    let file = repository("examples").join(name).join("README.md");
    let readme = std::fs::read_to_string(&file).unwrap();
    let transcript = format!("$ cargo run --example {name}\n{printed}");
    let (before, rest) = readme.split_once(BEGIN).expect("the beginning of the block in README.md");
    let (block, after) = rest.split_once(END).expect("the end of the block in README.md");
    if std::env::var_os("HEADPOND_BLESS").is_some() {
        if matches!(database, Database::Sqlite { .. }) {
            std::fs::write(file, format!("{before}{BEGIN}{transcript}{END}{after}")).unwrap();
        }
        return;
    }
    let comparable = |text: &str| {
        without_what_varies(
            &["clear", "clouds", "rain"]
                .iter()
                .fold(text.to_owned(), |text, sky| text.replace(&format!("\"sky\":\"{sky}\""), "\"sky\":\"…\"")),
        )
    };
    let (written, ran) = (comparable(block), comparable(&transcript));
    let first = written.iter().zip(&ran).find(|(written, ran)| written != ran);
    assert!(
        first.is_none() && written.len() == ran.len(),
        "{} shows something else (HEADPOND_BLESS=1 writes it anew): {first:#?}\n{transcript}",
        file.display()
    );
}

//! A leaderboard whose scores are the app's own and whose names and avatars are another service's: `README.md` beside this file.
#![allow(unreachable_pub, reason = "in here `pub` is for the other modules of this one program")]

mod app;
#[path = "../stage/mod.rs"]
mod stage;

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};
use stage::{Result, Service, Stage, on, user_service};

/// Each user's first points: all different.
const FIRST_SCORES: &str = "
    INSERT INTO scores (user_id, points)
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 120)
    SELECT 'u' || n, 1000 + n * 7919 % 1009 FROM numbers";

fn main() -> ExitCode {
    stage::main(user_service::router, play)
}

async fn play(stage: &Stage) -> Result<Vec<Service>> {
    let mut users = stage.upstream().await?;
    app::migrate(&stage.database).await?;
    on!(&stage.database, pool => { sqlx::query(FIRST_SCORES).execute(pool).await?; });
    let app = stage.serve(app::router(stage.database.clone())).await?;
    let settings = [("SOURCES__USERS__REFRESH_EVERY", "1s"), ("SOURCES__USERS__STALE_AFTER", "3s")];
    println!("The user service answers on {}: {} users on three pages.", users.url("/users"), user_service::USERS);
    println!("Headpond copies them into the app's database by headpond.toml, and, so that you need not wait, with");
    let headpond = stage.headpond(include_str!("headpond.toml"), &users, &settings).await?;
    println!("The app answers on {app}/leaderboard.");
    let board = Board { stage, url: format!("{app}/leaderboard") };
    let top =
        board.until("all users", |top| top.iter().all(|player| player["name"].is_string() && is_fresh(player))).await?;

    println!("\n1. The top 20: the app's scores joined with Headpond's copy of the users, in one query.\n");
    let first = board.show(&top)?;

    println!(
        "\n2. The first has a new avatar. The next walk brings it: of three pages one has content, the others are 304.\n"
    );
    stage.until("the first walk is over", async || Ok((pages(&users)?.len() >= 3).then_some(()))).await?;
    let before = pages(&users)?.len();
    change_avatar(stage, &users, &first, 2).await?;
    let top = board.until("the avatar", |top| has_avatar(top, &first, 2) && top.iter().all(is_fresh)).await?;
    for page in pages(&users)?.into_iter().skip(before).filter(|page| page.ends_with(" 200")) {
        println!("    The user service was asked: {page}");
    }
    board.show(&top)?;

    println!(
        "\n3. The user service is killed. The leaderboard goes on, and new points count; names and avatars are a little old,"
    );
    println!("   which is accepted, and after three seconds marked.\n");
    println!("    {}", users.kill().await?);
    let url = users.url("/users");
    println!("    GET {url}: {}\n", stage.try_in_vain(&url).await?);
    let top = board.until("they are called stale", |top| !top.iter().any(is_fresh)).await?;
    let second = top.get(1).map(|player| player["user"].clone()).unwrap_or_default();
    println!("    POST {app}/scores {{\"user\":{second},\"points\":50}}");
    stage.send(Method::POST, &format!("{app}/scores"), &json!({ "user": second, "points": 50 })).await?;
    board.show(&board.top().await?)?;

    println!("\n4. The user service is started again, and another avatar is changed. Headpond catches up by itself.\n");
    users.start().await?;
    let second = second.as_str().unwrap_or_default().to_owned();
    change_avatar(stage, &users, &second, 2).await?;
    let top = board.until("all is fresh", |top| has_avatar(top, &second, 2) && top.iter().all(is_fresh)).await?;
    board.show(&top)?;
    Ok(vec![users, headpond])
}

/// The pages that the user service was asked for, with their status.
fn pages(users: &Service) -> Result<Vec<String>> {
    Ok(users.said()?.lines().filter(|line| line.starts_with("GET /users")).map(str::to_owned).collect())
}

async fn change_avatar(stage: &Stage, users: &Service, user: &str, edition: u32) -> Result {
    let (url, avatar) = (users.url(&format!("/users/{user}")), format!("/avatars/{user}-{edition}.png"));
    println!("    PUT {url} {{\"avatar\":\"{avatar}\"}}");
    stage.send(Method::PUT, &url, &json!({ "avatar": avatar })).await?;
    Ok(())
}

fn is_fresh(player: &Value) -> bool {
    player["is_stale"] == false
}

fn has_avatar(top: &[Value], user: &str, edition: u32) -> bool {
    let avatar = format!("/avatars/{user}-{edition}.png");
    top.iter().any(|player| player["user"] == user && player["avatar"] == avatar.as_str())
}

/// The page that the app serves.
struct Board<'s> {
    stage: &'s Stage,
    url: String,
}

impl Board<'_> {
    async fn top(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_value(self.stage.json(&self.url).await?)?)
    }

    /// The first that is so. There is none before the table of users is open, a moment after they came.
    async fn until(&self, what: &str, is_so: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        self.stage.until(what, async || Ok(self.top().await.ok().filter(|top| is_so(top)))).await
    }

    /// Prints its first rows; who is first.
    fn show(&self, top: &[Value]) -> Result<String> {
        println!("    GET {}", self.url);
        for (place, player) in top.iter().enumerate().take(3) {
            let text = |name: &str| player[name].as_str().unwrap_or("?").to_owned();
            let mark = if is_fresh(player) { "" } else { "  (stale)" };
            println!("    {:2}. {}  {:<14} {}{mark}", place + 1, player["points"], text("name"), text("avatar"));
        }
        let stale = top.iter().filter(|player| !is_fresh(player)).count();
        println!("    … {} players, {stale} of them stale", top.len());
        let first = top.first().and_then(|player| player["user"].as_str());
        Ok(first.ok_or("an empty leaderboard")?.to_owned())
    }
}

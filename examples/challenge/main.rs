//! Challenges whose participants are the app's own and whose names are another service's: `README.md` beside this file.
#![allow(unreachable_pub, reason = "in here `pub` is for the other modules of this one program")]

mod app;
#[path = "../stage/mod.rs"]
mod stage;

use std::process::ExitCode;

use app::App;
use reqwest::Method;
use serde_json::{Value, json};
use stage::{Result, Service, Stage, on, user_service};

/// Who takes part at first: six in one challenge, one in another.
const FIRST_PARTICIPANTS: &str = "
    INSERT INTO participants (challenge, user_id, joined)
    VALUES ('spring-run', 'u3', 1), ('spring-run', 'u14', 2), ('spring-run', 'u15', 3), ('spring-run', 'u92', 4),
        ('spring-run', 'u65', 5), ('spring-run', 'u35', 6), ('night-walk', 'u89', 1)";

fn main() -> ExitCode {
    stage::main(user_service::router, play)
}

async fn play(stage: &Stage) -> Result<Vec<Service>> {
    let mut users = stage.upstream().await?;
    app::migrate(&stage.database).await?;
    on!(&stage.database, pool => { sqlx::query(FIRST_PARTICIPANTS).execute(pool).await?; });
    let settings = [
        ("SOURCES__USERS__KEYS_FROM", r#"{ query = "SELECT DISTINCT user_id FROM participants", every = "1s" }"#),
        // The first wait after a failure; five seconds otherwise.
        ("SOURCES__USERS__BACKOFF_INITIAL", "1s"),
    ];
    println!("The user service answers on {}.", users.url("/users?ids=…"));
    println!(
        "Headpond copies whoever takes part in a challenge by headpond.toml, and, so that you need not wait, with"
    );
    let headpond = stage.headpond(include_str!("headpond.toml"), &users, &settings).await?;
    let app = App {
        database: stage.database.clone(),
        users: headpond.url("/v1/users"),
        client: reqwest::Client::builder().no_proxy().build()?,
    };
    let visitor = Visitor { stage, app: stage.serve(app::router(app)).await? };
    println!("The app answers on {}/getChallengeDetails.", visitor.app);

    println!(
        "\n1. Six take part. The app reads them from Headpond at once, and Headpond has asked for them at once.\n"
    );
    visitor.until_all_have_names().await?;
    visitor.show().await?;
    println!("\n    What the user service was asked for:");
    for line in users.said()?.lines() {
        println!("    {line}");
    }

    println!(
        "\n2. The user service is killed, and two more join: one who has a name here from another challenge, and one whose name"
    );
    println!("   has to wait.\n");
    println!("    {}", users.kill().await?);
    let url = users.url("/users?ids=u3");
    println!("    GET {url}: {}", stage.try_in_vain(&url).await?);
    visitor.join("u89").await?;
    visitor.join("u79").await?;
    visitor.show().await?;

    println!("\n3. It is started again. Headpond catches up by itself.\n");
    users.start().await?;
    visitor.until_all_have_names().await?;
    visitor.show().await?;
    Ok(vec![users, headpond])
}

/// Who asks the app.
struct Visitor<'s> {
    stage: &'s Stage,
    app: String,
}

impl Visitor<'_> {
    fn url(&self) -> String {
        format!("{}/getChallengeDetails?challenge=spring-run", self.app)
    }

    async fn participants(&self) -> Result<Vec<Value>> {
        let details = self.stage.json(&self.url()).await?;
        Ok(details.get("participants").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    async fn join(&self, user: &str) -> Result {
        let (url, join) = (format!("{}/joinChallenge", self.app), json!({ "challenge": "spring-run", "user": user }));
        println!("    POST {url} {join}");
        self.stage.send(Method::POST, &url, &join).await?;
        Ok(())
    }

    async fn until_all_have_names(&self) -> Result {
        let all = async || {
            let participants = self.participants().await?;
            Ok(participants.iter().all(|participant| participant["name"].is_string()).then_some(()))
        };
        self.stage.until("all names", all).await
    }

    async fn show(&self) -> Result {
        println!("    GET {}", self.url());
        for participant in self.participants().await? {
            println!("    {participant}");
        }
        Ok(())
    }
}

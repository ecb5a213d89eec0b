//! A backend that tells the weather of the hour, from forecasts that another service makes: `README.md` beside this file.
#![allow(unreachable_pub, reason = "in here `pub` is for the other modules of this one program")]
#![allow(clippy::disallowed_methods, reason = "the app and the weather service go by the clock on the wall")]

mod app;
#[path = "../stage/mod.rs"]
mod stage;
mod upstream;

use std::process::ExitCode;

use app::App;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use stage::{Result, Service, Stage};

fn main() -> ExitCode {
    stage::main(upstream::router, play)
}

async fn play(stage: &Stage) -> Result<Vec<Service>> {
    let mut weather = stage.upstream().await?;
    let settings = [
        // The first wait after a failure; five seconds otherwise.
        ("SOURCES__WEATHER__BACKOFF_INITIAL", "1s"),
    ];
    println!("The weather service answers on {}.", weather.url("/forecast/{city}"));
    println!(
        "Headpond copies its forecasts into the app's database by headpond.toml, and, so that you need not wait, with"
    );
    let headpond = stage.headpond(include_str!("headpond.toml"), &weather, &settings).await?;
    let app = App {
        database: stage.database.clone(),
        headpond: headpond.url("").parse()?,
        client: reqwest::Client::builder().no_proxy().build()?,
    };
    let visitor = Visitor { stage, app: stage.serve(app::router(app)).await?, now: Utc::now() };
    println!("The app answers on {}/weather/{{city}}.", visitor.app);

    println!("\n1. The cities that headpond.toml lists are there.\n");
    // Their table is opened a moment after they came.
    visitor.until_known("berlin").await?;
    visitor.until_known("prishtina").await?;
    visitor.ask("berlin", 0).await?;
    visitor.ask("prishtina", 0).await?;

    println!(
        "\n2. Another city is fetched when it is asked for first, and kept up to date from then on. One that the weather service"
    );
    println!("   does not know is a 404.\n");
    visitor.ask("tirana", 0).await?;
    visitor.ask("atlantis", 0).await?;

    println!(
        "\n3. The weather service is killed. As time goes on, the app tells the hour that it is, from the forecast that it has; a city"
    );
    println!("   that nobody ever asked for has to wait.\n");
    println!("    {}", weather.kill().await?);
    let url = weather.url("/forecast/berlin");
    println!("    GET {url}: {}", stage.try_in_vain(&url).await?);
    for hours in [0, 1, 5] {
        visitor.ask("berlin", hours).await?;
    }
    visitor.ask("tirana", 1).await?;
    visitor.ask("skopje", 0).await?;

    println!("\n4. It is started again. Headpond catches up by itself.\n");
    weather.start().await?;
    visitor.until_known("skopje").await?;
    visitor.ask("skopje", 0).await?;
    println!("\nWhat the weather service was asked for:\n");
    let said = weather.said()?;
    let mut asked: Vec<_> = said.lines().collect();
    asked.sort_unstable();
    for line in asked {
        println!("    {line}");
    }
    Ok(vec![weather, headpond])
}

/// Who asks the app.
struct Visitor<'s> {
    stage: &'s Stage,
    app: String,
    now: DateTime<Utc>,
}

impl Visitor<'_> {
    fn url(&self, city: &str, in_hours: i64) -> String {
        let at = (self.now + TimeDelta::hours(in_hours)).to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("{}/weather/{city}?at={at}", self.app)
    }

    /// Waits until the app tells the weather in a city.
    async fn until_known(&self, city: &str) -> Result {
        let (url, what) = (self.url(city, 0), format!("a forecast for {city}"));
        self.stage.until(&what, async || Ok(self.stage.get(&url).await?.status().is_success().then_some(()))).await
    }

    /// Asks for the weather in a city in so many hours, and prints what is answered.
    async fn ask(&self, city: &str, in_hours: i64) -> Result {
        let url = self.url(city, in_hours);
        let answer = self.stage.get(&url).await?;
        let status = answer.status();
        println!("    GET {url}\n    {} {}", status.as_u16(), answer.text().await?.trim_end());
        Ok(())
    }
}

//! Forecasts that move on with time: plausible weather, computed from a city, the time and dice.

use std::f64::consts::TAU;

use chrono::{DateTime, Datelike, DurationRound, TimeDelta, Timelike, Utc};
use serde::Serialize;

use super::cities::City;
use super::dice::Dice;
use super::edition::Edition;

/// A new forecast for a city comes every so many seconds; each city has a step of its own.
const STEP: (u32, u32) = (20, 60);
/// How many hours a forecast looks ahead.
const HOURS: i64 = 2;

/// What the upstream answers for a city.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    city: &'static str,
    country: &'static str,
    latitude: f64,
    longitude: f64,
    issued_at: DateTime<Utc>,
    now: Weather,
    hours: Vec<Hour>,
}

/// The weather at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Weather {
    /// °C.
    temperature: f64,
    /// m/s.
    wind: f64,
    /// mm/h.
    rain: f64,
}

/// The weather of one hour to come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Hour {
    from: DateTime<Utc>,
    #[serde(flatten)]
    weather: Weather,
}

/// Which forecast is the latest at `now`.
#[must_use]
pub fn edition(city: Dice, now: DateTime<Utc>) -> Edition {
    Edition::regular(city, STEP.0, STEP.1, now)
}

impl Forecast {
    /// The forecast of this edition.
    #[must_use]
    pub fn of(city: &'static City, edition: Edition) -> Self {
        let issued_at = edition.began;
        let first = issued_at.duration_trunc(TimeDelta::hours(1)).unwrap_or(issued_at);
        let hours = (1..=HOURS).map(|ahead| {
            let from = first + TimeDelta::hours(ahead);
            Hour { from, weather: Weather::at(city, from, edition.dice.of(ahead.unsigned_abs())) }
        });
        Self {
            city: city.name,
            country: city.country,
            latitude: city.latitude,
            longitude: city.longitude,
            issued_at,
            now: Weather::at(city, issued_at, edition.dice.of(0)),
            hours: hours.collect(),
        }
    }
}

impl Weather {
    /// By season, hour of the sun and chance.
    fn at(city: &City, at: DateTime<Utc>, dice: Dice) -> Self {
        let distance = city.latitude.abs();
        // 0 at the middle of the northern winter, 1 half a year later.
        let year = (f64::from(at.ordinal0()) - 20.0) / 365.25;
        let season = -(TAU * year).cos() * city.latitude.signum();
        // 0 at three in the afternoon by the sun.
        let day = (f64::from(at.hour()) + city.longitude / 15.0 - 15.0) / 24.0;
        let mean = 28.0 - 0.35 * distance + 0.25 * distance * season;
        let temperature = mean + 4.0 * (TAU * day).cos() + 3.0 * (dice.of(0).share() - 0.5);
        let rain = (dice.of(2).share() - 0.7).max(0.0) * 10.0;
        Self { temperature: tenths(temperature), wind: tenths(1.0 + 8.0 * dice.of(1).share()), rain: tenths(rain) }
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::upstream::cities::CITIES;

    fn temperature(name: &str, at: &str) -> f64 {
        let city = CITIES.iter().find(|city| city.name == name).unwrap();
        Weather::at(city, at.parse().unwrap(), Dice::new(1)).temperature
    }

    #[test]
    fn it_is_warmer_in_summer_by_day_and_near_the_equator() {
        let (january, july) = ("2026-01-20T13:00:00Z", "2026-07-20T13:00:00Z");
        assert!(temperature("Berlin", july) > temperature("Berlin", january) + 15.0);
        assert!(temperature("Melbourne", january) > temperature("Melbourne", july) + 10.0);
        assert!(temperature("Berlin", july) > temperature("Berlin", "2026-07-20T01:00:00Z"));
        assert!(temperature("Singapore", january) > temperature("Berlin", july));
    }

    #[test]
    fn a_forecast_looks_at_the_hours_that_come() {
        let edition = Edition { dice: Dice::new(1), began: "2026-07-20T13:59:30Z".parse().unwrap() };
        let forecast = Forecast::of(&CITIES[0], edition);
        let hours: Vec<u32> = forecast.hours.iter().map(|hour| hour.from.hour()).collect();
        assert_eq!(hours, [14, 15]);
    }
}

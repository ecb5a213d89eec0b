//! `preset` of an upstream: what a well-known API asks of its clients, as settings that hold where no others are written.

use std::time::Duration;

use chrono::Timelike;
use http::header;

use super::reader::{Reader, Spot};
use super::section::{Layers, Section};
use super::{Credentials, Source, settings as set};
use crate::domain::limit::Limits;
use crate::domain::policy::Policy;
use crate::domain::schedule::Cadence;
use crate::domain::time::later;

/// An API whose rules are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    /// <https://api.met.no/doc/TermsOfService>
    MetNorway,
    /// <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api>
    Github,
}

/// A preset where it is named.
pub(super) struct Applied<'a> {
    preset: Preset,
    at: Spot,
    /// What it stands for.
    pub(super) settings: Section<'a>,
}

/// MET Norway answers 403 to coordinates with more decimals. Limit and burst together are the 20 requests that no second may see.
const MET_NORWAY: &str = "
requests_per_second_limit = 16
burst = 4
coordinate_decimals = 4
early_refresh = false
";

/// Requests one after the other; resets are times; secondary limits are told by their text.
const GITHUB: &str = "
max_concurrent_requests = 1
allowance = { reset_is = \"epoch\" }
limit_phrases = [\"secondary rate limit\", \"abuse detection\", \"API rate limit exceeded\"]
";

/// The most requests in a second that MET Norway allows one application.
const MET_NORWAY_LIMIT: f64 = 20.0;
const MET_NORWAY_TERMS: &str = "https://api.met.no/doc/TermsOfService";

/// How many of a cron rule's times are looked at: those of a day, of a rule that has one in each minute.
const CRON_TIMES: usize = 24 * 60;
/// A rule on the hour with more jitter than this is not one on the hour.
const SPREAD: Duration = Duration::from_secs(5 * 60);

impl Preset {
    /// Each by its name in the configuration.
    pub(super) const ALL: [(&str, Self); 2] = [("met-norway", Self::MetNorway), ("github", Self::Github)];

    fn settings(self) -> &'static str {
        match self {
            Self::MetNorway => MET_NORWAY,
            Self::Github => GITHUB,
        }
    }
}

impl Applied<'_> {
    /// The preset of an upstream's table.
    pub(super) fn of(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Self> {
        let found = upstream.find(reader, &set::PRESET)?;
        let settings = Section::standing_for(upstream.scope, &found.at, found.value.settings());
        Some(Self { preset: found.value, at: found.at, settings })
    }

    /// Notes that nobody says who asks, where the API wants to know, and says whether that is so.
    pub(super) fn misses_identity(&self, reader: &mut Reader<'_>, source: &Spot) -> bool {
        if self.preset != Preset::MetNorway {
            return false;
        }
        let problem = format!(
            "user_agent is not set: MET Norway blocks clients that don't say who they are ({MET_NORWAY_TERMS})"
        );
        let remedy = format!(
            "write a name and a contact, like user_agent = {}, here, in its upstream or in [defaults]",
            set::USER_AGENT.kind.wants.example
        );
        reader.error(source, problem, remedy);
        true
    }

    /// Notes what of a source's schedule the API does not want.
    pub(super) fn check_source(&self, reader: &mut Reader<'_>, layers: &Layers<'_, '_>, policy: &Policy) {
        let Cadence::Cron(rule) = &policy.cadence else { return };
        let times = std::iter::successors(rule.next(reader.now), |time| rule.next(*time)).take(CRON_TIMES);
        let day = later(reader.now, Duration::from_secs(86_400));
        let is_on_the_hour = times.take_while(|time| *time < day).any(|time| time.minute() == 0)
            || rule.next(reader.now).is_some_and(|time| time.minute() == 0);
        let Some(cron) = layers.find(reader, &set::REFRESH_CRON) else { return };
        if self.preset == Preset::MetNorway && is_on_the_hour && policy.jitter < SPREAD {
            let problem =
                format!("asks on the hour, as everybody does, and MET Norway wants nobody to ({MET_NORWAY_TERMS})");
            reader.warn(
                &cron.at,
                problem,
                "choose another minute, like \"7 * * * *\", set jitter = \"10m\", or use refresh_every",
            );
        }
    }

    /// Notes what of an upstream's settings the API does not want.
    pub(super) fn check_upstream<'s>(
        &self,
        reader: &mut Reader<'_>,
        layers: &Layers<'_, '_>,
        limits: &Limits,
        (credentials, mut sources): (&Credentials, impl Iterator<Item = &'s Source>),
    ) {
        match self.preset {
            Preset::MetNorway => {
                let most = limits.requests_per_second.map(|rate| rate + f64::from(limits.burst));
                let Some(limit) = layers.find(reader, &set::REQUESTS_PER_SECOND_LIMIT) else { return };
                if most.is_some_and(|most| most > MET_NORWAY_LIMIT) {
                    let problem = format!(
                        "with a burst of {}, more than the {MET_NORWAY_LIMIT} requests a second that MET Norway allows an \
                         application ({MET_NORWAY_TERMS})",
                        limits.burst
                    );
                    reader.warn(&limit.at, problem, "lower it, or burst, unless you have an agreement with them");
                }
            }
            Preset::Github => {
                let has_token = !matches!(credentials, Credentials::None)
                    || sources.any(|source| source.request.headers.contains_key(header::AUTHORIZATION));
                if !has_token {
                    let problem = "without a token GitHub allows 60 requests an hour, and counts answers of 304 too \
                                   (https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api)";
                    reader.warn(&self.at, problem, "set auth = { bearer = \"${env:GITHUB_TOKEN}\" } in this table");
                }
            }
        }
    }
}

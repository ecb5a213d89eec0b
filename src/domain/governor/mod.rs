//! How an upstream stands with us: what it wants to be left alone with, and how fast it is asked.
//!
//! Each answer is a [`Signal`]; a [`Standing`] [heeds](Standing::heed) it, and says what [may](Standing::way) be asked for next.
//! It is stored beside the upstream's tokens, and read and written under the same lock, so that all processes share it.

mod pace;
mod pause;
mod signal;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use self::pace::Pace;
use super::budget::{Allowed, Budget, Purse};
use super::limit::Limits;
use super::resource::{LeaseToken, ResourceId};

pub use pause::{Cause, Covers, Pause, Probe, Way};
pub use signal::{Enough, Hearing, Later, PauseScope, Said, Signal, is_redirect};

/// How an upstream stands with us. Whatever was noted by a clock that was far ahead counts from now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// What must be left alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pauses: Vec<Pause>,
    /// `None` is the whole of the limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
    /// What is left of its budgets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    purses: Vec<Purse>,
}

/// A signal, with the request that it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The lease under which it was sent.
    pub lease: LeaseToken,
    /// What it asked for.
    pub resource: ResourceId,
    /// What was heard.
    pub signal: Signal,
}

/// Why something that is due is not asked for yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wait {
    /// Until when, at the earliest.
    pub until: DateTime<Utc>,
    /// What holds it up.
    pub why: Why,
}

/// What holds requests up, beside rate and concurrency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// The upstream wants to be left alone, or is asked just once to find out whether it still does.
    Pause(Pause),
    /// A budget has nothing left for now.
    Budget(Budget),
}

impl Why {
    /// The name used in JSON and in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pause(_) => "pause",
            Self::Budget(_) => "budget",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause(pause) => write!(f, "{} is left alone: {}", pause.covered(), pause.why()),
            Self::Budget(budget) => write!(f, "the budget of {budget} is spread over that time"),
        }
    }
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A pause has begun.
    Paused(Pause),
    /// The request after a pause was answered no better: there is another.
    Renewed(Pause),
    /// A pause is over.
    Over(Pause),
}

impl Standing {
    /// As it is stored; `None` is nothing to tell.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn read(stored: Option<&str>) -> Result<Self, String> {
        stored.map_or(Ok(Self::default()), |json| serde_json::from_str(json).map_err(|error| error.to_string()))
    }

    /// To be stored.
    #[must_use]
    pub fn json(&self) -> Option<String> {
        // Numbers, times and names can always be written.
        (*self != Self::default()).then(|| serde_json::to_string(self).unwrap_or_default())
    }

    /// The same as it is to be looked at now.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        for pause in &mut self.pauses {
            pause.clamp(now);
        }
        self.pauses.retain(|pause| !pause.is_forgotten(now));
        if let Some(pace) = &mut self.pace {
            pace.clamp(now);
        }
        for purse in &mut self.purses {
            purse.clamp(now);
        }
        self
    }

    /// How many requests its budgets pay for, up to `wanted`; nothing is paid.
    #[must_use]
    pub fn allows(&self, limits: &Limits, now: DateTime<Utc>, wanted: u32) -> Allowed {
        Purse::allow(&self.purses(limits, now), &limits.budgets, limits.send_window(), wanted)
    }

    /// Pays for so many requests.
    pub fn pay(&mut self, limits: &Limits, now: DateTime<Utc>, requests: u32) {
        self.purses = self.purses(limits, now);
        for purse in &mut self.purses {
            purse.pay(requests);
        }
    }

    /// What is left of each budget.
    #[must_use]
    pub fn purses(&self, limits: &Limits, now: DateTime<Utc>) -> Vec<Purse> {
        Purse::all(&self.purses, &limits.budgets, limits.send_window(), now)
    }

    /// What keeps one more request from being paid for.
    #[must_use]
    pub fn budget_wait(&self, limits: &Limits, now: DateTime<Utc>) -> Option<Wait> {
        let (budget, until) = self.allows(limits, now, 1).short?;
        Some(Wait { until, why: Why::Budget(budget) })
    }

    /// What must be left alone, or was and has not been asked since.
    #[must_use]
    pub fn pauses(&self) -> &[Pause] {
        &self.pauses
    }

    /// The share of its limits that the upstream is asked for, from 0.05 to 1.
    #[must_use]
    pub fn pace(&self) -> f64 {
        self.pace.map_or(1.0, Pace::share)
    }

    /// Until when nothing at all may be sent to the upstream.
    #[must_use]
    pub fn silent_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let pauses = self.pauses.iter().filter(|pause| pause.covers == Covers::Upstream);
        pauses.map(|pause| pause.until).filter(|until| now < *until).max()
    }

    /// Whether something of what a pause could cover may be asked for. `is_alive` says whether a lease still holds a probe.
    pub fn way(&self, covers: Covers, now: DateTime<Utc>, is_alive: impl Fn(&Probe) -> bool) -> Way {
        let pause = self.pauses.iter().find(|pause| pause.covers == covers);
        pause.map_or(Way::Open, |pause| pause.way(now, is_alive))
    }

    /// What keeps something that a pause could cover from being asked for.
    pub fn wait(&self, covers: Covers, now: DateTime<Utc>, is_alive: impl Fn(&Probe) -> bool) -> Option<Wait> {
        let pause = self.pauses.iter().find(|pause| pause.covers == covers)?;
        let Way::Shut(until) = pause.way(now, is_alive) else { return None };
        Some(Wait { until, why: Why::Pause(*pause) })
    }

    /// Notes that this is what finds out whether a pause is over.
    pub fn send_probe(&mut self, covers: Covers, probe: Probe) {
        for pause in self.pauses.iter_mut().filter(|pause| pause.covers == covers) {
            pause.probe = Some(probe);
        }
    }

    /// Takes in what was heard. Only what comes to a pause's own probe ends or renews that pause; all else can only make it
    /// longer.
    pub fn heed(&mut self, heard: &Heard, limits: &Limits, now: DateTime<Utc>) -> Vec<Turn> {
        let mut turns = self.heed_probe(heard, now);
        match heard.signal.said {
            Said::Nothing | Said::Silence => {}
            Said::Well => self.win_back(now),
            Said::Later(later) => {
                self.win_back(now);
                turns.extend(self.pause(Pause::asked(&heard.signal, later, now)));
            }
            Said::Enough(enough) => {
                let was_slowest = enough.covers != Covers::Upstream || limits.is_slowest_at(self.pace());
                if enough.covers == Covers::Upstream {
                    self.pace = Some(Pace::halved(self.pace, now));
                }
                if enough.until.is_some() || was_slowest {
                    turns.extend(self.pause(Pause::begun(&heard.signal, enough, now)));
                }
            }
        }
        turns
    }

    fn win_back(&mut self, now: DateTime<Utc>) {
        self.pace = self.pace.and_then(|pace| pace.won_back(now));
    }

    fn heed_probe(&mut self, heard: &Heard, now: DateTime<Utc>) -> Vec<Turn> {
        let (signal, mut turns) = (&heard.signal, Vec::new());
        let probed = |pause: &Pause| pause.is_probed_by(heard.lease, heard.resource);
        for pause in self.pauses.iter_mut().filter(|pause| probed(pause)) {
            match signal.said {
                // A failure of the one request, and a matter of its own backoff: it found out nothing.
                Said::Nothing | Said::Silence => pause.probe = None,
                // Another answer has made it longer meanwhile.
                Said::Well | Said::Later(_) if now < pause.until => pause.probe = None,
                Said::Well | Said::Later(_) => turns.push(Turn::Over(*pause)),
                Said::Enough(enough) => {
                    *pause = pause.renewed(signal, enough, now);
                    turns.push(Turn::Renewed(*pause));
                }
            }
        }
        self.pauses.retain(|pause| !probed(pause));
        turns
    }

    /// Begins a pause, or makes the one that is there longer.
    fn pause(&mut self, pause: Pause) -> Option<Turn> {
        if let Some(known) = self.pauses.iter_mut().find(|known| known.covers == pause.covers) {
            known.prolong(&pause);
            return None;
        }
        self.pauses.push(pause);
        Some(Turn::Paused(pause))
    }
}

#[cfg(test)]
mod tests;

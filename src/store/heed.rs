//! What a batch's answers make of their upstreams: whether they can be reached, and how they stand with us.

use chrono::{DateTime, Utc};

use super::StoreError;
use super::columns::{Cells, Record};
use super::plan::Reach;
use crate::domain::budget::Budgets;
use crate::domain::governor::{Covers, Heard, Standing, Turn, Wait, Way};
use crate::domain::limit::Limits;
use crate::domain::resource::{SourceId, UpstreamId};

/// What changed for upstreams.
pub(super) type Turns = Vec<(UpstreamId, Turn)>;

/// How an upstream stands, as it is stored; `None` is NULL, and nothing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note(pub(super) Option<String>);

impl Note {
    /// What is to be stored, if that is other than what is.
    pub(super) fn anew(&self, standing: &Standing) -> Option<Self> {
        let note = Self(standing.json());
        (note != *self).then_some(note)
    }
}

/// An upstream before the batch.
#[derive(Debug)]
pub(super) struct Known {
    /// How many answers in a row said "out of reach".
    outages: u32,
    limits: Limits,
    standing: Standing,
    /// The same as it is stored.
    noted: Note,
}

/// An upstream after the batch.
#[derive(Debug)]
pub(super) struct After {
    /// The reach of its answers, as far as it counts.
    pub(super) reach: Reach,
    /// How many answers in a row say "out of reach" now.
    pub(super) outages: u32,
    /// Whether that is another number than before.
    pub(super) counts: bool,
    /// Whether an outage has ended.
    pub(super) has_recovered: bool,
    /// How it stands now, if that is to be stored.
    pub(super) standing: Option<Note>,
    /// What is to be told.
    pub(super) turns: Vec<Turn>,
}

impl<R: Cells> Record<'_, R> {
    /// Of `upstream`: `budgets`.
    pub(super) fn budgets(&self) -> Result<Budgets, StoreError> {
        let stored = self.maybe_text("budgets")?;
        Budgets::read(stored.as_deref()).map_err(|problem| self.corrupt("budgets", problem))
    }

    /// Of `upstream`: `standing`, as it is stored, and what it says now. One that can't be read begins anew: it stops nobody.
    pub(super) fn standing(&self, now: DateTime<Utc>) -> Result<(Note, Standing), StoreError> {
        let stored = self.maybe_text("standing")?;
        let standing = Standing::read(stored.as_deref()).unwrap_or_else(|problem| {
            let error = self.corrupt("standing", problem);
            tracing::error!(%error, "what an upstream asked for is not known any more: its pauses and its pace begin anew");
            Standing::default()
        });
        Ok((Note(stored), standing.at(now)))
    }
}

impl Known {
    /// `requests_per_second, burst, max_concurrent, outages, standing, budgets` of `upstream`.
    pub(super) fn read<R: Cells>(record: &Record<'_, R>, now: DateTime<Utc>) -> Result<Self, StoreError> {
        let (noted, standing) = record.standing(now)?;
        Ok(Self { outages: record.count("outages")?, limits: record.limits()?, standing, noted })
    }

    /// What its answers make of it. While it wants to be left alone, an answer that it can be reached again ends no outage: what
    /// waits for that would be due at once.
    pub(super) fn after(&self, reach: Reach, heard: &[Heard], now: DateTime<Utc>) -> After {
        let mut standing = self.standing.clone();
        let turns = heard.iter().flat_map(|heard| standing.heed(heard, &self.limits, now)).collect();
        let is_paused = standing.way(Covers::Upstream, now, |_| true) != Way::Open;
        let reach = if is_paused && reach.ends_outage(self.outages) { Reach::default() } else { reach };
        let outages = reach.outages(self.outages);
        After {
            reach,
            outages,
            counts: outages != self.outages,
            has_recovered: reach.ends_outage(self.outages),
            standing: self.noted.anew(&standing),
            turns,
        }
    }

    /// How it stands, as it is stored.
    pub(super) fn noted(&self) -> &Note {
        &self.noted
    }

    /// How many answers in a row say "out of reach" once an outage has ended and so many are tried again.
    pub(super) fn outages_left(&self, after: &After, retried: u64) -> u32 {
        after.reach.outages_left(self.outages, retried)
    }
}

impl After {
    /// Whether the upstream's row is to be written.
    pub(super) fn is_news(&self) -> bool {
        self.counts || self.has_recovered || self.standing.is_some()
    }

    /// Whether more may be asked for than before.
    pub(super) fn opens(&self) -> bool {
        self.turns.iter().any(|turn| matches!(turn, Turn::Over(_)))
    }
}

/// What keeps due resources of a source from being asked for: as for [`pause`], and the limits of its upstream.
pub(super) fn wait<R: Cells>(row: &R, now: DateTime<Utc>) -> Result<Option<Wait>, StoreError> {
    let upstream = Record::identified_by(row, "upstream", "id")?;
    let budget = upstream.standing(now)?.1.budget_wait(&upstream.limits()?, now);
    Ok(pause(row, now)?.into_iter().chain(budget).max_by_key(|wait| wait.until))
}

/// The pause that due resources of a source wait for: `id, standing` of its upstream, and its own id in `source_id`. A budget
/// is none: what a reader waits for goes before all else that waits for it.
pub(super) fn pause<R: Cells>(row: &R, now: DateTime<Utc>) -> Result<Option<Wait>, StoreError> {
    let upstream = Record::identified_by(row, "upstream", "id")?;
    let (_, standing) = upstream.standing(now)?;
    let covers = [Covers::Upstream, Covers::Source(SourceId(upstream.integer("source_id")?))];
    // A lost probe is no obstacle; for all that a look like this one can tell, it lives until its lease ends.
    let waits = covers.into_iter().filter_map(|covers| standing.wait(covers, now, |probe| now < probe.ends_at));
    Ok(waits.max_by_key(|wait| wait.until))
}

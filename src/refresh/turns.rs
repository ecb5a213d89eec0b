//! What an operator hears of an upstream that wants to be left alone: a line when it begins, goes on, and is over.

use chrono::TimeDelta;

use crate::config::Source;
use crate::domain::governor::{Cause, Pause, Turn};
use crate::store::Claim;
use crate::telemetry::metrics;

/// Logs and counts a turn that an answer to this claim brought.
pub(super) fn tell(turn: &Turn, source: &Source, claim: &Claim) {
    let (upstream, name) = (&source.upstream, &source.name);
    match turn {
        Turn::Paused(pause) if is_a_matter_of_course(pause) => {
            metrics::paused(upstream);
            tracing::debug!(
                upstream, source = %name, key = %claim.key, until = %pause.until, why = %pause.why(),
                "{} is left alone for a moment", pause.covered()
            );
        }
        Turn::Over(pause) if is_a_matter_of_course(pause) => {
            tracing::debug!(upstream, source = %name, key = %claim.key, "{} may be asked again", pause.covered());
        }
        Turn::Paused(pause) => {
            metrics::paused(upstream);
            tracing::info!(
                upstream, source = %name, key = %claim.key, until = %pause.until, why = %pause.why(),
                "{} is left alone", pause.covered()
            );
        }
        Turn::Renewed(pause) => {
            metrics::paused(upstream);
            tracing::info!(
                upstream, source = %name, key = %claim.key, until = %pause.until, why = %pause.why(),
                "{} is left alone for longer: the request that asked after it was answered no better", pause.covered()
            );
        }
        Turn::Over(pause) => {
            tracing::info!(
                upstream, source = %name, key = %claim.key, since = %pause.since,
                "{} may be asked again", pause.covered()
            );
        }
    }
}

/// Whether it is a small allowance that is spent again and again, and soon there is more.
fn is_a_matter_of_course(pause: &Pause) -> bool {
    pause.cause == Cause::Allowance && pause.until - pause.since < TimeDelta::minutes(1)
}

/// Whether it was this claim's answer that brought the turn.
pub(super) fn is_of(turn: &Turn, claim: &Claim) -> bool {
    match turn {
        Turn::Paused(pause) | Turn::Renewed(pause) => pause.source == claim.source,
        Turn::Over(pause) => pause.is_probed_by(claim.token, claim.resource),
    }
}

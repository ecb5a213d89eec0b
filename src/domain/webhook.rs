//! Webhooks: what is signed, and what an endpoint's answer means for what is sent next.
//!
//! The changes of one resource are sent in their order, each until it is taken, and at least once. Of what fails, the resource
//! steps aside with all that comes after, and waits longer each time; the others go on. Where several fail in a row, the
//! endpoint is taken to be out of reach, and left alone as a whole: then one message finds out whether it is back.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ring::hmac;

use super::time::{earlier, later};

/// The wait after a first failure.
const FIRST: Duration = Duration::from_secs(5);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(3600);
/// After so many failures in a row, all of the endpoint is left alone.
const OUTAGE: u32 = 3;

/// A signing secret of the Standard Webhooks specification: `whsec_` and 24 to 64 bytes in base64.
#[derive(Debug, Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let encoded = text.strip_prefix("whsec_").ok_or("it does not begin with `whsec_`")?;
        let bytes = STANDARD.decode(encoded).map_err(|_| "what follows `whsec_` is not base64")?;
        if !(24..=64).contains(&bytes.len()) {
            return Err("it has less than 24 or more than 64 bytes");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The `webhook-signature` of a message.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }
}

/// How an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It took the message.
    Taken,
    /// It wants no more of them (410).
    Unsubscribed,
    /// It did not take it.
    Refused {
        /// Why, for a person.
        why: String,
        /// Until when it wants to be left alone.
        retry_at: Option<DateTime<Utc>>,
    },
}

/// How a message fares that is not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// How often it was sent.
    pub count: u32,
    /// When that first failed.
    pub since: DateTime<Utc>,
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The message is delivered.
    Delivered,
    /// It is sent again.
    Again {
        /// How it fares now.
        attempts: Attempts,
        /// When it is sent again, at the earliest.
        at: DateTime<Utc>,
        /// Failures of the endpoint in a row.
        failures: u32,
        /// Until when nothing is sent there.
        paused_until: Option<DateTime<Utc>>,
        /// What was wrong.
        why: String,
    },
    /// Nothing is sent there any more.
    Dead {
        /// How it fares now.
        attempts: Attempts,
        /// Why.
        why: String,
    },
}

/// Decides. `before` is how the message fared, `failures` how many of the endpoint came in a row; `random` is from 0 to 1.
#[must_use]
pub fn judge(
    answer: Answer,
    before: Option<Attempts>,
    failures: u32,
    give_up_after: Duration,
    (now, random): (DateTime<Utc>, f64),
) -> Verdict {
    let attempts = Attempts {
        count: before.map_or(0, |before| before.count).saturating_add(1),
        since: before.map_or(now, |before| before.since),
    };
    let (why, retry_at) = match answer {
        Answer::Taken => return Verdict::Delivered,
        Answer::Unsubscribed => {
            return Verdict::Dead { attempts, why: "the endpoint answered 410: it wants no more".into() };
        }
        Answer::Refused { why, retry_at } => (why, retry_at),
    };
    if attempts.since <= earlier(now, give_up_after) {
        let why = format!("given up after {} attempts: {why}", attempts.count);
        return Verdict::Dead { attempts, why };
    }
    let failures = failures.saturating_add(1);
    let outage = (failures >= OUTAGE).then(|| later(now, wait(failures - OUTAGE + 1, random)));
    let at = later(now, wait(attempts.count, random)).max(retry_at.unwrap_or(now));
    Verdict::Again { attempts, at, failures, paused_until: outage.max(retry_at), why }
}

/// The wait after so many failures: double each time, and up to a fifth shorter, so that not all come at once.
fn wait(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(LONGEST).mul_f64(1.0 - random.clamp(0.0, 1.0) / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn refused(retry_at: Option<DateTime<Utc>>) -> Answer {
        Answer::Refused { why: "503".into(), retry_at }
    }

    #[test]
    fn the_specification_s_own_example_is_signed_as_it_says() {
        // https://github.com/standard-webhooks/standard-webhooks, the test vectors of its libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = r#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(!format!("{secret:?}").contains("MfKQ"), "{secret:?}");
        for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_%", "whsec_c2hvcnQ="] {
            assert!(Secret::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        let seconds: Vec<_> = [1, 2, 3, 10, 11, 99].map(|n| wait(n, 0.0).as_secs()).into();
        assert_eq!(seconds, [5, 10, 20, 2560, 3600, 3600]);
        assert_eq!(wait(1, 1.0), Duration::from_secs(4));
    }

    #[test]
    fn one_that_fails_steps_aside_and_several_in_a_row_are_an_outage() {
        let now = DateTime::UNIX_EPOCH;
        let again = |failures| judge(refused(None), None, failures, DAY, (now, 0.0));
        for (failures, paused) in [(0, None), (1, None), (2, Some(5)), (3, Some(10))] {
            let Verdict::Again { at, paused_until, failures: after, attempts, .. } = again(failures) else { panic!() };
            assert_eq!((at, after, attempts.count), (later(now, FIRST), failures + 1, 1));
            assert_eq!(paused_until, paused.map(|seconds| later(now, Duration::from_secs(seconds))), "{failures}");
        }
    }

    #[test]
    fn retry_after_is_heeded_and_nothing_is_tried_for_ever() {
        let now = DateTime::UNIX_EPOCH + DAY;
        let retry_at = Some(now + DAY);
        let Verdict::Again { at, paused_until, .. } = judge(refused(retry_at), None, 0, DAY, (now, 0.0)) else {
            panic!()
        };
        assert_eq!((at, paused_until), (now + DAY, retry_at));
        for (since, is_dead) in [(now - DAY, true), (now - DAY + FIRST, false)] {
            let before = Some(Attempts { count: 7, since });
            let verdict = judge(refused(None), before, 0, DAY, (now, 0.0));
            assert_eq!(matches!(verdict, Verdict::Dead { .. }), is_dead, "{verdict:?}");
        }
        assert!(matches!(judge(Answer::Unsubscribed, None, 0, DAY, (now, 0.0)), Verdict::Dead { .. }));
        assert_eq!(judge(Answer::Taken, None, 9, DAY, (now, 0.0)), Verdict::Delivered);
    }
}

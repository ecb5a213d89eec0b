//! When a member changed last, as an upstream writes it, and the time from which on it is asked for changes.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::time::earlier;

/// A time as the upstream writes it: RFC 3339, or seconds or milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    at: DateTime<Utc>,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Rfc3339,
    Seconds,
    Milliseconds,
}

/// Numbers from here on are milliseconds: as seconds they would be after the year 5000, as milliseconds they are after 1973.
const FIRST_MILLISECONDS: f64 = 1e11;

impl Stamp {
    /// Reads one; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Some(Self { at: at.with_timezone(&Utc), form: Form::Rfc3339 });
        }
        let number: f64 = text.parse().ok().filter(|number: &f64| (0.0..1e15).contains(number))?;
        let (form, micros) = if number < FIRST_MILLISECONDS {
            (Form::Seconds, number * 1e6)
        } else {
            (Form::Milliseconds, number * 1e3)
        };
        #[expect(clippy::cast_possible_truncation, reason = "less than 2^63, as was checked")]
        let at = DateTime::from_timestamp_micros(micros as i64)?;
        Some(Self { at, form })
    }

    /// So much earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self { at: earlier(self.at, span), ..self }
    }
}

impl fmt::Display for Stamp {
    /// In whole seconds or milliseconds, rounded down: rather asked for once too often.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Rfc3339 => {
                let second = DateTime::from_timestamp(self.at.timestamp(), 0).unwrap_or(self.at);
                f.write_str(&second.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Form::Seconds => write!(f, "{}", self.at.timestamp()),
            Form::Milliseconds => write!(f, "{}", self.at.timestamp_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minus(text: &str, seconds: u64) -> Option<String> {
        Stamp::parse(text).map(|stamp| stamp.minus(Duration::from_secs(seconds)).to_string())
    }

    #[test]
    fn a_time_is_written_as_it_was_and_rounded_down() {
        for (text, seconds, expected) in [
            ("2026-03-01T12:00:00Z", 0, "2026-03-01T12:00:00Z"),
            ("2026-03-01T12:00:00.999999Z", 60, "2026-03-01T11:59:00Z"),
            ("2026-03-01T12:00:00+02:00", 0, "2026-03-01T10:00:00Z"),
            ("1800000000", 60, "1799999940"),
            ("1800000000.75", 0, "1800000000"),
            ("1800000000123", 1, "1799999999123"),
        ] {
            assert_eq!(minus(text, seconds).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "yesterday", "2026-03-01", "-1", "NaN", "inf", "1e300"] {
            assert_eq!(minus(text, 0), None, "{text}");
        }
    }

    #[test]
    fn the_later_one_is_greater() {
        let stamp = |text| Stamp::parse(text).unwrap();
        assert!(stamp("2026-03-01T12:00:00+02:00") < stamp("2026-03-01T11:00:00Z"));
        assert!(stamp("9") < stamp("10"));
    }
}

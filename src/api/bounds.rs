//! What a request's Cache-Control asks of the copy that it is answered with (RFC 9111 §5.2.1).

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, header};

use crate::domain::decision::Freshness;
use crate::domain::directive::directives;

/// The directives that we know. Others are ignored, and so are arguments that are no number of seconds (§5.2.3); of one that
/// is given twice the stricter counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The copy's age is at most this, and without [`max_stale`](Self::max_stale) it is not stale.
    pub max_age: Option<Duration>,
    /// The copy stays fresh for at least this.
    pub min_fresh: Option<Duration>,
    /// The copy has been stale for at most this. Without it, a stale copy will do, unless `max_age` is there: to answer with
    /// the last good copy is what we are for.
    pub max_stale: Option<Duration>,
    /// The copy was confirmed for this request.
    pub no_cache: bool,
    /// No request may be made or waited for.
    pub only_if_cached: bool,
}

/// A bound that a copy does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// It is older than `max-age` allows.
    MaxAge(Duration),
    /// It is stale, and there is `max-age` without `max-stale`.
    Fresh,
    /// It does not stay fresh for as long as `min-fresh` asks.
    MinFresh(Duration),
    /// It has been stale for longer than `max-stale` allows.
    MaxStale(Duration),
    /// It was not confirmed for this request, and there is `no-cache`.
    NoCache,
    /// There is none, and there is `only-if-cached`.
    OnlyIfCached,
}

impl Bounds {
    /// Reads a request's Cache-Control; without one, its Pragma (§5.4).
    #[must_use]
    pub fn of(request: &HeaderMap) -> Self {
        let name = if request.contains_key(header::CACHE_CONTROL) { header::CACHE_CONTROL } else { header::PRAGMA };
        let mut bounds = Self::default();
        for value in request.get_all(&name) {
            // Bytes that are not text spoil the directive that they are in, and no other.
            let value = String::from_utf8_lossy(value.as_bytes());
            for directive in directives(&value) {
                match directive.name.to_ascii_lowercase().as_str() {
                    "no-cache" => bounds.no_cache = true,
                    _ if name == header::PRAGMA => {}
                    "max-age" => bounds.max_age = least(bounds.max_age, directive.seconds()),
                    "min-fresh" => bounds.min_fresh = bounds.min_fresh.max(directive.seconds()),
                    "max-stale" if directive.argument.is_none() => {
                        // However stale: any number is stricter.
                        bounds.max_stale = least(bounds.max_stale, Some(Duration::MAX));
                    }
                    "max-stale" => bounds.max_stale = least(bounds.max_stale, directive.seconds()),
                    "only-if-cached" => bounds.only_if_cached = true,
                    _ => {}
                }
            }
        }
        bounds
    }

    /// Whether they say anything about the copy.
    #[must_use]
    pub fn are_some(&self) -> bool {
        Self { only_if_cached: false, ..*self } != Self::default()
    }

    /// The first bound that a copy of this freshness does not keep at `now`. `is_confirmed`: it was fetched for this request.
    #[must_use]
    pub fn broken_by(&self, freshness: Freshness, is_confirmed: bool, now: DateTime<Utc>) -> Option<Bound> {
        let Freshness { fetched_at, stale_after } = freshness;
        // In whole seconds, like the Age that the client is told.
        let age = whole_seconds(now - fetched_at);
        let is_stale = now >= stale_after;
        let max_age = self.max_age.filter(|most| age > *most).map(Bound::MaxAge);
        let fresh = (is_stale && self.max_age.is_some() && self.max_stale.is_none()).then_some(Bound::Fresh);
        let min_fresh = self.min_fresh.filter(|least| is_stale || whole_seconds(stale_after - now) < *least);
        let max_stale = self.max_stale.filter(|most| is_stale && whole_seconds(now - stale_after) > *most);
        let no_cache = (self.no_cache && !is_confirmed).then_some(Bound::NoCache);
        no_cache.or(max_age).or(fresh).or(min_fresh.map(Bound::MinFresh)).or(max_stale.map(Bound::MaxStale))
    }
}

/// The smaller of what is there.
fn least(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// Rounded down; zero for what is negative, as when another node's clock is ahead.
fn whole_seconds(span: TimeDelta) -> Duration {
    Duration::from_secs(span.to_std().unwrap_or_default().as_secs())
}

impl Bound {
    /// What is wrong with the copy, without a full stop.
    #[must_use]
    pub fn complaint(&self) -> String {
        match self {
            Self::MaxAge(most) => format!("The copy is older than {} s", most.as_secs()),
            Self::Fresh => "The copy is stale, and `max-age` without `max-stale` asks for a fresh one".into(),
            Self::MinFresh(least) => format!("The copy does not stay fresh for another {} s", least.as_secs()),
            Self::MaxStale(most) => format!("The copy has been stale for longer than {} s", most.as_secs()),
            Self::NoCache => "The upstream has not confirmed the copy for this request".into(),
            Self::OnlyIfCached => "There is no copy yet".into(),
        }
    }
}

/// As a request spells it.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxAge(most) => write!(f, "max-age={}", most.as_secs()),
            Self::Fresh => write!(f, "max-age"),
            Self::MinFresh(least) => write!(f, "min-fresh={}", least.as_secs()),
            Self::MaxStale(most) => write!(f, "max-stale={}", most.as_secs()),
            Self::NoCache => write!(f, "no-cache"),
            Self::OnlyIfCached => write!(f, "only-if-cached"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn of(lines: &[(HeaderName, &[u8])]) -> Bounds {
        let line = |(name, value): &(HeaderName, &[u8])| (name.clone(), HeaderValue::from_bytes(value).unwrap());
        Bounds::of(&lines.iter().map(line).collect::<HeaderMap>())
    }

    fn max_age(seconds: u64) -> Bounds {
        Bounds { max_age: Some(Duration::from_secs(seconds)), ..Bounds::default() }
    }

    #[test]
    fn what_is_unknown_or_wrong_is_ignored_and_the_stricter_of_two_counts() {
        let nothing = Bounds::default();
        let no_cache = Bounds { no_cache: true, ..nothing };
        let min_fresh = |n| Bounds { min_fresh: max_age(n).max_age, ..nothing };
        let max_stale = |n| Bounds { max_stale: max_age(n).max_age, ..nothing };
        let anyhow = Bounds { max_stale: Some(Duration::MAX), ..nothing };
        for (value, expected) in [
            (&b"max-age=60"[..], max_age(60)),
            (b"Max-Age=\"60\"", max_age(60)),
            (b"max-age = 60", max_age(60)),
            (b"max-age=60, max-age=5, max-age=600", max_age(5)),
            (b"max-age=x, max-age=60, max-age=-1", max_age(60)),
            (b"max-age=99999999999999999999999999", max_age(1 << 31)),
            (b"min-fresh=5, min-fresh=60", min_fresh(60)),
            (b"max-stale", anyhow),
            (b"max-stale=60", max_stale(60)),
            (b"max-stale, max-stale=60", max_stale(60)),
            (b"max-stale=60, max-stale", max_stale(60)),
            (b"no-cache", no_cache),
            (b"NO-CACHE", no_cache),
            (b"only-if-cached", Bounds { only_if_cached: true, ..nothing }),
            (b"no-store, no-transform, stale-if-error=5, immutable", nothing),
            (b"x=\"\xff\xfe, no-store\", no-cache", no_cache),
            (b"no-cache\xff, max-age=60", max_age(60)),
            (b"x=\"no-cache, max-age=0", nothing),
            (b"max-age, max-age=, max-age=1.5, max-age=+1, max-age=\"\"", nothing),
            (b"max-stale=, max-stale=soon", nothing),
            (b"=,=5,;max-age=1,,", nothing),
            (b"", nothing),
        ] {
            assert_eq!(of(&[(header::CACHE_CONTROL, value)]), expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn several_lines_are_one_list_and_pragma_counts_only_without_them() {
        let both = Bounds { no_cache: true, ..max_age(5) };
        let (control, pragma) = (header::CACHE_CONTROL, header::PRAGMA);
        assert_eq!(of(&[(control.clone(), b"no-cache"), (control.clone(), b"max-age=5")]), both);
        let no_cache = Bounds { no_cache: true, ..Bounds::default() };
        assert_eq!(of(&[(pragma.clone(), b"x, No-Cache, max-age=5")]), no_cache);
        assert_eq!(of(&[(pragma, b"no-cache"), (control, b"")]), Bounds::default());
        assert!(no_cache.are_some());
        assert!(!Bounds { only_if_cached: true, ..Bounds::default() }.are_some());
    }

    #[test]
    fn a_copy_keeps_a_bound_up_to_its_last_second() {
        use Bound::{Fresh, MaxAge, MaxStale, MinFresh, NoCache};
        let n = Duration::from_secs;
        let at = |milliseconds: i64| DateTime::from_timestamp_millis(1_800_000_000_000 + milliseconds).unwrap();
        // Fetched at 0, stale after 100 s.
        let freshness = Freshness { fetched_at: at(0), stale_after: at(100_000) };
        for (value, now, expected) in [
            ("max-age=60", 60_999, None),
            ("max-age=60", 61_000, Some(MaxAge(n(60)))),
            ("max-age=0", 999, None),
            ("max-age=0", 1_000, Some(MaxAge(n(0)))),
            ("max-age=500", 99_999, None),
            ("max-age=500", 100_000, Some(Fresh)),
            ("max-age=500, max-stale", 400_000, None),
            ("max-age=500, max-stale", 501_000, Some(MaxAge(n(500)))),
            ("max-age=500, max-stale=60", 161_000, Some(MaxStale(n(60)))),
            ("min-fresh=40", 60_000, None),
            ("min-fresh=40", 60_001, Some(MinFresh(n(40)))),
            ("min-fresh=0", 99_999, None),
            ("min-fresh=0", 100_000, Some(MinFresh(n(0)))),
            ("min-fresh=0, max-stale", 100_000, Some(MinFresh(n(0)))),
            ("max-stale=60", 0, None),
            ("max-stale=60", 160_999, None),
            ("max-stale=60", 161_000, Some(MaxStale(n(60)))),
            ("max-stale", 900_000, None),
            ("only-if-cached", 900_000, None),
            ("no-cache", 0, Some(NoCache)),
            ("", 900_000, None),
            // Fetched by a node whose clock is ahead.
            ("max-age=0", -5_000, None),
        ] {
            let bounds = of(&[(header::CACHE_CONTROL, value.as_bytes())]);
            assert_eq!(bounds.broken_by(freshness, false, at(now)), expected, "{value} at {now}");
        }
        let no_cache = of(&[(header::CACHE_CONTROL, b"no-cache")]);
        assert_eq!(no_cache.broken_by(freshness, true, at(900_000)), None, "it was confirmed");
    }
}

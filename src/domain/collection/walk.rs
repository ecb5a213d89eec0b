//! One walk: where it is, where it goes next, and what it has learned.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use url::Url;

use super::{BadStep, Collection, Page, Stamp, Step};
use crate::domain::schedule::has_lasted;
use crate::domain::snapshot::ContentHash;
use crate::domain::validators::Validators;

/// A walk that was broken off goes on from where it was for at least so long.
const GOES_ON_FOR: Duration = Duration::from_secs(600);

/// What a walk looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All members. When it is complete, those that it did not see are missing.
    All,
    /// Those that have changed since a time.
    Changes,
}

impl Kind {
    /// The number by which it is stored.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::All => 1,
            Self::Changes => 2,
        }
    }

    /// The kind of that number.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::All, Self::Changes].into_iter().find(|kind| kind.code() == code)
    }
}

/// What is known of a collection's walks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The number of the last one that began.
    pub number: i64,
    /// How far that has come, if it has not ended.
    pub under_way: Option<UnderWay>,
    /// From which time on changes are asked for; nothing before it is missing.
    pub since: Option<String>,
    /// When the last walk of all members began that was complete.
    pub swept_at: Option<DateTime<Utc>>,
    /// How many members that walk missed and left as they were, since they were too many.
    pub held: u64,
    /// Pages that the walk under way has been on.
    pub been_on: Vec<(Option<Step>, ContentHash)>,
}

/// How far a walk has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// What it looks at.
    pub kind: Kind,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// How many pages it has been on.
    pub pages: u32,
    /// What leads on from there; `None` when it has been on the last one.
    pub next: Option<Step>,
    /// The latest change that it saw.
    pub newest: Option<Stamp>,
    /// What was left out, if anything was.
    pub left_out: Option<String>,
}

/// A page as an earlier walk of all members found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What led to it.
    pub step: Option<Step>,
    /// What it came with.
    pub validators: Validators,
    /// What led on from it.
    pub next: Option<Step>,
    /// Hash of its items.
    pub hash: ContentHash,
}

/// What follows a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Another page, or that was the last.
    On(UnderWay),
    /// The walk has gone wrong, and is over.
    Wrong(BadStep),
}

/// A walk.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    collection: &'a Collection,
    base: Url,
    /// Its number.
    pub number: i64,
    /// From which time on changes are asked for, if they are.
    pub since: Option<String>,
    /// How far it has come.
    pub under_way: UnderWay,
    steps: HashSet<Option<Step>>,
    hashes: HashSet<ContentHash>,
}

impl<'a> Walk<'a> {
    /// Goes on with the walk that is under way, if it may, or begins another. `base` is the source's URL, `interval` the time
    /// between walks.
    ///
    /// What is older than an interval is not gone on with: else a page that fails again and again would keep those before it
    /// from being looked at.
    #[must_use]
    pub fn begin(collection: &'a Collection, base: Url, known: &Known, now: DateTime<Utc>, interval: Duration) -> Self {
        let may_go_on = |under_way: &UnderWay| {
            let is_recent = !has_lasted(under_way.began_at, now, interval.max(GOES_ON_FOR));
            let is_over = under_way.pages > 0 && under_way.next.is_none();
            let as_configured = under_way.kind == Kind::All || collection.changes.is_some();
            is_recent && as_configured && (is_over || collection.paginate.can_go_on())
        };
        let since_of = |kind: Kind| known.since.clone().filter(|_| kind == Kind::Changes);
        if let Some(under_way) = known.under_way.clone().filter(may_go_on) {
            let (steps, hashes) = known.been_on.iter().cloned().unzip();
            let since = since_of(under_way.kind);
            return Self { collection, base, number: known.number, since, under_way, steps, hashes };
        }
        let kind = kind_of_next(collection, known, now);
        let under_way = UnderWay { kind, began_at: now, pages: 0, next: None, newest: None, left_out: None };
        let (since, number) = (since_of(kind), known.number.saturating_add(1));
        Self { collection, base, number, since, under_way, steps: HashSet::new(), hashes: HashSet::new() }
    }

    /// Whether it has been on the last page.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.under_way.pages > 0 && self.under_way.next.is_none()
    }

    /// What leads to the page that it is to look at now; `None` is the first.
    #[must_use]
    pub fn step(&self) -> Option<&Step> {
        self.under_way.next.as_ref()
    }

    /// Where that page is.
    #[must_use]
    pub fn url(&self) -> Url {
        self.collection.url(&self.base, self.since.as_deref(), self.step())
    }

    /// Whether an earlier walk was there in the same way, so that its validators may be sent.
    #[must_use]
    pub fn knows(&self, remembered: &Remembered) -> bool {
        self.under_way.kind == Kind::All && remembered.step.as_ref() == self.step()
    }

    /// What follows this page, which is to be stored then.
    #[must_use]
    pub fn after(&self, page: &Page) -> Turn {
        let next = self.collection.next(&self.base, &self.url(), self.step(), page);
        let is_repeated = page.size > 0 && self.hashes.contains(&page.hash);
        match next {
            _ if is_repeated => Turn::Wrong(BadStep::Repeated),
            Ok(next) => self.on(next, page.newest, page.left_out.as_ref()),
            Err(wrong) => Turn::Wrong(wrong),
        }
    }

    /// What follows this page, which is as it was.
    #[must_use]
    pub fn after_same(&self, remembered: &Remembered) -> Turn {
        self.on(remembered.next.clone(), None, None)
    }

    fn on(&self, next: Option<Step>, newest: Option<Stamp>, left_out: Option<&String>) -> Turn {
        let UnderWay { kind, began_at, pages, newest: before, left_out: earlier, .. } = self.under_way.clone();
        let pages = pages.saturating_add(1);
        if next.is_some() {
            if self.steps.contains(&next) || next.as_ref() == self.step() {
                return Turn::Wrong(BadStep::Back);
            }
            if pages >= self.collection.max_pages {
                return Turn::Wrong(BadStep::TooMany(self.collection.max_pages));
            }
        }
        let left_out = earlier.or_else(|| left_out.map(|what| format!("page {pages}: {what}")));
        Turn::On(UnderWay { kind, began_at, pages, next, newest: before.max(newest), left_out })
    }

    /// Goes there.
    pub fn go(&mut self, on: UnderWay, hash: ContentHash) {
        self.steps.insert(self.under_way.next.take());
        self.hashes.insert(hash);
        self.under_way = on;
    }

    /// From which time on to ask for changes after this walk, which has been on all its pages by now.
    ///
    /// Not from the latest change that it saw: a member on an early page may have changed before that one and after its page
    /// was read, by as much as the walk took. `overlap` is on top of that, for clocks of an upstream that differ and for what
    /// it commits later than it is dated. It never goes back: what is before it has been seen.
    #[must_use]
    pub fn since_now(&self, known: Option<&str>, now: DateTime<Utc>) -> Option<String> {
        let changes = self.collection.changes.as_ref()?;
        let took = (now - self.under_way.began_at).max(TimeDelta::zero()).to_std().unwrap_or_default();
        let seen = self.under_way.newest.map(|newest| newest.minus(took.saturating_add(changes.overlap)));
        let known = known.and_then(Stamp::parse);
        seen.max(known).map(|since| since.to_string())
    }
}

fn kind_of_next(collection: &Collection, known: &Known, now: DateTime<Utc>) -> Kind {
    let Some(changes) = &collection.changes else { return Kind::All };
    let is_swept = known.swept_at.is_some_and(|at| !has_lasted(at, now, changes.sweep_every));
    if is_swept && known.since.is_some() { Kind::Changes } else { Kind::All }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::collection::{ChangesSince, Paginate};
    use crate::domain::json_path::JsonPath;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn path(path: &str) -> JsonPath {
        JsonPath::new(path).unwrap()
    }

    fn collection(paginate: Paginate) -> Collection {
        let changes = ChangesSince {
            param: "since".into(),
            path: path("$.at"),
            overlap: Duration::from_secs(60),
            sweep_every: 24 * HOUR,
        };
        Collection {
            items: path("$[*]"),
            key: path("$.id"),
            paginate,
            max_pages: 3,
            changes: Some(changes),
            gone_after: 1,
        }
    }

    fn cursors() -> Collection {
        collection(Paginate::Cursor { param: "c".into(), next: path("$.n"), more: None })
    }

    fn begin<'a>(collection: &'a Collection, known: &Known, now: DateTime<Utc>) -> Walk<'a> {
        Walk::begin(collection, "http://api.example/u".parse().unwrap(), known, now, HOUR)
    }

    fn page(hash: u8, next: Option<&str>) -> Page {
        Page {
            items: Vec::new(),
            size: 1,
            left_out: None,
            newest: None,
            next: next.map(str::to_owned),
            is_last: false,
            last: None,
            hash: ContentHash([hash; 16]),
        }
    }

    fn swept(since: Option<&str>, seconds: i64) -> Known {
        Known { number: 4, since: since.map(str::to_owned), swept_at: Some(at(seconds)), ..Known::default() }
    }

    #[test]
    fn all_members_are_walked_first_and_once_in_a_while_and_else_what_has_changed() {
        let collection = cursors();
        for (known, seconds, kind) in [
            (Known::default(), 0, Kind::All),
            (swept(Some("1800000000"), 0), 3600, Kind::Changes),
            (swept(Some("1800000000"), 0), 24 * 3600, Kind::All),
            (swept(None, 0), 3600, Kind::All),
        ] {
            let walk = begin(&collection, &known, at(seconds));
            assert_eq!(walk.under_way.kind, kind, "{known:?}");
            assert_eq!(walk.number, known.number + 1);
            assert_eq!(walk.url().query().is_some(), kind == Kind::Changes, "{}", walk.url());
        }
        let without = Collection { changes: None, ..cursors() };
        assert_eq!(begin(&without, &swept(Some("1800000000"), 0), at(60)).under_way.kind, Kind::All);
    }

    #[test]
    fn a_walk_that_was_broken_off_goes_on_where_that_is_safe() {
        let under_way = UnderWay {
            kind: Kind::All,
            began_at: at(0),
            pages: 2,
            next: Some(Step("b".into())),
            newest: None,
            left_out: None,
        };
        let known = Known { number: 4, under_way: Some(under_way.clone()), ..Known::default() };
        let numbers = collection(Paginate::PageNumber { param: "page".into(), first: 1, size: None, last: None });
        for (collection, seconds, number) in [(&cursors(), 60, 4), (&cursors(), 3600, 5), (&numbers, 60, 5)] {
            let walk = begin(collection, &known, at(seconds));
            assert_eq!((walk.number, walk.under_way.pages), (number, if number == 4 { 2 } else { 0 }));
        }
        // It had been everywhere: nothing can have moved.
        let over = Known { under_way: Some(UnderWay { next: None, ..under_way }), ..known };
        assert!(begin(&numbers, &over, at(60)).is_over());
    }

    #[test]
    fn a_walk_goes_from_page_to_page_and_never_back() {
        let collection = cursors();
        let mut walk = begin(&collection, &Known::default(), at(0));
        for (hash, next) in [(1, "a"), (2, "b")] {
            let page = page(hash, Some(next));
            let Turn::On(on) = walk.after(&page) else { panic!("{next}") };
            walk.go(on, page.hash);
            assert_eq!(walk.url().query(), Some(&*format!("c={next}")));
        }
        for (page, wrong) in [
            (page(3, Some("b")), BadStep::Back),
            (page(3, Some("a")), BadStep::Back),
            (page(3, Some("c")), BadStep::TooMany(3)),
            (page(1, None), BadStep::Repeated),
        ] {
            assert_eq!(walk.after(&page), Turn::Wrong(wrong));
        }
        let Turn::On(on) = walk.after(&page(3, None)) else { panic!() };
        walk.go(on, ContentHash([3; 16]));
        assert!(walk.is_over());
    }

    #[test]
    fn changes_are_asked_for_from_before_all_that_this_walk_may_have_missed() {
        let collection = cursors();
        let mut walk = begin(&collection, &Known::default(), at(0));
        assert_eq!(walk.since_now(None, at(10)), None);
        assert_eq!(walk.since_now(Some("5"), at(10)).as_deref(), Some("5"));
        walk.under_way.newest = Stamp::parse("1800001000");
        // A minute of overlap, and ten seconds that it took.
        assert_eq!(walk.since_now(Some("5"), at(10)).as_deref(), Some("1800000930"));
        assert_eq!(walk.since_now(Some("1800000999"), at(10)).as_deref(), Some("1800000999"), "it never goes back");
    }
}

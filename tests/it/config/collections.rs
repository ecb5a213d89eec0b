//! Collections, and what they can't be combined with.

use std::time::Duration;

use headpond::domain::collection::Paginate;

use super::{errors as all_errors, source as first_source, warnings};

/// A collection on this machine, to put settings behind.
const COLLECTION: &str = "[sources.s]\nkind = 'collection'\nurl = 'http://localhost/users'\nitems = '$.data[*]'\n\
                          item_key = '$.id'\nrefresh_every = '1h'\n";

#[test]
fn each_way_to_paginate_is_read() {
    for (written, page_numbers) in [
        ("", false),
        ("paginate = { by = 'link_header' }", false),
        ("paginate = { by = 'json_link', next = '$.next', max_pages = 7 }", false),
        ("paginate = { by = 'cursor', param = 'c', next = '$.next', more = '$.more' }", false),
        ("paginate = { by = 'page_number', param = 'p', first = 0, size = 10, last = '$.pages' }", true),
    ] {
        let collection = first_source(&format!("{COLLECTION}{written}")).collection.unwrap();
        assert_eq!(matches!(collection.paginate, Paginate::PageNumber { .. }), page_numbers, "{written}");
        assert_eq!(collection.gone_after, if page_numbers { 2 } else { 1 }, "{written}");
    }
    let said = first_source(&format!("{COLLECTION}gone_after = 5")).collection.unwrap();
    assert_eq!(said.gone_after, 5);
    assert_eq!(warnings(COLLECTION), "", "it needs no keys");
}

#[test]
fn changes_are_asked_for_with_an_overlap_and_a_sweep() {
    let since = "updated_since = { param = 'since', path = '$.at' }";
    let changes = first_source(&format!("{COLLECTION}{since}")).collection.unwrap().changes.clone().unwrap();
    assert_eq!((changes.overlap, changes.sweep_every), (Duration::from_secs(300), Duration::from_secs(86_400)));
    let own = "updated_since = { param = 'since', path = '$.at', overlap = '1m' }\nsweep_every = '2h'";
    let changes = first_source(&format!("{COLLECTION}{own}")).collection.unwrap().changes.clone().unwrap();
    assert_eq!((changes.overlap, changes.sweep_every), (Duration::from_secs(60), Duration::from_secs(7200)));
    let short = warnings(&format!("{COLLECTION}{own}\nstale_after = '90m'"));
    assert!(short.contains("shorter than sweep_every (2h)"), "{short}");
}

#[test]
fn what_does_not_fit_a_collection_is_told_with_its_place() {
    for (more, at, said) in [
        ("keys = ['a']", "s.keys", "the keys of a collection are those that the upstream lists"),
        ("keys_from = { file = 'a.txt' }", "s.keys_from", "the keys of a collection are those that the upstream lists"),
        ("method = 'POST'", "s.method", "asked for by GET"),
        ("method = 'POST'\nbody = 'x'", "s.body", "asked for by GET"),
        ("content = 'text'", "s.content", "the pages of a collection are JSON"),
        ("cache_control = 'respect'", "s.cache_control", "single resources"),
        ("paginate = { by = 'magic' }", "s.paginate", "no such way to paginate"),
        ("paginate = { next = '$.n' }", "s.paginate", "by is not set"),
        ("paginate = { by = 'cursor', param = 'c' }", "s.paginate", "next is not set"),
        ("paginate = { by = 'link_header', param = 'c' }", "s.paginate.param", "no such setting"),
        ("paginate = { by = 'page_number', param = 'p', first = 2 }", "s.paginate.first", "0 or 1"),
        ("paginate = { by = 'link_header', max_pages = 0 }", "s.paginate.max_pages", "at least 1"),
        ("sweep_every = '1d'", "s.sweep_every", "no meaning without updated_since"),
        ("updated_since = { param = 's' }", "s.updated_since", "path is not set"),
        (
            "updated_since = { param = 's', path = '$.a' }\nsweep_every = '1m'",
            "s.sweep_every",
            "shorter than the interval",
        ),
    ] {
        let errors = all_errors(&format!("{COLLECTION}{more}"));
        assert!(errors.contains(said) && errors.contains(at), "{more}: {errors}");
    }
    let errors = all_errors(&COLLECTION.replace("/users", "/users/{key}"));
    assert!(errors.contains("{key}") && errors.contains("asked for as a whole"), "{errors}");
    let errors = all_errors("[sources.s]\nkind = 'collection'\nurl = 'http://localhost/users'\nrefresh_every = '1h'");
    assert!(errors.contains("items is not set") && errors.contains("item_key is not set"), "all at once: {errors}");
}

#[test]
fn settings_of_collections_have_no_meaning_elsewhere() {
    for setting in ["paginate = { by = 'link_header' }", "sweep_every = '1d'", "item_key = '$.id'", "items = '$.a[*]'"]
    {
        let errors = all_errors(&format!("{}\n{setting}", super::SOURCE_BY_THE_HOUR));
        assert!(errors.contains("for collections alone"), "{setting}: {errors}");
    }
    let errors = all_errors(&format!("{}\nkind = 'collections'", super::SOURCE_BY_THE_HOUR));
    assert!(errors.contains("did you mean \"collection\"?"), "{errors}");
}

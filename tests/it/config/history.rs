//! `history` of a source.

use std::time::Duration;

use headpond::domain::history::History;

use super::{SOURCE_BY_THE_HOUR, said_of, source};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn replaced_contents_are_kept_where_the_source_says_how_many() {
    assert_eq!(source(SOURCE_BY_THE_HOUR).history, None);
    for (written, versions, keep) in
        [("{ versions = 3, keep = '2d' }", 3, 2 * DAY), ("{ versions = 1000 }", 1000, 30 * DAY)]
    {
        let toml = format!("{SOURCE_BY_THE_HOUR}\nhistory = {written}");
        assert_eq!(source(&toml).history, Some(History { versions, keep }));
    }
}

#[test]
fn each_thing_that_is_wrong_with_a_history_is_said() {
    for (written, said) in [
        ("{ keep = '2d' }", "sources.s.history: versions is not set"),
        ("{ versions = 0 }", "not a whole number from 1 to 1000"),
        ("{ versions = 1001 }", "1001 are more than are kept of one resource"),
        ("{ versions = 3, keep = '0s' }", "must be more than zero"),
        ("{ versions = 3, kep = '1d' }", "did you mean `keep`?"),
        ("true", "a table that says how many replaced contents are kept"),
    ] {
        let all = said_of(&format!("refresh_every = '1h'\nhistory = {written}"));
        assert!(all.contains(said), "{written}: {all}");
    }
}

#[test]
fn what_is_gone_is_kept_or_erased() {
    assert!(!source(SOURCE_BY_THE_HOUR).erase_gone);
    for (written, erase_gone) in [("keep", false), ("erase", true)] {
        assert_eq!(source(&format!("{SOURCE_BY_THE_HOUR}\non_gone = '{written}'")).erase_gone, erase_gone);
    }
    let wrong = said_of("refresh_every = '1h'\non_gone = 'erse'");
    assert!(wrong.contains("did you mean \"erase\"?"), "{wrong}");
}

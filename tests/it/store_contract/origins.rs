//! Where keys come from, and what follows when they leave there.

use std::time::Duration;

use headpond::domain::origin::Hand;
use headpond::domain::resource::{Key, Params, SourceId, SourceName};
use headpond::domain::schedule::Because;
use headpond::store::{
    Authority, KeyQuery, KeysChanged, KnownOrigin, OriginId, OriginSpec, Removed, Round, Seen, SelectedRow, StoreError,
};
use tokio::sync::mpsc;

use crate::support::outcomes::{HOUR, content};
use crate::support::store::{TestStore, UNLIMITED, is_rejected, key, keys_of, on_each_database};

on_each_database! {
    a_key_is_polled_while_one_origin_has_it,
    the_first_origin_says_the_parameters,
    an_origin_that_says_the_same_writes_nothing,
    a_later_round_makes_an_earlier_one_void,
    what_is_there_twice_counts_once,
    an_origin_keeps_its_keys_and_its_mark,
    at_another_place_an_origin_is_read_again,
    origins_that_there_are_no_longer_are_found_and_forgotten,
    keys_are_removed_by_hand_where_hands_added_them,
    keys_are_listed_with_their_origins,
    problems_are_told_until_they_have_passed,
    a_source_waits_for_each_of_its_origins_before_it_is_ready,
    a_dropped_source_forgets_where_its_keys_came_from,
    what_is_pruned_leaves_its_origins,
    a_query_is_told_row_by_row,
    a_query_of_a_million_rows_waits_for_its_reader,
    the_end_of_the_feed_is_where_news_begins,
    a_source_is_found_by_its_name,
    keys_from_before_origins_are_the_configurations,
}

/// How long a query may take: no test is about that, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(600);

fn params(value: &str) -> Params {
    Params::from([("lat".into(), value.into())])
}

fn entries(names: &[&str], params: &Params) -> Vec<(Key, Params)> {
    names.iter().map(|name| (key(name), params.clone())).collect()
}

fn spec(name: &str, place: i64) -> OriginSpec {
    OriginSpec { name: name.into(), place, about: format!("about {name}") }
}

async fn origins(test: &TestStore, source: SourceId, names: &[&str]) -> Vec<KnownOrigin> {
    let specs: Vec<_> = names.iter().zip(10..).map(|(name, place)| spec(name, place)).collect();
    test.store.origins(source, &specs).await.unwrap()
}

/// Reads an origin as a whole: it has these keys and no others.
async fn read(test: &TestStore, origin: OriginId, keys: &[(Key, Params)]) -> (KeysChanged, u64) {
    let round = test.store.begin_round(origin).await.unwrap();
    let mut seen = Seen::default();
    let put = test.store.put_keys(round, &seen, keys).await.unwrap();
    seen.note(&put.resources);
    let retired = drop_unseen(test, round, &seen).await;
    test.store.end_round(round, "a mark").await.unwrap();
    (put.changed, retired)
}

async fn drop_unseen(test: &TestStore, round: Round, seen: &Seen) -> u64 {
    let (mut after, mut retired) = (None, 0);
    loop {
        let page = test.store.listed(round.origin, after, 2).await.unwrap();
        let Some(last) = page.last() else { return retired };
        after = Some(*last);
        let gone: Vec<_> = page.iter().copied().filter(|id| !seen.has(*id)).collect();
        retired += test.store.drop_keys(round, &gone).await.unwrap();
    }
}

async fn polled(test: &TestStore, source: SourceId) -> Vec<String> {
    let keys = test.store.keys(source, None, 1000).await.unwrap();
    keys.into_iter().map(|listed| format!("{} {}", listed.key, listed.origins.join("+"))).collect()
}

async fn counts(test: &TestStore) -> (u64, Vec<(String, u64)>) {
    let source = test.store.status(test.now()).await.unwrap().sources.remove(0);
    (source.counts.keys, source.origins.into_iter().map(|origin| (origin.name, origin.keys)).collect())
}

async fn a_key_is_polled_while_one_origin_has_it(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    test.store.add_keys(weather.source, &entries(&["a", "b"], &Params::new()), Authority::Owns).await.unwrap();
    let known = origins(test, weather.source, &["file", "query"]).await;
    let none = Params::new();
    let (changed, _) = read(test, known[0].id, &entries(&["b", "c", "d"], &none)).await;
    assert_eq!(changed, KeysChanged { added: 2, ..Default::default() });
    read(test, known[1].id, &entries(&["d"], &none)).await;
    assert_eq!(polled(test, weather.source).await, ["a config", "b config+file", "c file", "d file+query"]);
    let by_origin = [("config", 2), ("file", 3), ("query", 1)].map(|(name, keys)| (name.to_owned(), keys));
    assert_eq!(counts(test).await, (4, by_origin.into()));
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;

    let (changed, retired) = read(test, known[0].id, &entries(&["e"], &none)).await;
    assert_eq!((changed.added, retired), (1, 1), "c alone has no origin any more");
    assert_eq!(polled(test, weather.source).await, ["a config", "b config", "d query", "e file"]);
    assert_eq!(counts(test).await.0, 4);
    let retired = test.current("weather", "c").await;
    assert!(retired.due.is_none() && retired.content.is_some());
    test.clock.advance(2 * HOUR);
    let mut claims = test.claim(weather.upstream).await;
    claims.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(keys_of(&claims), ["a", "b", "d", "e"]);

    // It comes back with all that was known of it.
    let (changed, _) = read(test, known[1].id, &entries(&["c"], &none)).await;
    assert_eq!(changed, KeysChanged { revived: 1, ..Default::default() });
    let current = test.current("weather", "c").await;
    assert_eq!((current.due.unwrap().at, current.version), (test.now(), 1));
    assert!(current.validators.etag.is_some());
}

async fn the_first_origin_says_the_parameters(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let known = origins(test, weather.source, &["file", "query"]).await;
    read(test, known[1].id, &entries(&["a"], &params("2"))).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    test.clock.advance(Duration::from_secs(1));

    let (changed, _) = read(test, known[0].id, &entries(&["a"], &params("1"))).await;
    assert_eq!(changed, KeysChanged { updated: 1, ..Default::default() });
    let claim = test.claim_one(weather.upstream).await;
    assert_eq!((&claim.params, claim.due.because, claim.previous.validators()), (&params("1"), Because::Manual, None));
    test.settle(&claim, content("B", &[])).await;

    let (changed, _) = read(test, known[1].id, &entries(&["a"], &params("3"))).await;
    assert_eq!(changed, KeysChanged::default(), "it is not the first to say");
    assert!(test.claim(weather.upstream).await.is_empty());

    test.clock.advance(Duration::from_secs(1));
    let (_, retired) = read(test, known[0].id, &[]).await;
    assert_eq!(retired, 0);
    assert_eq!(test.claim_one(weather.upstream).await.params, params("3"), "what the one that is left says holds now");
}

async fn an_origin_that_says_the_same_writes_nothing(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let known = origins(test, weather.source, &["file"]).await;
    let keys = entries(&["a", "b"], &params("1"));
    read(test, known[0].id, &keys).await;
    for table in ["resource", "schedule", "key_origin"] {
        test.refuse(table, "true").await;
    }
    assert_eq!(read(test, known[0].id, &keys).await, (KeysChanged::default(), 0));
}

async fn a_later_round_makes_an_earlier_one_void(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let file = origins(test, weather.source, &["file"]).await[0].id;
    let early = test.store.begin_round(file).await.unwrap();
    test.store.put_keys(early, &Seen::default(), &entries(&["a"], &Params::new())).await.unwrap();
    let late = test.another().await.begin_round(file).await.unwrap();
    let put = test.store.put_keys(early, &Seen::default(), &entries(&["b"], &Params::new())).await;
    assert!(is_rejected(&put), "{put:?}");
    let listed = test.store.listed(file, None, 10).await.unwrap();
    assert!(is_rejected(&test.store.drop_keys(early, &listed).await));
    assert!(is_rejected(&test.store.end_round(early, "early").await));
    assert!(is_rejected(&test.store.forget_origin(early).await));
    assert_eq!(polled(test, weather.source).await, ["a file"]);
    test.store.end_round(late, "late").await.unwrap();
    assert_eq!(origins(test, weather.source, &["file"]).await[0].mark.as_deref(), Some("late"));
    assert!(is_rejected(&test.store.begin_round(OriginId(-1)).await));
}

async fn what_is_there_twice_counts_once(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let file = origins(test, weather.source, &["file"]).await[0].id;
    let round = test.store.begin_round(file).await.unwrap();
    let mut seen = Seen::default();
    let twice = [entries(&["a"], &params("1")), entries(&["a"], &params("2")), entries(&["b"], &params("1"))].concat();
    let put = test.store.put_keys(round, &seen, &twice).await.unwrap();
    assert_eq!((put.changed.added, put.duplicates, put.resources.len()), (2, 1, 2));
    seen.note(&put.resources);
    assert_eq!(seen.count(), 2);
    let put = test.store.put_keys(round, &seen, &entries(&["a", "c"], &params("3"))).await.unwrap();
    assert_eq!((put.changed, put.duplicates), (KeysChanged { added: 1, ..Default::default() }, 1));
    let claims = test.claim(weather.upstream).await;
    assert_eq!(
        claims.iter().map(|claim| &claim.params).collect::<Vec<_>>(),
        [&params("1"), &params("1"), &params("3")]
    );
}

async fn an_origin_keeps_its_keys_and_its_mark(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let before = origins(test, weather.source, &["file"]).await;
    assert_eq!((&before[0].mark, before[0].synced_at), (&None, None));
    read(test, before[0].id, &entries(&["a"], &Params::new())).await;
    let after = origins(test, weather.source, &["file", "query"]).await;
    assert_eq!(after[0], KnownOrigin { mark: Some("a mark".into()), synced_at: Some(test.now()), ..before[0] });
    let elsewhere = test.source("users", UNLIMITED).await;
    assert_ne!(origins(test, elsewhere.source, &["file"]).await[0].id, before[0].id);
    let round = test.store.begin_round(before[0].id).await.unwrap();
    assert_eq!(origins(test, weather.source, &["file"]).await[0].mark, None, "who breaks off here begins again");
    test.store.end_round(round, "another").await.unwrap();

    // Whoever adds to the configuration's list from outside makes its owner look again.
    let config = test.store.origins(weather.source, &[spec("config", 0)]).await.unwrap()[0].id;
    test.store.end_round(test.store.begin_round(config).await.unwrap(), "as listed").await.unwrap();
    let mark = async || test.store.origins(weather.source, &[spec("config", 0)]).await.unwrap()[0].mark.clone();
    test.store.add_keys(weather.source, &entries(&["a"], &Params::new()), Authority::Adds).await.unwrap();
    assert_eq!(mark().await.as_deref(), Some("as listed"));
    test.store.add_keys(weather.source, &entries(&["new"], &Params::new()), Authority::Adds).await.unwrap();
    assert_eq!(mark().await, None);
}

async fn at_another_place_an_origin_is_read_again(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let file = origins(test, weather.source, &["file"]).await[0].id;
    read(test, file, &entries(&["a"], &Params::new())).await;
    let known = test.store.origins(weather.source, &[spec("file", 11)]).await.unwrap();
    assert_eq!((known[0].id, &known[0].mark), (file, &None));
}

async fn origins_that_there_are_no_longer_are_found_and_forgotten(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let known = origins(test, weather.source, &["file", "query"]).await;
    test.store.add_by_hand(weather.source, Hand::Cli, &entries(&["mine"], &Params::new())).await.unwrap();
    read(test, known[1].id, &entries(&["a"], &Params::new())).await;
    let others = test.store.other_origins(weather.source, &[known[0].id]).await.unwrap();
    assert_eq!(others, [known[1].id], "hands are no one's to forget");
    let round = test.store.begin_round(others[0]).await.unwrap();
    test.store.forget_origin(round).await.unwrap();
    assert_eq!(test.store.other_origins(weather.source, &[known[0].id]).await.unwrap(), others, "it has keys");
    drop_unseen(test, round, &Seen::default()).await;
    test.store.forget_origin(round).await.unwrap();
    assert_eq!(test.store.other_origins(weather.source, &[known[0].id]).await.unwrap(), []);
    assert_eq!(polled(test, weather.source).await, ["mine cli"]);
}

async fn keys_are_removed_by_hand_where_hands_added_them(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let none = Params::new();
    let changed = test.store.add_by_hand(weather.source, Hand::Api, &entries(&["a", "k0"], &none)).await.unwrap();
    assert_eq!(changed, KeysChanged { added: 1, ..Default::default() });
    test.store.add_by_hand(weather.source, Hand::Cli, &entries(&["a"], &none)).await.unwrap();
    let removed = test.store.remove_keys(weather.source, &["a", "k0", "k1", "x"].map(key)).await.unwrap();
    let config = || vec!["config".to_owned()];
    let expected = [Removed::Retired, Removed::StillIn(config()), Removed::OnlyIn(config()), Removed::Unknown];
    assert_eq!(removed, expected);
    assert_eq!(polled(test, weather.source).await, ["k0 config", "k1 config"]);
    assert_eq!(test.store.remove_keys(weather.source, &[key("a")]).await.unwrap(), [Removed::Unknown]);
    let nowhere = SourceId(-1);
    assert!(is_rejected(&test.store.add_by_hand(nowhere, Hand::Api, &entries(&["a"], &none)).await));
    assert!(is_rejected(&test.store.add_keys(nowhere, &entries(&["a"], &none), Authority::Owns).await));
}

async fn keys_are_listed_with_their_origins(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    test.store.add_by_hand(weather.source, Hand::Api, &entries(&["b", "ä", "a"], &params("1"))).await.unwrap();
    let page = test.store.keys(weather.source, None, 2).await.unwrap();
    assert_eq!(page.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((&page[0].params, &page[0].origins[..]), (&params("1"), &["api".to_owned()][..]));
    let rest = test.store.keys(weather.source, Some(&page[1].key), 2).await.unwrap();
    assert_eq!(rest.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), ["ä"]);
    test.store.remove_keys(weather.source, &[key("ä")]).await.unwrap();
    assert!(test.store.keys(weather.source, Some(&page[1].key), 2).await.unwrap().is_empty());
}

async fn problems_are_told_until_they_have_passed(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let file = origins(test, weather.source, &["file"]).await[0].id;
    let told = async || test.store.status(test.now()).await.unwrap().sources[0].origins[0].problem.clone();
    test.store.note_problem(file, Some("it is gone")).await.unwrap();
    assert_eq!(told().await, Some(("it is gone".into(), test.now())));
    test.store.note_problem(file, None).await.unwrap();
    assert_eq!(told().await, None);
    test.store.note_problem(file, Some("again")).await.unwrap();
    read(test, file, &[]).await;
    assert_eq!(told().await, None);
}

async fn a_source_waits_for_each_of_its_origins_before_it_is_ready(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    assert!(test.store.is_ready().await.unwrap());
    let file = origins(test, weather.source, &["file"]).await[0].id;
    assert!(!test.store.is_ready().await.unwrap(), "nobody knows its keys yet");
    read(test, file, &entries(&["a"], &Params::new())).await;
    assert!(!test.store.is_ready().await.unwrap());
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert!(test.store.is_ready().await.unwrap());
    origins(test, weather.source, &["file", "query"]).await;
    assert!(test.store.is_ready().await.unwrap(), "once it was, it stays so");
}

async fn a_dropped_source_forgets_where_its_keys_came_from(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let file = origins(test, weather.source, &["file"]).await[0].id;
    read(test, file, &entries(&["a", "k0"], &Params::new())).await;
    assert_eq!(test.store.retire_sources_except(&[]).await.unwrap(), 2);
    assert_eq!(counts(test).await, (0, Vec::new()));
    assert_eq!(test.number("SELECT count(*) FROM {key_origin}").await, 0);
    assert_eq!(test.add(weather, 1).await, KeysChanged { revived: 1, ..Default::default() });
}

async fn what_is_pruned_leaves_its_origins(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let file = origins(test, weather.source, &["file"]).await[0].id;
    read(test, file, &entries(&["a", "b"], &Params::new())).await;
    read(test, file, &entries(&["b"], &Params::new())).await;
    test.clock.advance(HOUR);
    let rules = headpond::store::PruneRules { now: test.now(), retired: HOUR, changes: HOUR, applied: HOUR };
    test.store.prune(&rules).await.unwrap();
    assert_eq!(test.number("SELECT count(*) FROM {resource}").await, 1);
    assert_eq!(polled(test, weather.source).await, ["b file"]);
}

/// What a query finds.
async fn select(test: &TestStore, sql: &str) -> Result<Vec<SelectedRow>, StoreError> {
    let query = KeyQuery { sql: sql.into(), timeout: PATIENCE };
    let (rows, mut found) = mpsc::channel(1);
    let all = async {
        let mut all = Vec::new();
        while let Some(some) = found.recv().await {
            all.extend(some);
        }
        all
    };
    let (selected, all) = tokio::join!(test.store.select_keys(&query, rows), all);
    selected.map(|()| all)
}

fn row(key: Option<&str>, params: &[(&str, Option<&str>)]) -> SelectedRow {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
    SelectedRow { key: key.map(str::to_owned), params: params.collect() }
}

async fn a_query_is_told_row_by_row(test: &TestStore) {
    let found = select(test, "SELECT 'a' AS z, 1.5 AS lat, NULL AS y, 7 AS b UNION ALL SELECT NULL, 2, 'x', 8;").await;
    let first = row(Some("a"), &[("lat", Some("1.5")), ("y", None), ("b", Some("7"))]);
    let found = found.unwrap();
    assert_eq!(found[0], first);
    assert_eq!((&found[1].key, &found[1].params[1].1), (&None, &Some("x".into())));
    let found = select(test, "SELECT 1 AS lat, 9007199254740993 AS key -- as it is").await.unwrap();
    assert_eq!(found, [row(Some("9007199254740993"), &[("lat", Some("1"))])]);
    assert_eq!(select(test, "SELECT 1 AS key WHERE 1 = 2").await.unwrap(), []);
    let wrong = select(test, "SELECT x FROM nowhere").await;
    assert!(matches!(&wrong, Err(StoreError::Rejected(said)) if said.contains("nowhere")), "{wrong:?}");
    // The next ones are none the worse for it.
    assert_eq!(select(test, "SELECT 'a' AS key").await.unwrap(), [row(Some("a"), &[])]);
}

async fn a_query_of_a_million_rows_waits_for_its_reader(test: &TestStore) {
    let sql =
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000000) SELECT n AS key FROM n";
    assert_eq!(select(test, sql).await.unwrap().len(), 1_000_000);
    // Who has enough goes away, and the query ends.
    let query = KeyQuery { sql: sql.into(), timeout: PATIENCE };
    let (rows, mut found) = mpsc::channel(1);
    let one = async move { found.recv().await.map(|some: Vec<SelectedRow>| some.len()) };
    let (selected, some) = tokio::join!(test.store.select_keys(&query, rows), one);
    assert!(selected.is_ok() && some.unwrap() > 0);
}

async fn the_end_of_the_feed_is_where_news_begins(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let news = async |since| match test.store.changes(Some(since), 10).await.unwrap() {
        headpond::store::Changes::Page { changes, .. } => changes.len(),
        headpond::store::Changes::Unknown => panic!("the end is known"),
    };
    let beginning = test.store.feed_end().await.unwrap();
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[])).await;
    let end = test.store.feed_end().await.unwrap();
    assert_eq!((news(beginning).await, news(end).await), (1, 0));
    test.settle(&test.claim_one(weather.upstream).await, content("B", &[])).await;
    assert_eq!((news(beginning).await, news(end).await), (2, 1));
}

async fn a_source_is_found_by_its_name(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let name = |name| SourceName::new(name).unwrap();
    assert_eq!(test.store.source(&name("weather")).await.unwrap(), Some(weather.source));
    assert_eq!(test.store.source(&name("nothing")).await.unwrap(), None);
}

async fn keys_from_before_origins_are_the_configurations(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.retire_keys_except(weather.source, &["k0", "k1"].map(key).into()).await.unwrap();
    test.store.close().await;
    for sql in [
        "DROP TABLE {key_origin}",
        "DROP TABLE {origin}",
        "DELETE FROM {migration} WHERE version = 8",
        "UPDATE {meta} SET value = '1' WHERE name = 'needs_format'",
    ] {
        test.execute(sql).await.unwrap();
    }
    let store = test.another().await;
    let keys = store.keys(weather.source, None, 10).await.unwrap();
    let keys: Vec<_> = keys.iter().map(|listed| (listed.key.as_str(), listed.origins.join("+"))).collect();
    assert_eq!(keys, [("k0", "config".to_owned()), ("k1", "config".to_owned())]);
    let status = store.status(test.now()).await.unwrap();
    assert_eq!((status.sources[0].counts.keys, status.sources[0].origins[0].keys), (2, 2));
    let known = store.origins(weather.source, &[spec("config", 0)]).await.unwrap();
    assert_eq!(known[0].mark, None, "it is compared with the configuration once");
    let same = store.add_keys(weather.source, &entries(&["k0", "k1"], &Params::new()), Authority::Owns).await.unwrap();
    assert_eq!(same, KeysChanged::default());
}

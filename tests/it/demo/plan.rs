//! What is planned for the simulated upstream, beside what it then receives.

use std::sync::Arc;
use std::time::Duration;

use headpond::demo::upstream::Upstream;
use headpond::demo::upstream::faults::Shares;
use headpond::domain::forecast::{Demand, Forecast};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::refresh::{Process, config};
use crate::support::store::{TestStore, on_each_database};

on_each_database!(what_is_planned_is_what_it_receives);

/// How far the loop is stepped.
const MINUTES: usize = 50;

async fn what_is_planned_is_what_it_receives(test: &TestStore) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let upstream = Upstream::new(Arc::clone(&test.clock) as _, 7, Shares::NONE);
    tokio::spawn(Arc::clone(&upstream).serve(listener, stop.clone()));
    let keys =
        |names: &mut dyn Iterator<Item = String>| names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let users = keys(&mut (1..=300).map(|n| format!("u{n}")));
    let cities = keys(&mut headpond::demo::upstream::cities::CITIES.iter().take(20).map(|city| city.key.to_owned()));
    let toml = format!(
        "[upstreams.simulated]\n\
         [sources.users]\nupstream = \"simulated\"\nurl = \"http://{origin}/users/{{key}}\"\nrefresh_every = \"30m\"\nkeys = [{users}]\n\
         [sources.weather]\nupstream = \"simulated\"\nurl = \"http://{origin}/weather/{{key}}\"\nrefresh_every = \"5m\"\n\
         jitter = \"20s\"\nkeys = [{cities}]\n"
    );
    let config = config(&toml);
    let demand = |source: usize| {
        let source = &config.sources[source];
        let new = source.requests_for(source.keys.len() as u64);
        Demand { cadence: &source.policy.cadence, jitter: source.policy.jitter, new, overdue: 0, settled: 0 }
    };
    let limits = config.upstreams["simulated"].limits;
    let plan = Forecast::of(&[demand(0), demand(1)], &limits, test.now());

    let process = Process::with_config(test, &toml).await;
    let mut within = Vec::new();
    for _ in 0..MINUTES {
        for _ in 0..6 {
            process.refresh().await;
            test.clock.advance(Duration::from_secs(10));
        }
        within.push(upstream.stats.counts().requests);
    }
    stop.cancel();
    let close = |planned: u64, came: u64, what: &str| {
        assert!(
            20 * planned.abs_diff(came) <= came,
            "{what}: {planned} planned, {came} came, which is 5 % off or more"
        );
        println!("{what}: {planned} planned, {came} came");
    };
    close(plan.within(30), within[29], "the first half hour");
    close(plan.within(MINUTES), within[MINUTES - 1], "all of it");
    let busiest = within.iter().zip([0].iter().chain(&within)).map(|(now, before)| now - before).max().unwrap();
    assert_eq!((plan.busiest(), within[0]), (Some((0, 320)), busiest), "all that is new, at once");
}

//! `budgets` of an upstream.

use std::time::Duration;

use headpond::domain::budget::Budget;

use super::{config, errors, warnings};

/// A source of so many keys, each to be refreshed every hour.
fn with(keys: usize, budgets: &str) -> String {
    let keys: Vec<String> = (0..keys).map(|key| format!("\"k{key}\"")).collect();
    format!(
        "[upstreams.u]\nbudgets = {budgets}\n[sources.s]\nupstream = \"u\"\nurl = \"http://localhost/{{key}}\"\n\
         keys = [{}]\nrefresh_every = \"1h\"\nuser_agent = \"t\"\n",
        keys.join(",")
    )
}

#[test]
fn budgets_are_read_shortest_window_first() {
    let config = config(&with(1, "[{ requests = 10_000, per = \"1d\" }, { requests = 1_000, per = \"1h\" }]"));
    let hour = Budget { requests: 1_000, per: Duration::from_secs(3_600) };
    let day = Budget { requests: 10_000, per: Duration::from_secs(86_400) };
    assert_eq!(config.upstreams["u"].limits.budgets.iter().collect::<Vec<_>>(), [hour, day]);
}

#[test]
fn a_budget_that_makes_no_sense_is_refused_with_its_place() {
    for (budgets, said) in [
        ("7", "2:11: upstreams.u.budgets = 7: an integer, not a list of budgets"),
        ("[7]", "2:12: upstreams.u.budgets = 7: an integer, not a list of budgets"),
        ("[{ requests = 5 }]", "per is not set"),
        ("[{ per = \"1d\" }]", "requests is not set"),
        ("[{ requests = 0, per = \"1d\" }]", "upstreams.u.budgets.requests = 0: not a whole number of at least 1"),
        ("[{ requests = -3, per = \"1d\" }]", "upstreams.u.budgets.requests = -3: not a whole number of at least 1"),
        ("[{ requests = 5, per = \"0s\" }]", "must be more than zero"),
        ("[{ requests = 5, per = \"10ms\" }]", "a window is at least a second and at most 366 days"),
        ("[{ requests = 5, per = \"50years\" }]", "a window is at least a second and at most 366 days"),
        ("[{ requests = 5, per = \"1d\" }, { requests = 6, per = \"24h\" }]", "there is a budget per 1day already"),
        ("[{ requests = 5, per = \"1d\", burst = 2 }]", "there is no such setting here"),
    ] {
        let errors = errors(&with(1, budgets));
        assert!(errors.contains(said), "{budgets}: {errors}");
    }
    let many: Vec<_> = (1..=7).map(|n| format!("{{ requests = {n}, per = \"{n}h\" }}")).collect();
    assert!(errors(&with(1, &format!("[{}]", many.join(",")))).contains("more than 6 budgets"));
}

#[test]
fn a_budget_that_never_decides_beside_another_is_warned_of() {
    let too_long = warnings(&with(1, "[{ requests = 100, per = \"1h\" }, { requests = 5_000, per = \"1d\" }]"));
    assert!(
        too_long.contains("5000 requests per 1day are never reached: 100 requests per 1h are all that is allowed"),
        "{too_long}"
    );
    let too_short = warnings(&with(1, "[{ requests = 500, per = \"1h\" }, { requests = 500, per = \"1d\" }]"));
    assert!(too_short.contains("500 requests per 1h are never reached"), "{too_short}");
    assert_eq!(warnings(&with(1, "[{ requests = 100, per = \"1h\" }, { requests = 2_000, per = \"1d\" }]")), "");
}

#[test]
fn a_budget_that_is_too_small_for_the_keys_is_warned_of_with_figures_and_stretches_what_counts_as_fresh() {
    let budgets = "[{ requests = 1_000, per = \"1d\" }]";
    let warned = warnings(&with(10_000, budgets));
    assert!(
        warned.contains(
            "the keys need 240000 requests per 1day, more than the 950 that come evenly of 1000; each is refreshed every \
             10days 12h instead of every 1h for u; raise the budget, or the sources' intervals"
        ),
        "{warned}"
    );
    let stretched = config(&with(10_000, budgets)).sources.remove(0).policy;
    assert!((stretched.stretch - 252.6).abs() < 0.2, "{}", stretched.stretch);
    let now = super::now();
    assert_eq!((stretched.after_two(now) - now).num_hours(), 505);
    assert_eq!(warnings(&with(39, budgets)), "");
    let enough = config(&with(39, budgets)).sources.remove(0).policy;
    assert_eq!((enough.after_two(now) - now).num_hours(), 2);
}

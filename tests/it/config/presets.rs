//! Presets: the rules of well-known APIs.

use headpond::config::{Config, Source};
use headpond::domain::allowance::ResetIs;

use super::{config, errors, warnings};

fn with(upstream: &str, source: &str) -> String {
    format!(
        "[upstreams.u]\n{upstream}\n[sources.s]\nupstream = \"u\"\nurl = \"http://localhost/?lat={{lat}}&lon={{lon}}\"\n\
         keys = [{{ key = \"oslo\", lat = 59.912731, lon = -10.746099 }}]\n{source}\n"
    )
}

fn metno(upstream: &str, source: &str) -> String {
    with(&format!("preset = \"met-norway\"\nuser_agent = \"acme/1 ops@acme.example\"\n{upstream}"), source)
}

const HOURLY: &str = "refresh_every = \"1h\"";

fn asked(config: &Config) -> String {
    let Source { keys, .. } = &config.sources[0];
    config.sources[0].ask(&keys[0].0, &keys[0].1).unwrap().url.into()
}

#[test]
fn met_norway_stands_for_its_terms_of_service() {
    let config = config(&metno("", HOURLY));
    assert_eq!(warnings(&metno("", HOURLY)), "");
    let limits = config.upstreams["u"].limits;
    assert_eq!((limits.requests_per_second, limits.burst), (Some(16.0), 4), "20 in any second");
    assert!(!config.sources[0].policy.early_refresh);
    assert_eq!(asked(&config), "http://localhost/?lat=59.9127&lon=-10.7460");
}

#[test]
fn what_is_written_wins_over_a_preset_and_a_preset_over_the_defaults() {
    let defaults = "[defaults]\nearly_refresh = true\nrequests_per_second_limit = 500\ntimeout = \"3s\"\n";
    let own = "requests_per_second_limit = 2\nburst = 1";
    let config = config(&(defaults.to_owned() + &metno(own, &format!("{HOURLY}\ncoordinate_decimals = 2"))));
    let limits = config.upstreams["u"].limits;
    assert_eq!((limits.requests_per_second, limits.burst), (Some(2.0), 1));
    assert!(!config.sources[0].policy.early_refresh, "the preset says so");
    assert_eq!(config.sources[0].request.timeout.as_secs(), 3, "which it says nothing of");
    assert_eq!(asked(&config), "http://localhost/?lat=59.91&lon=-10.74");
    let early = super::config(&metno("early_refresh = true", HOURLY));
    assert!(early.sources[0].policy.early_refresh);
}

#[test]
fn how_coordinates_are_cut_is_a_part_of_what_is_asked() {
    let fingerprint = |source: &str| config(&metno("", source)).sources[0].fingerprint();
    assert_ne!(fingerprint(HOURLY), fingerprint(&format!("{HOURLY}\ncoordinate_decimals = 2")));
    assert_eq!(fingerprint(HOURLY), fingerprint(&format!("{HOURLY}\ncoordinate_decimals = 4")));
}

#[test]
fn met_norway_is_told_who_asks_even_on_this_machine() {
    let errors = errors(&with("preset = \"met-norway\"", HOURLY));
    assert!(
        errors.contains(
            "sources.s: user_agent is not set: MET Norway blocks clients that don't say who they are \
                         (https://api.met.no/doc/TermsOfService); write a name and a contact, like user_agent = "
        ),
        "{errors}"
    );
    assert_eq!(super::errors(&with("preset = \"github\"", HOURLY)), "", "that is no rule of GitHub's for loopback");
}

#[test]
fn a_schedule_on_the_hour_and_more_than_20_requests_a_second_are_warned_of() {
    for (cron, is_warned) in [
        ("0 * * * *", true),
        ("*/15 * * * *", true),
        ("0 3 1 1 *", true),
        ("7 * * * *", false),
        ("* * * * *", true),
        ("7,37 3 * * *", false),
    ] {
        let warned = warnings(&metno("", &format!("refresh_cron = \"{cron}\"")));
        assert_eq!(warned.contains("asks on the hour, as everybody does"), is_warned, "{cron}: {warned}");
        assert_eq!(warned.is_empty(), !is_warned, "{cron}: {warned}");
    }
    let told = warnings(&metno("", "refresh_cron = \"0 * * * *\""));
    assert!(told.starts_with("9:16: sources.s.refresh_cron = \"0 * * * *\": asks on the hour"), "{told}");
    assert_eq!(warnings(&metno("", "refresh_cron = \"0 * * * *\"\njitter = \"10m\"")), "");

    let fast = warnings(&metno("requests_per_second_limit = 20", HOURLY));
    assert!(
        fast.contains(
            "upstreams.u.requests_per_second_limit = 20: with a burst of 4, more than the 20 requests a second that MET \
             Norway allows an application (https://api.met.no/doc/TermsOfService); lower it"
        ),
        "{fast}"
    );
    let burst = warnings(&metno("burst = 5", HOURLY));
    assert!(
        burst.contains("2:10: upstreams.u.preset = \"met-norway\": with a burst of 5, more than the 20"),
        "{burst}"
    );
}

#[test]
fn github_stands_for_its_best_practices_and_a_missing_token_is_warned_of() {
    let plain = with("preset = \"github\"", HOURLY);
    let config = config(&plain);
    assert_eq!(config.upstreams["u"].limits.max_concurrent, 1);
    let source = &config.sources[0];
    assert_eq!(source.policy.allowance.as_ref().unwrap().reset_is, ResetIs::Epoch);
    assert_eq!(source.policy.allowance.as_ref().unwrap().remaining, "x-ratelimit-remaining");
    assert!(source.request.limit_phrases.contains(&"secondary rate limit".to_owned()));
    let told = "upstreams.u.preset = \"github\": without a token GitHub allows 60 requests an hour, and counts answers of 304 too";
    assert!(warnings(&plain).contains(told), "{}", warnings(&plain));
    for token in ["auth = { bearer = \"${env:SECRET}\" }", "headers = { authorization = \"Bearer ${env:SECRET}\" }"] {
        assert_eq!(warnings(&with(&format!("preset = \"github\"\n{token}"), HOURLY)), "", "{token}");
    }
    let in_source = format!("{HOURLY}\nheaders = {{ authorization = \"Bearer ${{env:SECRET}}\" }}");
    assert_eq!(warnings(&with("preset = \"github\"", &in_source)), "");
}

#[test]
fn an_unknown_preset_is_refused_with_the_nearest_one() {
    for (preset, said) in [
        (
            "\"met-norwya\"",
            "2:10: upstreams.u.preset = \"met-norwya\": there is no such choice; did you mean \"met-norway\"?",
        ),
        ("\"GitHub\"", "there is no such choice; did you mean \"github\"?"),
        ("\"gitlab\"", "there is no such choice"),
        ("\"\"", "write one of \"met-norway\", \"github\""),
        ("7", "an integer, not one of \"met-norway\" and \"github\""),
        ("[\"github\"]", "a list, not one of \"met-norway\" and \"github\""),
    ] {
        let errors = errors(&with(&format!("preset = {preset}"), HOURLY));
        assert!(errors.contains(said), "{preset}: {errors}");
    }
    let elsewhere = errors(&with("", &format!("{HOURLY}\npreset = \"github\"")));
    assert!(elsewhere.contains("it belongs in [upstreams.NAME]"), "{elsewhere}");
}

#[test]
fn what_belongs_to_presets_is_checked_where_it_is_written_by_hand() {
    for (setting, said) in [
        ("limit_phrases = \"slow down\"", "text, not a list of phrases"),
        ("limit_phrases = [\" \"]", "is empty, and would be in every body"),
        ("limit_phrases = [7]", "an integer, not a phrase"),
        ("coordinate_decimals = 0", "not a whole number of at least 1"),
        ("coordinate_decimals = -4", "not a whole number of at least 1"),
        ("early_refresh = \"no\"", "text, not true or false"),
    ] {
        let errors = errors(&with(setting, HOURLY));
        assert!(errors.contains(said), "{setting}: {errors}");
    }
}

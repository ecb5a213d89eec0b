//! `[[webhooks]]`.

use std::time::Duration;

use headpond::domain::change::ChangeKind;

use super::{SOURCE_BY_THE_HOUR, errors, load_bytes};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn with(lines: &str) -> String {
    format!("{SOURCE_BY_THE_HOUR}\n[[webhooks]]\n{lines}")
}

#[test]
fn webhooks_are_read_with_their_defaults() {
    let one = format!("name = 'app'\nurl = 'https://app.example/hooks?token=hush'\nsecret = '{SECRET}'");
    let two = format!(
        "name = 'b-2'\nurl = 'http://localhost:1/'\nsecret = '{SECRET}'\nsources = ['s']\nkinds = ['gone', 'erased']\n\
         include = 'data'\ntimeout = '3s'\ngive_up_after = '1h'"
    );
    let config = load_bytes(format!("{}\n[[webhooks]]\n{two}", with(&one))).unwrap().config;
    let [app, b] = &config.webhooks[..] else { panic!("two") };
    assert_eq!((app.name.as_str(), app.url.path(), &app.sources, &app.kinds), ("app", "/hooks", &None, &None));
    assert_eq!((app.includes_data, app.timeout), (false, Duration::from_secs(15)));
    assert_eq!(app.give_up_after, Duration::from_secs(5 * 86_400));
    assert_eq!(b.sources.as_ref().unwrap()[0].as_str(), "s");
    assert_eq!(b.kinds, Some(vec![ChangeKind::Gone, ChangeKind::Erased]));
    assert_eq!((b.includes_data, b.timeout), (true, Duration::from_secs(3)));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush") && !shown.contains("MfKQ"), "{shown}");
    assert!(load_bytes(SOURCE_BY_THE_HOUR).unwrap().config.webhooks.is_empty());
}

#[test]
fn each_thing_that_is_wrong_with_a_webhook_is_said_and_no_secret_shown() {
    let good = format!("name = 'app'\nurl = 'https://app.example/'\nsecret = '{SECRET}'");
    for (lines, said) in [
        (String::new(), "webhooks[0]: name is not set"),
        ("name = 'app'".into(), "url is not set"),
        (good.replace("'app'", "'a b'"), "no name of up to 64 such characters"),
        (good.replace("https:", "ftp:"), "no http or https URL"),
        (good.replace("whsec_", ""), "it does not begin with `whsec_`"),
        (good.replace("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "c2hvcnQ="), "it has less than 24 or more than 64 bytes"),
        (format!("{good}\nsources = ['z']"), "there is no source z"),
        (format!("{good}\nkinds = ['moved']"), "there is no such kind of change"),
        (format!("{good}\ninclude = 'all'"), "there is nothing else to include"),
        (format!("{good}\ntimeout = '0s'"), "must be more than zero"),
        (format!("{good}\nretries = 3"), "there is no such setting in [[webhooks]]"),
        (format!("{good}\n[[webhooks]]\n{good}"), "another webhook has this name"),
    ] {
        let all = errors(&with(&lines));
        assert!(all.contains(said), "{lines}: {all}");
        assert!(!all.contains("MfKQ"), "{all}");
    }
    let table = errors(&format!("{SOURCE_BY_THE_HOUR}\n[webhooks]\nname = 'app'"));
    assert!(table.contains("a list of tables"), "{table}");
}

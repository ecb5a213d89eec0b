//! What an upstream's answers are heeded for.

use headpond::domain::allowance::{Fields, ResetIs};
use http::HeaderName;

use super::{config, errors};

fn with(settings: &str) -> String {
    format!(
        "[upstreams.u]\n{settings}\n[sources.s]\nupstream = \"u\"\nurl = \"http://localhost/{{key}}\"\nkeys = [\"k\"]\n\
         refresh_every = \"1h\"\n"
    )
}

fn allowance(settings: &str) -> Option<Fields> {
    config(&with(settings)).sources.remove(0).policy.allowance
}

#[test]
fn the_fields_of_an_allowance_have_names_of_the_upstreams_own() {
    assert_eq!(allowance(""), Some(Fields::default()));
    assert_eq!(allowance("allowance = \"ignore\""), None);
    assert_eq!(
        allowance("allowance = { remaining = \"X-Left\", reset = \"X-More-At\", reset_is = \"epoch\" }"),
        Some(Fields {
            remaining: HeaderName::from_static("x-left"),
            reset: HeaderName::from_static("x-more-at"),
            reset_is: ResetIs::Epoch,
        })
    );
    let reset_is = ResetIs::SecondsLeft;
    assert_eq!(
        allowance("allowance = { reset_is = \"seconds_left\" }"),
        Some(Fields { reset_is, ..Fields::default() })
    );
    let by_default = "[defaults]\nallowance = \"ignore\"\n".to_owned() + &with("");
    assert_eq!(config(&by_default).sources.remove(0).policy.allowance, None);
}

#[test]
fn an_allowance_that_makes_no_sense_is_refused_with_its_place() {
    for (setting, said) in [
        ("7", "2:13: upstreams.u.allowance = 7: an integer, not a table of two header names, or \"ignore\""),
        ("\"ignroe\"", "there is no such choice; write \"ignore\", or a table of header names"),
        ("{ remaining = \"x left\" }", "upstreams.u.allowance.remaining = \"x left\": not a header name"),
        ("{ remaining = \"\" }", "not a header name"),
        ("{ reset = 7 }", "an integer, not a header name"),
        ("{ reset_is = \"epok\" }", "there is no such choice; did you mean \"epoch\"?"),
        ("{ remaning = \"x\" }", "there is no such setting here; did you mean `remaining`?"),
        ("{ remaining = \"x\", reset = \"X\" }", "remaining and reset are the same field"),
    ] {
        let errors = errors(&with(&format!("allowance = {setting}")));
        assert!(errors.contains(said), "{setting}: {errors}");
    }
    let in_source = with("").replace("refresh_every", "allowance = \"ignore\"\nrefresh_every");
    assert!(errors(&in_source).contains("it belongs in [defaults] or [upstreams.NAME]"), "{}", errors(&in_source));
}

//! "Did you mean …?"

/// The known name that a mistyped one most probably means; `None` when none is near.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let written = name.to_lowercase();
    let likeness = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        // Half of a long name is a better sign than how many letters differ: `rate_limit` of `requests_rate_limit`.
        let within = written.len() >= 4 && (candidate.contains(&written) || written.contains(&candidate));
        strsim::normalized_damerau_levenshtein(&written, &candidate).max(if within { 0.6 } else { 0.0 })
    };
    let mut best = (0.5, None);
    for candidate in known {
        let likeness = likeness(candidate);
        if likeness > best.0 {
            best = (likeness, Some(candidate));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let known = ["refresh_every", "refresh_cron", "timeout", "max_body", "url", "Europe/Berlin"];
        for (name, expected) in [
            ("refesh_every", Some("refresh_every")),
            ("refreshEvery", Some("refresh_every")),
            ("refresh", Some("refresh_every")),
            ("time_out", Some("timeout")),
            ("ulr", Some("url")),
            ("europe/berlin", Some("Europe/Berlin")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}

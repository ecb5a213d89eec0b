//! Which of the forms that an answer may have its reader asks for (RFC 9110 §12.5.1).

use http::{HeaderMap, header};

use crate::domain::directive::{Directive, split_outside_quotes};

/// The feed as events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// A list as one JSON value in each line.
pub const NDJSON: &str = "application/x-ndjson";

/// Whether the request names this media type, and does not refuse it. What it only allows by a wildcard is not asked for:
/// all clients allow everything.
#[must_use]
pub fn asks_for(request: &HeaderMap, media_type: &str) -> bool {
    let lines = request.get_all(header::ACCEPT).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    lines.into_iter().any(|line| split_outside_quotes(&line, ',').any(|range| is_asked_for(range, media_type)))
}

fn is_asked_for(range: &str, media_type: &str) -> bool {
    let mut parts = split_outside_quotes(range, ';');
    let is_named = parts.next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type));
    let weight = parts.map(Directive::of).find(|parameter| parameter.is("q")).and_then(|weight| weight.argument);
    let is_refused = weight.and_then(|weight| weight.parse::<f32>().ok()).is_some_and(|weight| weight <= 0.0);
    is_named && !is_refused
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_type_is_asked_for_by_its_name() {
        for (lines, expected) in [
            (&["text/event-stream"][..], true),
            (&["Text/Event-Stream; charset=utf-8"], true),
            (&["application/json;q=0.5, text/event-stream ;q=0.1"], true),
            (&["application/json", "text/event-stream"], true),
            (&["text/event-stream;q=0"], false),
            (&["text/event-stream;q=0.000"], false),
            (&["text/*, */*"], false),
            (&["application/json;x=\", text/event-stream, \""], false),
            (&["text/event-streams"], false),
            (&[""], false),
            (&[], false),
        ] {
            let request: HeaderMap =
                lines.iter().map(|line| (header::ACCEPT, HeaderValue::from_static(line))).collect();
            assert_eq!(asks_for(&request, EVENT_STREAM), expected, "{lines:?}");
        }
    }
}

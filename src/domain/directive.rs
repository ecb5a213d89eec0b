//! Lists of directives, as in Cache-Control (RFC 9111 §5.2) and Prefer (RFC 7240 §2).

use std::time::Duration;

use super::time::delta_seconds;

/// One member of such a list: `name`, `name=token` or `name="quoted"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive<'a> {
    /// Its name, which means the same in capitals.
    pub name: &'a str,
    /// What comes after `=`, without quotes. (No directive that we know has a `\` in it.)
    pub argument: Option<&'a str>,
}

impl<'a> Directive<'a> {
    /// Reads one member.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        match text.split_once('=') {
            Some((name, argument)) => {
                Self { name: name.trim(), argument: Some(argument.trim().trim_matches('"').trim()) }
            }
            None => Self { name: text.trim(), argument: None },
        }
    }

    /// Whether it has this name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Its argument as a number of seconds; `None` when it has none or it isn't one.
    #[must_use]
    pub fn seconds(&self) -> Option<Duration> {
        delta_seconds(self.argument?)
    }
}

/// Reads a field's value: the members of a list with commas between them.
pub fn directives(value: &str) -> impl Iterator<Item = Directive<'_>> {
    split_outside_quotes(value, ',').map(Directive::of)
}

/// Splits where the separator isn't inside a quoted string (`private="a, b"` is one directive).
pub fn split_outside_quotes(value: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |c| {
        let is_literal = std::mem::take(&mut escaped);
        match c {
            '\\' => escaped = quoted && !is_literal,
            '"' => quoted ^= !is_literal,
            _ => {}
        }
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_separate_nothing() {
        for (value, expected) in [
            ("a, b=1 ,c=\"x, y\"", vec![("a", None), ("b", Some("1")), ("c", Some("x, y"))]),
            ("a=\"\\\", b\", c", vec![("a", Some("\\\", b")), ("c", None)]),
            ("a=\"\\\\\", b", vec![("a", Some("\\\\")), ("b", None)]),
            ("a\\\", b\", c", vec![("a\\\", b\"", None), ("c", None)]),
            ("a=\"x, b", vec![("a", Some("x, b"))]),
            ("a = \" 5 \"", vec![("a", Some("5"))]),
            ("a==b", vec![("a", Some("=b"))]),
            (",", vec![("", None), ("", None)]),
        ] {
            let found: Vec<_> = directives(value).map(|one| (one.name, one.argument)).collect();
            assert_eq!(found, expected, "{value}");
        }
    }
}

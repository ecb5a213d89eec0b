//! Coordinates with no more decimals than an upstream wants to see.

use std::borrow::Cow;

use super::resource::Params;

/// The parameters that are coordinates.
const NAMES: [&str; 4] = ["lat", "lon", "latitude", "longitude"];

/// The same parameters with coordinates of at most so many decimals: cut off, not rounded, and written as they were otherwise.
#[must_use]
pub fn cut(params: &Params, decimals: u32) -> Cow<'_, Params> {
    let decimals = usize::try_from(decimals).unwrap_or(usize::MAX);
    let short = |name: &str| params.get(name).and_then(|text| Some((name.to_owned(), shorter(text, decimals)?)));
    let cut: Vec<_> = NAMES.into_iter().filter_map(short).collect();
    if cut.is_empty() {
        return Cow::Borrowed(params);
    }
    let mut params = params.clone();
    params.extend(cut);
    Cow::Owned(params)
}

/// A number without the decimals that are too many; `None` where it has none such, or is none.
fn shorter(text: &str, decimals: usize) -> Option<String> {
    let (whole, fraction) = text.split_once('.')?;
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = is_digits(whole.strip_prefix(['-', '+']).unwrap_or(whole)) && is_digits(fraction);
    let kept = fraction.get(..decimals).filter(|_| is_number && fraction.len() > decimals)?;
    Some(format!("{whole}.{kept}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_lose_the_decimals_that_are_too_many_and_nothing_else_is_touched() {
        let params = |pairs: &[(&str, &str)]| -> Params {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (given, sent) in [
            ("52.52000659", "52.5200"),
            ("-13.40495", "-13.4049"),
            ("52.52", "52.52"),
            ("52.5200", "52.5200"),
            ("52", "52"),
            ("-0.00001", "-0.0000"),
            ("1e-7", "1e-7"),
            ("52.52000659N", "52.52000659N"),
            (".52000659", ".52000659"),
            ("52.52.000659", "52.52.000659"),
            ("52.520\u{666}\u{666}\u{666}", "52.520\u{666}\u{666}\u{666}"),
            ("", ""),
        ] {
            let all = params(&[("lat", given), ("altitude", "52.52000659")]);
            let expected = params(&[("lat", sent), ("altitude", "52.52000659")]);
            assert_eq!(*cut(&all, 4), expected, "{given}");
        }
        let none = params(&[("city", "52.52000659")]);
        assert!(matches!(cut(&none, 4), Cow::Borrowed(_)));
    }
}

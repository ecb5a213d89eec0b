use super::*;
use proptest::prelude::*;

fn column(name: &str, path: &str, kind: ColumnType) -> Column {
    Column { name: name.into(), paths: vec![JsonPath::new(path).unwrap()], kind, nullable: false, index: false }
}

fn one(kind: ColumnType) -> Table {
    Table { name: "t".into(), columns: vec![column("c", "$.c", kind)], rows: None }
}

fn many() -> Table {
    let rows = super::super::table::Rows {
        items: JsonPath::new("$.hours[*]").unwrap(),
        key: column("at", "$.at", ColumnType::Timestamp),
    };
    Table { name: "t".into(), columns: vec![column("c", "$.c", ColumnType::Real)], rows: Some(rows) }
}

fn found(kind: ColumnType, json: &str) -> Result<Cell, String> {
    project(&one(kind), format!("{{\"c\":{json}}}").as_bytes())
        .map(|mut rows| rows.remove(0).remove(0))
        .map_err(|misfit| misfit.found)
}

#[test]
fn values_fit_their_columns_or_are_told_from_what_would() {
    use ColumnType::{Boolean, Date, Integer, Json, Numeric, Real, Text, Timestamp};
    let text = |text: &str| Ok(Cell::Text(text.into()));
    let no = |found: &str| Err(found.to_owned());
    for (kind, json, expected) in [
        (Text, r#""a""#, text("a")),
        (Text, "1", no("a number")),
        (Text, r#""a\u0000b""#, no("text with a NUL character")),
        (Text, "null", no("null")),
        (Integer, "9223372036854775807", Ok(Cell::Integer(i64::MAX))),
        (Integer, "-9223372036854775808", Ok(Cell::Integer(i64::MIN))),
        (Integer, "9223372036854775808", no("a number beyond 64 bits")),
        (Integer, "5.00", Ok(Cell::Integer(5))),
        (Integer, "5.5", no("a number that is not whole")),
        (Integer, "1e3", no("a number that is not whole")),
        (Integer, "\"5\"", no("text")),
        (Real, "1.5", Ok(Cell::Real(1.5))),
        (Real, "1e999", no("a number beyond double precision")),
        (Real, "\"NaN\"", no("text")),
        (Boolean, "true", Ok(Cell::Boolean(true))),
        (Boolean, "0", no("a number")),
        (Timestamp, r#""2026-05-01T12:00:00+02:00""#, text("2026-05-01T10:00:00.000000Z")),
        (Timestamp, r#""2026-05-01T10:00:00.1234567Z""#, text("2026-05-01T10:00:00.123456Z")),
        (Timestamp, r#""2016-12-31T23:59:60Z""#, text("2017-01-01T00:00:00.000000Z")),
        (Timestamp, r#""2026-05-01T12:00:00""#, no("text that is no timestamp with a zone (RFC 3339)")),
        (Timestamp, r#""0000-01-01T00:00:00Z""#, no("a timestamp outside of the years 1 to 9999")),
        (Timestamp, "1777636800", no("a number")),
        (Date, r#""2026-05-01""#, text("2026-05-01")),
        (Date, r#""2026-02-30""#, no("text that is no date (like 2026-05-01)")),
        (Date, r#""2026-5-1""#, no("text that is no date (like 2026-05-01)")),
        (Numeric, "123456789012345678901.10", text("123456789012345678901.10")),
        (Numeric, r#""19.90""#, text("19.90")),
        (Numeric, r#""NaN""#, no("text that is no decimal number")),
        (Numeric, r#""1e5000""#, no("a number of more than 1000 digits")),
        (Numeric, r#"".5""#, no("text that is no decimal number")),
        (Json, r#"{"b":1.10,"a":[null]}"#, text(r#"{"a":[null],"b":1.10}"#)),
        (Json, r#"[{"\u0000":1}]"#, no("text with a NUL character")),
    ] {
        assert_eq!(found(kind, json), expected, "{kind} {json}");
    }
}

#[test]
fn of_several_paths_the_first_that_names_something_counts() {
    let mut table = one(ColumnType::Text);
    table.columns[0].paths = ["$.a", "$.b", "$.list[*]"].map(|path| JsonPath::new(path).unwrap()).to_vec();
    let made = |body: &str| project(&table, body.as_bytes()).map_err(|misfit| misfit.to_string());
    assert_eq!(made(r#"{"a":"x","b":"y"}"#), Ok(vec![vec![Cell::Text("x".into())]]));
    assert_eq!(made(r#"{"a":null,"b":"y"}"#), Ok(vec![vec![Cell::Text("y".into())]]));
    assert_eq!(
        made(r#"{"a":1,"b":"y"}"#),
        Err(r#"column "c" of table "t" ($.a): expected text, found a number"#.into()),
        "what is there and wrong is not passed over"
    );
    assert_eq!(made("{}"), Err(r#"column "c" of table "t" ($.a): expected text, found nothing"#.into()));
    assert_eq!(
        made(r#"{"list":["x","y"]}"#),
        Err(r#"column "c" of table "t" ($.list[*]): expected text, found 2 values"#.into())
    );
    table.columns[0].nullable = true;
    assert_eq!(project(&table, b"{}").unwrap(), [[Cell::Null]]);
    assert!(project(&table, br#"{"a":1}"#).is_err(), "nullable is not anything");
}

#[test]
fn items_become_rows_that_are_told_apart() {
    let made = |body: &str| project(&many(), body.as_bytes()).map_err(|misfit| misfit.to_string());
    let at = |hour: u32| format!("2026-05-01T{hour:02}:00:00.000000Z");
    assert_eq!(
        made(r#"{"hours":[{"at":"2026-05-01T01:00:00Z","c":1},{"at":"2026-05-01T04:00:00+02:00","c":2}]}"#),
        Ok(vec![vec![Cell::Text(at(1)), Cell::Real(1.0)], vec![Cell::Text(at(2)), Cell::Real(2.0)]])
    );
    assert_eq!(made(r#"{"hours":[]}"#), Ok(vec![]));
    for (body, problem) in [
        ("{}", r#"the rows of table "t" ($.hours[*]): expected a list, found nothing"#),
        (
            r#"{"hours":[{"at":"2026-05-01T01:00:00Z","c":1},{"at":"2026-05-01T03:00:00+02:00","c":2}]}"#,
            r#"the rows of table "t" ($.hours[*]): expected another "at" in each, found the one of row 2 twice"#,
        ),
        (
            r#"{"hours":[{"at":"2026-05-01T01:00:00Z","c":1},{"at":"2026-05-01T02:00:00Z"}]}"#,
            r#"column "c" of table "t" ($.c in row 2): expected real, found nothing"#,
        ),
    ] {
        assert_eq!(made(body), Err(problem.into()));
    }
}

#[test]
fn what_is_no_json_has_no_rows() {
    let misfit = project(&one(ColumnType::Text), b"<html>").unwrap_err();
    assert_eq!(misfit.to_string(), r#"the rows of table "t" ($): expected JSON, found something else"#);
}

proptest! {
    /// Whatever comes, a row has a value for each column, or a sentence says which does not fit.
    #[test]
    fn any_body_makes_rows_or_a_refusal(body in "\\PC{0,60}", kind in 0..8_usize) {
        let table = one(ColumnType::ALL[kind]);
        if let Ok(rows) = project(&table, body.as_bytes()) {
            prop_assert!(rows.iter().all(|row| row.len() == 1));
        }
        let body = serde_json::json!({ "c": body }).to_string();
        if let Err(misfit) = project(&table, body.as_bytes()) {
            prop_assert_eq!(misfit.column.as_deref(), Some("c"));
        }
    }

    /// Texts of timestamps sort like the times.
    #[test]
    fn timestamps_sort_as_texts(a in 0_i64..250_000_000_000, b in 0_i64..250_000_000_000, zone in -12_i32..=14) {
        let written = |seconds: i64| {
            let zone = chrono::FixedOffset::east_opt(zone * 3600).unwrap();
            let at = DateTime::from_timestamp(seconds, 0).unwrap().with_timezone(&zone);
            timestamp(&at.to_rfc3339()).unwrap()
        };
        prop_assert_eq!(written(a).cmp(&written(b)), a.cmp(&b));
    }
}

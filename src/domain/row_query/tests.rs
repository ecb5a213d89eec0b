use super::*;
use crate::domain::json_path::JsonPath;
use proptest::prelude::*;

fn table() -> Table {
    let column = |kind: ColumnType| Column {
        name: format!("a_{kind}"),
        paths: vec![JsonPath::new("$.a").unwrap()],
        kind,
        nullable: true,
        index: false,
    };
    Table { name: "t".into(), columns: ColumnType::ALL.map(column).to_vec(), rows: None }
}

fn asked(name: &str, text: &str) -> Result<(bool, Test), String> {
    filter(&table(), name, text).map(|filter| (filter.not, filter.test)).map_err(|wrong| wrong.to_string())
}

#[test]
fn conditions_are_read_by_the_types_of_their_columns() {
    let text = |text: &str| Cell::Text(text.into());
    for (name, condition, expected) in [
        ("a_text", "eq.a.b", (false, Test::Compare(Comparison::Eq, text("a.b")))),
        ("a_text", "not.eq.", (true, Test::Compare(Comparison::Eq, text("")))),
        ("a_text", "like.A*_", (false, Test::Like("A%_".into()))),
        ("a_text", r#"in.(a,"b,c","d\"e")"#, (false, Test::In(vec![text("a"), text("b,c"), text("d\"e")]))),
        ("a_integer", "gte.-5", (false, Test::Compare(Comparison::Gte, Cell::Integer(-5)))),
        ("a_real", "lt.1e3", (false, Test::Compare(Comparison::Lt, Cell::Real(1000.0)))),
        ("a_boolean", "is.true", (false, Test::Is(true))),
        ("a_json", "not.is.null", (true, Test::IsNull)),
        (
            "a_timestamp",
            "gt.2026-05-01T12:00:00+02:00",
            (false, Test::Compare(Comparison::Gt, text("2026-05-01T10:00:00.000000Z"))),
        ),
        ("key", "neq.k", (false, Test::Compare(Comparison::Neq, text("k")))),
    ] {
        assert_eq!(asked(name, condition), Ok(expected), "{name}={condition}");
    }
}

#[test]
fn what_is_wrong_says_what_would_be_right() {
    for (name, condition, said) in [
        ("b", "eq.1", "there is no such column; the columns are `key`, `version`"),
        ("a_text\"; DROP TABLE t;--", "eq.1", "there is no such column"),
        ("a_text", "5", "write an operator and a value, like `eq.5`"),
        ("a_text", "ilike.a", "the operators are `eq`, `neq`"),
        ("a_integer", "eq.9223372036854775808", "the column is integer, and this is no whole number of 64 bits."),
        ("a_integer", "eq.1 OR 1=1", "no whole number"),
        ("a_real", "eq.NaN", "no finite number"),
        ("a_timestamp", "eq.2026-05-01T12:00:00", "no timestamp with a zone"),
        ("a_boolean", "gt.true", "truth values have no order"),
        ("a_json", "eq.{}", "JSON can only be asked whether it `is.null`."),
        ("a_integer", "like.5*", "`like` is for columns of text."),
        ("a_text", "in.(\"a)", "`in` takes a list in brackets"),
        ("a_text", "in.a,b", "`in` takes a list in brackets"),
        ("state", "eq.fresh", "`state=fresh` and `state=stale` choose by freshness"),
    ] {
        let wrong = asked(name, condition).unwrap_err();
        assert!(wrong.contains(said), "{name}={condition}: {wrong}");
    }
    for (given, said) in [
        ("a_integer.down", "write a column, or one with `.asc` or `.desc`"),
        ("a_json", "JSON has no order."),
        ("a_text,a_text.desc", "each column may be named once."),
        ("b", "\"b\": there is no such column"),
        ("", "\"\": there is no such column"),
    ] {
        let wrong = order(&table(), Some(given)).unwrap_err().to_string();
        assert!(wrong.contains(said), "{given}: {wrong}");
    }
    assert!(select(&table(), Some("a_text,b")).is_err());
    assert_eq!(select(&table(), Some("*")), select(&table(), None));
}

#[test]
fn every_order_tells_all_rows_apart() {
    let names = |text| {
        let order = order(&table(), text).unwrap();
        order.iter().map(|one| (one.field.name.clone(), one.descending)).collect::<Vec<_>>()
    };
    assert_eq!(names(None), [("key".into(), false)]);
    assert_eq!(names(Some("a_real.desc,key.desc")), [("a_real".into(), true), ("key".into(), true)]);
    assert_eq!(names(Some("a_real")), [("a_real".into(), false), ("key".into(), false)]);
}

proptest! {
    /// Whatever is written, it is read or refused.
    #[test]
    fn no_condition_panics(column in 0..8_usize, text in "(not\\.)?(eq|in|is|like|gt)?\\.?\\PC{0,20}") {
        let name = format!("a_{}", ColumnType::ALL[column]);
        _ = filter(&table(), &name, &text);
    }
}

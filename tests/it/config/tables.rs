//! `table` of a source.

use headpond::domain::table::ColumnType;

use super::{SOURCE_BY_THE_HOUR, errors, said_of, source};

/// What is said of a table with these lines.
fn said_of_table(lines: &str) -> String {
    said_of(&format!("refresh_every = '1h'\n[sources.s.table]\n{lines}"))
}

#[test]
fn a_table_is_read_with_its_columns_in_the_order_of_their_names() {
    let toml = format!(
        "{SOURCE_BY_THE_HOUR}\ntable = {{ name = 'users', columns = {{ order = {{ path = ['$.a', '$.b'], type = 'text', \
         nullable = true }}, age = {{ path = '$.age', type = 'integer', index = true }} }} }}"
    );
    let table = source(&toml).policy.body.table.unwrap();
    assert_eq!((table.name.as_str(), table.rows.is_none()), ("users", true));
    let [age, order] = &table.columns[..] else { panic!("two columns") };
    assert_eq!((age.name.as_str(), age.kind, age.nullable, age.index), ("age", ColumnType::Integer, false, true));
    assert_eq!((order.name.as_str(), order.paths.len(), order.nullable, order.index), ("order", 2, true, false));

    let toml = format!(
        "{SOURCE_BY_THE_HOUR}\n[sources.s.table]\nname = 'hours'\nrows = '$.hours[*]'\n\
         row_key = {{ column = 'at', path = '$.at', type = 'timestamp' }}\n\
         columns = {{ celsius = {{ path = '$.c', type = 'real' }} }}"
    );
    let rows = source(&toml).policy.body.table.as_ref().unwrap().rows.clone().unwrap();
    assert_eq!(
        (rows.items.as_str(), rows.key.name.as_str(), rows.key.kind),
        ("$.hours[*]", "at", ColumnType::Timestamp)
    );
}

#[test]
fn each_thing_that_is_wrong_with_a_table_is_said_where_it_is() {
    let good = "columns = { a = { path = '$.a', type = 'text' } }";
    for (lines, said) in [
        (good.to_owned(), "sources.s.table: name is not set"),
        (format!("name = 'users; DROP'\n{good}"), "a name has letters of a to z"),
        (format!("name = 'headpond_x'\n{good}"), "names that begin with `headpond_` or `sqlite_` are taken"),
        ("name = 'u'".into(), "sources.s.table: columns is not set"),
        ("name = 'u'\ncolumns = {}".into(), "0 columns, and there may be 1 to 200"),
        (
            "name = 'u'\ncolumns = { a = { path = '$.a', type = 'string' } }".into(),
            "there is no such type; write one of text, integer, real",
        ),
        ("name = 'u'\ncolumns = { a = { path = 'a', type = 'text' } }".into(), "not a JSONPath (RFC 9535)"),
        ("name = 'u'\ncolumns = { a = { path = [], type = 'text' } }".into(), "an empty list"),
        ("name = 'u'\ncolumns = { a = { type = 'text' } }".into(), "sources.s.table.columns.a: path is not set"),
        (
            "name = 'u'\ncolumns = { a = { path = '$.a', typ = 'text', type = 'text' } }".into(),
            "there is no such setting here; did you mean `type`?",
        ),
        (
            "name = 'u'\ncolumns = { Name = { path = '$.a', type = 'text' }, name = { path = '$.b', type = 'text' } }"
                .into(),
            "differs from \"Name\" only by case, which SQLite takes for the same",
        ),
        (
            "name = 'u'\ncolumns = { State = { path = '$.a', type = 'text' } }".into(),
            "every table has a column of this name already",
        ),
        (format!("name = 'u'\nrows = '$.a[*]'\n{good}"), "rows is set without row_key"),
        (
            format!("name = 'u'\nrows = '$.a[*]'\nrow_key = {{ column = 'x', path = '$.x', type = 'real' }}\n{good}"),
            "rows can't be told apart by real",
        ),
        (
            format!("name = 'u'\nrows = '$.a[*]'\nrow_key = {{ column = 'A', path = '$.x', type = 'text' }}\n{good}"),
            "the column \"a\" is there twice: it is row_key's too",
        ),
    ] {
        let errors = said_of_table(&lines);
        assert!(errors.contains(said), "{lines}\n{errors}");
    }
    let errors = said_of(
        "content = 'text'\nrefresh_every = '1h'\n[sources.s.table]\nname = 'u'\ncolumns = { a = { path = '$.a', type = 'text' } }",
    );
    assert!(errors.contains("names parts of JSON, and content is something else"), "{errors}");
}

#[test]
fn two_tables_never_have_one_name() {
    let of = |source: &str, name: &str| {
        format!(
            "[sources.{source}]\nkeys = ['k']\nurl = 'http://localhost/{{key}}'\nrefresh_every = '1h'\n\
             table = {{ name = '{name}', columns = {{ a = {{ path = '$.a', type = 'text' }} }} }}\n"
        )
    };
    for name in ["Users", "users_all"] {
        let errors = errors(&format!("{}{}", of("a", "users"), of("b", name)));
        assert!(errors.contains("is that of source a already"), "{errors}");
    }
    assert_eq!(errors(&format!("{}{}", of("a", "users"), of("b", "people"))), "");
}

#[test]
fn schemas_and_roles_are_postgres_own_matter() {
    for (setting, said) in [
        ("table_schema = 'headpond'", "this is where Headpond keeps what no app should see"),
        ("table_schema = 'pg_x'", "this is Postgres' own"),
        ("table_schema = 'a b'", "a name has letters"),
        ("grant_select_to = ['']", "no name of a role"),
    ] {
        let errors = errors(&format!("[database]\n{setting}\n{SOURCE_BY_THE_HOUR}"));
        assert!(errors.contains(said), "{setting}: {errors}");
    }
    let on_sqlite = super::warnings(&format!("[database]\ngrant_select_to = ['app']\n{SOURCE_BY_THE_HOUR}"));
    assert!(on_sqlite.contains("has no meaning on SQLite"), "{on_sqlite}");
}

//! From one table to the next: what an app that reads it loses, and what else changes.

use std::fmt;

use super::table::{Column, Table};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is, in words.
    pub what: String,
    /// Whether an app that reads the table loses something by it.
    pub is_loss: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// How the next table differs from the one that is there.
#[must_use]
pub fn differences(live: &Table, next: &Table) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut note = |is_loss, what: String| all.push(Difference { what, is_loss });
    if live.name != next.name {
        note(true, format!("table {:?} is called {:?}", live.name, next.name));
    }
    let key = |table: &Table| table.rows.as_ref().map(|rows| rows.key.clone());
    match (key(live), key(next)) {
        (None, None) => {}
        (Some(before), Some(after)) if before.name == after.name && before.kind == after.kind => {
            if live.rows != next.rows {
                note(false, "its rows are looked for elsewhere".into());
            }
        }
        (before, after) => {
            let named =
                |key: Option<Column>| key.map_or_else(|| "none".into(), |key| format!("{:?} {}", key.name, key.kind));
            note(true, format!("row_key is {}, and was {}", named(after), named(before)));
        }
    }
    for column in &live.columns {
        match next.columns.iter().find(|other| other.name == column.name) {
            None => note(true, format!("column {:?} is dropped", column.name)),
            Some(other) if other.kind != column.kind => {
                note(true, format!("column {:?} is {}, and was {}", column.name, other.kind, column.kind));
            }
            Some(other) if other != column => note(false, format!("column {:?} is made anew", column.name)),
            Some(_) => {}
        }
    }
    let added = next.columns.iter().filter(|column| !live.columns.iter().any(|other| other.name == column.name));
    all.extend(added.map(|column| Difference { what: format!("column {:?} is added", column.name), is_loss: false }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json_path::JsonPath;
    use crate::domain::table::{ColumnType, Rows};

    fn column(name: &str, path: &str, kind: ColumnType) -> Column {
        Column { name: name.into(), paths: vec![JsonPath::new(path).unwrap()], kind, nullable: false, index: false }
    }

    fn table(columns: Vec<Column>) -> Table {
        Table { name: "t".into(), columns, rows: None }
    }

    #[test]
    fn what_apps_lose_is_told_from_what_they_get() {
        let a = || column("a", "$.a", ColumnType::Text);
        let b = |path, kind| column("b", path, kind);
        let told = |next: &Table| {
            let live = table(vec![a(), b("$.b", ColumnType::Integer)]);
            let all = differences(&live, next);
            all.iter().map(|one| format!("{}{one}", if one.is_loss { "- " } else { "+ " })).collect::<Vec<_>>()
        };
        assert_eq!(told(&table(vec![a(), b("$.b", ColumnType::Integer)])), [""; 0]);
        assert_eq!(told(&table(vec![a()])), ["- column \"b\" is dropped"]);
        assert_eq!(told(&table(vec![a(), b("$.b", ColumnType::Text)])), ["- column \"b\" is text, and was integer"]);
        assert_eq!(told(&table(vec![a(), b("$.c", ColumnType::Integer)])), ["+ column \"b\" is made anew"]);
        let more = vec![a(), b("$.b", ColumnType::Integer), column("c", "$.c", ColumnType::Date)];
        assert_eq!(told(&table(more)), ["+ column \"c\" is added"]);
        let mut other = table(vec![a(), b("$.b", ColumnType::Integer)]);
        other.name = "u".into();
        other.rows = Some(Rows { items: JsonPath::new("$[*]").unwrap(), key: column("at", "$.at", ColumnType::Date) });
        assert_eq!(told(&other), ["- table \"t\" is called \"u\"", "- row_key is \"at\" date, and was none"]);
    }
}

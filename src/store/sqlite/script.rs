//! Statements that go to SQLite together.
//!
//! sqlx runs SQLite on a thread of its own, and a call goes there and back. With the writer held meanwhile, these hand-overs
//! took longer than the statements of a refresh themselves. So what needs no answer from the one before goes in one call.

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Either, Executor};

use crate::store::StoreError;

/// Statements with their arguments, in order. The few combinations that there are stay prepared, like single statements.
#[derive(Default)]
pub(super) struct Script {
    text: String,
    arguments: SqliteArguments,
}

/// What stands for a `?N`.
#[derive(Debug)]
pub(super) enum Argument {
    Integer(i64),
    Real(f64),
    Text(String),
    Null,
}

impl Argument {
    /// A text, or NULL.
    pub(super) fn maybe(text: Option<&String>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.clone()))
    }
}

impl<T: Into<i64>> From<T> for Argument {
    fn from(integer: T) -> Self {
        Self::Integer(integer.into())
    }
}

impl Script {
    /// Adds a statement. Its `?N` stands for the Nth of `arguments`, as everywhere else.
    pub(super) fn add(&mut self, statement: &str, arguments: &[Argument]) -> Result<&mut Self, StoreError> {
        let mut parts = statement.split('?');
        self.text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let (number, rest) = part.split_at(digits);
            let argument = number.parse().ok().and_then(|number: usize| arguments.get(number.checked_sub(1)?));
            self.bind(argument.ok_or_else(|| StoreError::Rejected(format!("?{number} has no argument")))?)?;
            // Without a number: sqlx can't tell the numbers of one statement from those of the next.
            self.text.push('?');
            self.text.push_str(rest);
        }
        self.text.push(';');
        Ok(self)
    }

    fn bind(&mut self, argument: &Argument) -> Result<(), StoreError> {
        let bound = match argument {
            Argument::Integer(integer) => self.arguments.add(*integer),
            Argument::Real(real) => self.arguments.add(*real),
            Argument::Text(text) => self.arguments.add(text.clone()),
            Argument::Null => self.arguments.add(None::<i64>),
        };
        bound.map_err(|error| StoreError::Rejected(error.to_string()))
    }

    /// Runs all of it and begins anew; returns the rows of each statement, in order.
    pub(super) async fn run(&mut self, connection: &mut SqliteConnection) -> Result<Vec<Vec<SqliteRow>>, sqlx::Error> {
        let Self { text, arguments } = std::mem::take(self);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = connection.fetch_many(sqlx::query_with(AssertSqlSafe(text), arguments));
        let (mut all, mut rows) = (Vec::new(), Vec::new());
        while let Some(answer) = answers.try_next().await? {
            match answer {
                Either::Right(row) => rows.push(row),
                // Each statement ends with one of these.
                Either::Left(_) => all.push(std::mem::take(&mut rows)),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Row, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn each_statement_has_arguments_of_its_own_and_all_run_in_order() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut script = Script::default();
        assert!(script.run(&mut connection).await.unwrap().is_empty(), "an empty one does nothing");
        let text = |text: &str| Argument::Text(text.into());
        script.add("CREATE TABLE t (a, b)", &[]).unwrap();
        script.add("INSERT INTO t VALUES (?2, ?1)", &[text("b"), 1.into()]).unwrap();
        script.add("INSERT INTO t VALUES (?1, ?1) RETURNING a", &[2.into()]).unwrap();
        script.add("UPDATE t SET b = ?1 WHERE a = 2", &[text("c")]).unwrap();
        let returned = script.run(&mut connection).await.unwrap();
        assert_eq!(returned.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1, 0]);
        assert_eq!(returned[2][0].get::<i64, _>(0), 2);
        script.add("SELECT a, b FROM t WHERE a >= ?1", &[1.into()]).unwrap();
        let rows = script.run(&mut connection).await.unwrap();
        let rows: Vec<(i64, String)> = rows[0].iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(rows, [(1, "b".into()), (2, "c".into())], "and nothing of the last one");
        assert!(script.add("SELECT ?2", &[1.into()]).is_err());
    }
}

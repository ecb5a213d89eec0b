//! A transaction in as few calls as can be: it begins with its first statements and is committed with its last.

use std::sync::Arc;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::SqliteStore;
use super::script::{Argument, Script};
use super::writer::{Durability, Writer};
use crate::store::StoreError;

/// The rows of each statement, in order.
pub(super) type Answers = Vec<Vec<SqliteRow>>;

/// A transaction that holds the writer. Dropped before its commit, it is rolled back.
pub(super) struct Work {
    // `None` once it is over.
    writer: Option<OwnedMutexGuard<Writer>>,
    durability: Durability,
    script: Script,
    /// How many of the script's first statements are not the caller's.
    own: usize,
}

impl SqliteStore {
    /// Begins when its first statements run; from then on it may write.
    pub(super) async fn work(&self, durability: Durability) -> Result<Work, StoreError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let opening = writer.opening(durability).await?;
        let mut work = Work { writer: Some(writer), durability, script: Script::default(), own: opening.len() };
        for statement in opening {
            work.script.add(statement, &[])?;
        }
        Ok(work)
    }
}

impl Work {
    /// Adds a statement to those that run next; see [`Script::add`].
    pub(super) fn add(&mut self, statement: &str, arguments: &[Argument]) -> Result<&mut Self, StoreError> {
        self.script.add(statement, arguments)?;
        Ok(self)
    }

    /// What runs next.
    pub(super) fn script(&mut self) -> &mut Script {
        &mut self.script
    }

    /// Runs what was added. After an error everything is rolled back.
    pub(super) async fn run(&mut self) -> Result<Answers, StoreError> {
        let Some(writer) = &mut self.writer else { return Err(over()) };
        match writer.run(&mut self.script, self.durability).await {
            Ok(mut answers) => {
                answers.drain(..std::mem::take(&mut self.own).min(answers.len()));
                Ok(answers)
            }
            Err(error) => {
                self.writer = None;
                Err(error)
            }
        }
    }

    /// Runs what was added, and commits.
    pub(super) async fn commit(mut self) -> Result<Answers, StoreError> {
        let answers = self.add("COMMIT", &[])?.run().await?;
        self.writer = None;
        Ok(answers)
    }

    /// Takes back what has run.
    pub(super) async fn roll_back(mut self) {
        if let Some(mut writer) = self.writer.take() {
            writer.roll_back().await;
        }
    }

    /// The connection in the transaction, for what a script can't carry; something must have [run](Self::run) before.
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.writer.as_mut().ok_or_else(over)?.connection()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        // Whoever waits for the writer gets it after that. Without a runtime nobody does, and SQLite rolls back when the file is
        // closed.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { writer.roll_back().await });
        }
    }
}

fn over() -> StoreError {
    StoreError::Unavailable("its transaction is over".into())
}

//! How a command ends.

use std::fmt;
use std::process::ExitCode;

use crate::store::StoreError;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// All well.
    Well,
    /// Some resources failed, or what was asked for isn't there.
    Failed,
    /// The command can't be carried out: usage, configuration, or a database or address that can't be used.
    Unusable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Well => Self::from(0),
            Exit::Failed => Self::from(1),
            Exit::Unusable => Self::from(2),
        }
    }
}

/// A command's error: one message for a person, and the exit code.
#[derive(Debug)]
pub(super) struct CliError {
    message: String,
    exit: Exit,
}

impl CliError {
    /// Usage or configuration.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Unusable }
    }

    /// What was asked for isn't there.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Failed }
    }

    /// The same for a database that an option named, and not `database.url`.
    pub(super) fn about(self, option: &str) -> Self {
        match self.message.strip_prefix("database.url: ") {
            Some(problem) => Self { message: format!("{option} {problem}"), ..self },
            None => Self { message: format!("{option}: {}", self.message), ..self },
        }
    }

    /// The same with the exit code of what failed, where no other is known.
    pub(super) fn or_failed(self) -> Self {
        Self { exit: Exit::Failed, ..self }
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::usage(error.to_string())
    }
}

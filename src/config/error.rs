//! What is wrong with a configuration, where, and what would be right.

use std::fmt;

/// One thing that is wrong, or (as a warning) probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named, or the environment variable.
    pub file: String,
    /// Line and column in it, both from 1, columns in characters; `None` when it is about the whole of it.
    pub place: Option<(usize, usize)>,
    /// The setting's whole name, like `sources.weather.timeout`; empty when it is about no single setting.
    pub setting: String,
    /// The value as it is written in the file; never what `${env:…}` or `${file:…}` stand for, and no secrets.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: Option<String>,
}

impl ConfigError {
    /// Something that is wrong with a file, or a variable, as a whole.
    pub(super) fn of_file(file: &str, problem: String, remedy: Option<&str>) -> Self {
        Self {
            file: file.into(),
            place: None,
            setting: String::new(),
            value: None,
            problem,
            remedy: remedy.map(str::to_owned),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.setting.is_empty() {
            write!(f, ": {}", self.setting)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}", self.problem)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a configuration, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Puts errors into the order of the file. A wrong default is found once for each source that uses it, and said once.
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        Self(in_order(errors))
    }

    /// The errors.
    #[must_use]
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

/// Sorts by place and drops what was said already.
pub(super) fn in_order(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    errors.sort_by(|a, b| (a.place, &a.setting, &a.problem).cmp(&(b.place, &b.setting, &b.problem)));
    errors.dedup();
    errors
}

impl fmt::Display for ConfigErrors {
    /// One error in each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end_of_last = if index == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

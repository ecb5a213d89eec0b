//! One value of the document, with its name and place.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::environment::{Text, expand};
use super::reader::{Reader, Shows, Spot};

/// What a setting takes, for errors: "a span of time", `"15m"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wants {
    /// What it is.
    pub noun: &'static str,
    /// One as it is written in TOML.
    pub example: &'static str,
}

/// What is wrong with a text, and what would be right where that is not simply the setting's example.
pub(super) struct Wrong {
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: Option<String>,
}

impl Wrong {
    /// A problem that says what would be right, too.
    pub(super) fn with_remedy(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: Some(remedy.into()) }
    }
}

impl From<&str> for Wrong {
    fn from(problem: &str) -> Self {
        Self { problem: problem.into(), remedy: None }
    }
}

impl From<String> for Wrong {
    fn from(problem: String) -> Self {
        Self { problem, remedy: None }
    }
}

impl Wants {
    /// Whether it is a text: its example is one in quotes.
    pub(super) fn is_text(&self) -> bool {
        self.example.starts_with('"')
    }

    /// What would be right.
    pub(super) fn remedy(&self) -> String {
        format!("write it like {}", self.example)
    }
}

/// A value of the document.
#[derive(Clone, Copy)]
pub(super) struct Value<'v> {
    /// The setting's whole name.
    pub path: &'v str,
    /// How much of it errors may show.
    pub shows: Shows,
    /// The value.
    pub node: &'v Spanned<DeValue<'v>>,
}

impl<'v> Value<'v> {
    /// Where it is.
    pub(super) fn spot(&self) -> Spot {
        Spot { path: self.path.into(), span: self.node.span(), shows: self.shows }
    }

    /// Notes that the value is of a wrong type.
    pub(super) fn wrong_type(&self, reader: &mut Reader<'_>, wants: &Wants) {
        let given = match self.node.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        reader.error(&self.spot(), format!("{given}, not {}", wants.noun), wants.remedy());
    }

    /// A text, with everything put in that it refers to.
    pub(super) fn text(&self, reader: &mut Reader<'_>, wants: &Wants) -> Option<Text> {
        let DeValue::String(written) = self.node.get_ref() else {
            self.wrong_type(reader, wants);
            return None;
        };
        match expand(written, reader.environment) {
            // All of a variable's value is from outside; where that may be a secret, it is treated as one.
            Ok(text) => {
                Some(Text { expanded: text.expanded || reader.is_hidden(&self.node.span(), self.shows), ..text })
            }
            Err(Wrong { problem, remedy }) => {
                reader.error(&self.spot(), problem, remedy.unwrap_or_default());
                None
            }
        }
    }

    /// A text, number or truth value as text: numbers with the digits that they are written with.
    pub(super) fn scalar(&self, reader: &mut Reader<'_>, wants: &Wants) -> Option<Text> {
        match self.node.get_ref() {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                let written = reader.written(self.node.span()).replace('_', "");
                Some(Text { text: written, expanded: false })
            }
            _ => self.text(reader, wants),
        }
    }

    /// What `read` makes of the text. Where the text came from outside, the problem that `read` tells is not shown, since
    /// it may quote it.
    pub(super) fn parsed<T>(
        &self,
        reader: &mut Reader<'_>,
        wants: &Wants,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = self.text(reader, wants)?;
        match read(&text.text) {
            Ok(value) => Some(value),
            Err(_) if text.expanded => {
                reader.error(&self.spot(), format!("what it stands for is not {}", wants.noun), wants.remedy());
                None
            }
            Err(Wrong { problem, remedy }) => {
                reader.error(&self.spot(), problem, remedy.unwrap_or_else(|| wants.remedy()));
                None
            }
        }
    }

    /// A whole number of at least 1.
    pub(super) fn count(&self, reader: &mut Reader<'_>, wants: &Wants) -> Option<u32> {
        let DeValue::Integer(integer) = self.node.get_ref() else {
            self.wrong_type(reader, wants);
            return None;
        };
        let problem = match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(..1) => format!("not {}", wants.noun),
            Ok(count) => match u32::try_from(count) {
                Ok(count) => return Some(count),
                Err(_) => format!("more than {}", u32::MAX),
            },
            Err(_) => format!("more than {}", u32::MAX),
        };
        reader.error(&self.spot(), problem, wants.remedy());
        None
    }

    /// A number that `fits`.
    pub(super) fn number(&self, reader: &mut Reader<'_>, wants: &Wants, fits: fn(f64) -> bool) -> Option<f64> {
        let number: Option<f64> = match self.node.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => {
                self.wrong_type(reader, wants);
                return None;
            }
        };
        let number = number.filter(|number| number.is_finite() && fits(*number));
        if number.is_none() {
            reader.error(&self.spot(), format!("not {}", wants.noun), wants.remedy());
        }
        number
    }

    /// True or false.
    pub(super) fn flag(&self, reader: &mut Reader<'_>, wants: &Wants) -> Option<bool> {
        let flag = self.node.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(reader, wants);
        }
        flag
    }

    /// The elements of a list.
    pub(super) fn list(&self, reader: &mut Reader<'_>, wants: &Wants) -> Option<&'v DeArray<'v>> {
        let list = self.node.get_ref().as_array();
        if list.is_none() {
            self.wrong_type(reader, wants);
        }
        list
    }

    /// Whether it is a list without elements.
    pub(super) fn is_empty_list(&self) -> bool {
        self.node.get_ref().as_array().is_some_and(|list| list.is_empty())
    }

    /// The entries of a table.
    pub(super) fn table(&self, reader: &mut Reader<'_>, wants: &Wants) -> Option<&'v DeTable<'v>> {
        let table = self.node.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(reader, wants);
        }
        table
    }
}

/// A name within another, as TOML would write it.
pub(super) fn dotted(path: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

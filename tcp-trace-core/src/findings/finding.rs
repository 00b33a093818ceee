//! What a rule says: a sentence of cause, one of advice, and the numbers that both rest on.

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::time::WallTime;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Which rule found it: a stable word, such as `close_wait_leak`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// Since when, as far as this run can tell; `None` where it may have been so before anything was seen.
    pub since: Option<WallTime>,
    /// What happens, and whose fault it is: one plain sentence.
    pub cause: String,
    /// What to do: one sentence with the command or the setting.
    pub advice: String,
    /// The numbers that say so.
    pub evidence: Vec<Evidence>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nobody has to get up for it.
    Info,
    /// Something is wrong, and connections suffer or will.
    Warning,
    /// Connections fail now, or will before long.
    Critical,
}

impl Severity {
    /// As it is written on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One number, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// What it is, as a short stable phrase.
    pub name: &'static str,
    /// The number.
    pub value: Value,
    /// What it counts or measures: `sockets`, `sockets/min`, `ns`, `share`; empty for a text.
    pub unit: &'static str,
    /// The field of the report that it is, and, where it is computed or inferred, how.
    pub source: &'static str,
}

/// The value of an [`Evidence`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// How many, or nanoseconds.
    Count(u64),
    /// A share, a rate.
    Real(f64),
    /// A name: an endpoint, an errno, a setting.
    Text(String),
    /// It is not known.
    Unknown,
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

/// To the thousandth: more digits would claim more than is known.
impl From<f64> for Value {
    fn from(real: f64) -> Self {
        if real.is_finite() { Self::Real((real * 1e3).round() / 1e3) } else { Self::Unknown }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Into::into)
    }
}

impl Evidence {
    /// One number.
    pub(super) fn new(
        name: &'static str,
        value: impl Into<Value>,
        unit: &'static str,
        source: &'static str,
    ) -> Self {
        Self { name, value: value.into(), unit, source }
    }
}

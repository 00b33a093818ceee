//! What the live tests said about one kernel, read from the lines that they and the guest's first process
//! write.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::job::Word;

/// Names, to the tests, the file that results go to.
pub(crate) const VARIABLE: &str = "TCP_TRACE_TEST_RESULTS";

/// One kernel's column.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// What the kernel calls itself.
    pub(super) release: String,
    pub(super) outcomes: BTreeMap<String, Outcome>,
    /// What tcp-trace could not have on this kernel: a feature and the reason.
    pub(super) degradations: Vec<(String, String)>,
    /// Whatever went wrong outside the tests.
    pub(super) troubles: Vec<String>,
}

/// What became of a test.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub(super) enum Outcome {
    Passed,
    Failed { reason: String },
    Skipped { reason: String, cause: Cause },
}

/// Why a test was skipped; `tcp-trace/tests/live/requirements.rs` decides that.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cause {
    Privileges,
    Kernel,
    Machine,
}

/// Any line.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Test {
        test: String,
        #[serde(flatten)]
        outcome: Outcome,
    },
    Kernel {
        kernel: String,
    },
    Word(Word),
}

/// Whether a guest has come to its end, well or badly: one that panics is off without a last word.
pub(super) fn ended(lines: &str) -> bool {
    Column::default().read(lines).is_some()
}

impl Column {
    /// Reads the lines of a guest, the last of which tells how its tests ended.
    pub(super) fn of_guest(lines: &str) -> Self {
        let mut column = Self::default();
        let trouble = match column.read(lines) {
            None => Some("the tests did not come to their end".to_owned()),
            // libtest-mimic ends with 101 if a test has failed.
            Some(101) if column.has_failures() => None,
            Some(0) if !column.has_failures() => None,
            Some(code) => Some(format!("the test program ended with {code}")),
        };
        column.troubles.extend(trouble);
        column
    }

    /// Reads the lines that the tests wrote on the host itself.
    pub(super) fn of_host(lines: &str) -> Self {
        let mut column = Self::default();
        column.read(lines);
        column
    }

    /// Returns the exit code of the tests, if it came.
    fn read(&mut self, lines: &str) -> Option<i32> {
        let mut end = None;
        for line in lines.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Test { test, outcome }) => _ = self.outcomes.insert(test, outcome),
                Ok(Line::Kernel { kernel }) => self.release = kernel,
                Ok(Line::Word(Word::Trouble(trouble))) => self.troubles.push(trouble),
                Ok(Line::Word(Word::End(code))) => end = Some(code),
                Ok(Line::Word(Word::Report(report))) => self.degradations = degradations(&report),
                // A guest that is switched off may have come to the middle of a line.
                Err(error) => self.troubles.push(format!("a line that is no result ({error}): {line}")),
            }
        }
        end
    }

    fn has_failures(&self) -> bool {
        self.outcomes.values().any(|outcome| matches!(outcome, Outcome::Failed { .. }))
    }
}

fn degradations(report: &Value) -> Vec<(String, String)> {
    let entries = report["source"]["degradations"].as_array().into_iter().flatten();
    let text = |entry: &Value, key| entry[key].as_str().unwrap_or("?").to_owned();
    entries.map(|entry| (text(entry, "feature"), text(entry, "reason"))).collect()
}

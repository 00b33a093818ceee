//! Tests and kernels side by side, and what is wrong with that picture.

use std::{collections::BTreeSet, fmt};

use super::results::{Cause, Column, Outcome};

/// All that was run.
#[derive(Debug)]
pub(super) struct Matrix {
    /// What stands above a column, and the column.
    pub(super) columns: Vec<(&'static str, Column)>,
    /// Whether all tests were run on all kernels, so that what ran nowhere is forgotten.
    pub(super) complete: bool,
}

/// Above the column of this machine's own kernel.
pub(super) const HOST: &str = "host";

impl Matrix {
    fn tests(&self) -> BTreeSet<&str> {
        self.columns.iter().flat_map(|(_, column)| column.outcomes.keys().map(String::as_str)).collect()
    }

    /// Everything that must not be, as sentences.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, column) in &self.columns {
            faults.extend(column.troubles.iter().map(|trouble| format!("{name}: {trouble}")));
            let tests = self.tests().into_iter();
            let found = tests.filter_map(|test| Some((test, fault(name, column.outcomes.get(test))?)));
            faults.extend(found.map(|(test, fault)| format!("{name}: {test}: {fault}")));
        }
        let idle = self.tests().into_iter().filter(|test| self.complete && !self.runs_somewhere(test));
        faults.extend(idle.map(|test| format!("{test}: skipped on every kernel, so it tests nothing")));
        if self.tests().is_empty() {
            faults.push("no test was run; is there one with such a name?".to_owned());
        }
        faults
    }

    fn runs_somewhere(&self, test: &str) -> bool {
        let mut outcomes = self.columns.iter().filter_map(|(_, column)| column.outcomes.get(test));
        outcomes.any(|outcome| !matches!(outcome, Outcome::Skipped { .. }))
    }

    /// A list of the skips: the reason, and where it held.
    fn skips(&self) -> Vec<(&str, &str, Vec<&str>)> {
        let mut skips: Vec<(&str, &str, Vec<&str>)> = Vec::new();
        for test in self.tests() {
            for (name, column) in &self.columns {
                let Some(Outcome::Skipped { reason, .. }) = column.outcomes.get(test) else { continue };
                match skips.iter_mut().find(|(other, why, _)| (*other, *why) == (test, reason)) {
                    Some((_, _, names)) => names.push(name),
                    None => skips.push((test, reason, vec![name])),
                }
            }
        }
        skips
    }
}

/// What is wrong with a test on a kernel.
fn fault(kernel: &str, outcome: Option<&Outcome>) -> Option<String> {
    match outcome {
        None => Some("was not run".to_owned()),
        Some(Outcome::Failed { reason }) => Some(shortened(reason)),
        Some(Outcome::Skipped { reason, cause: Cause::Privileges }) if kernel != HOST => {
            Some(format!("root of a guest may everything, but: {reason}"))
        }
        Some(Outcome::Passed | Outcome::Skipped { .. }) => None,
    }
}

/// The beginning of a text, in one line; the whole stands on the guest's console.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 240;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{} …", line.split_at(end).0),
        None => line,
    }
}

fn symbol(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "ok",
        Some(Outcome::Failed { .. }) => "FAILED",
        Some(Outcome::Skipped { .. }) => "-",
        None => "?",
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tests = self.tests();
        let width = tests.iter().map(|test| test.len()).max().unwrap_or(0).max(4);
        write!(f, "{:width$}", "TEST")?;
        for (name, _) in &self.columns {
            write!(f, "  {name:6}")?;
        }
        writeln!(f)?;
        for test in tests {
            write!(f, "{test:width$}")?;
            for (_, column) in &self.columns {
                write!(f, "  {:6}", symbol(column.outcomes.get(test)))?;
            }
            writeln!(f)?;
        }
        let skips = self.skips();
        if !skips.is_empty() {
            writeln!(f, "skipped:")?;
        }
        for (test, reason, kernels) in skips {
            writeln!(f, "  {test} ({}): {reason}", kernels.join(", "))?;
        }
        writeln!(f, "kernels, and what tcp-trace could not have there:")?;
        for (name, Column { release, degradations, .. }) in &self.columns {
            writeln!(f, "  {name}: {release}")?;
            for (feature, reason) in degradations {
                writeln!(f, "    {feature}: {reason}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::results, *};

    fn matrix(columns: &[(&'static str, &str)]) -> Matrix {
        let columns = columns.iter().map(|(name, lines)| (*name, Column::of_guest(lines))).collect();
        Matrix { columns, complete: true }
    }

    const OLD: &str = r#"{"kernel":"5.10.1"}
{"report":{"source":{"degradations":[{"feature":"tp_btf","reason":"too old","remedy":"a newer kernel"}]}}}
{"test":"a","outcome":"passed","seconds":1.5}
{"test":"b","outcome":"skipped","seconds":0,"reason":"needs x, first in kernel 6.1","cause":"kernel"}
{"test":"c","outcome":"skipped","seconds":0,"reason":"needs y: none here","cause":"machine"}
{"end":0}
"#;

    #[test]
    fn a_clean_matrix_has_no_fault() {
        let new = OLD.replace("5.10.1", "6.1.2").replace(r#""skipped""#, r#""passed""#);
        let matrix = matrix(&[("5.10", OLD), ("6.1", &new)]);
        assert_eq!(matrix.faults(), [""; 0]);
        assert_eq!(
            matrix.to_string(),
            "TEST  5.10    6.1   \n\
             a     ok      ok    \n\
             b     -       ok    \n\
             c     -       ok    \n\
             skipped:\n  b (5.10): needs x, first in kernel 6.1\n  c (5.10): needs y: none here\n\
             kernels, and what tcp-trace could not have there:\n  5.10: 5.10.1\n    tp_btf: too old\n\
             \x20 6.1: 6.1.2\n    tp_btf: too old\n"
        );
    }

    #[test]
    fn what_runs_nowhere_is_a_fault() {
        let faults = matrix(&[("5.10", OLD)]).faults();
        assert_eq!(
            faults,
            ["b", "c"].map(|test| format!("{test}: skipped on every kernel, so it tests nothing"))
        );
    }

    #[test]
    fn a_guest_that_dies_is_a_fault() {
        let new = r#"{"kernel":"6.1.2"}
{"test":"a","outcome":"failed","seconds":1.5,"reason":"1 is not 2"}
{"test":"b","outcome":"passed","seconds":1.5}
"#;
        assert_eq!(
            matrix(&[("5.10", OLD), ("6.1", new)]).faults(),
            [
                "6.1: the tests did not come to their end",
                "6.1: a: 1 is not 2",
                "6.1: c: was not run",
                "c: skipped on every kernel, so it tests nothing"
            ]
        );
    }

    #[test]
    fn a_guest_that_panics_has_no_last_word() {
        assert!(results::ended(OLD));
        assert!(!results::ended(&OLD.replace("{\"end\":0}", "{\"test\":\"c\",\"outc")));
    }

    #[test]
    fn an_exit_code_must_fit() {
        let lines = "{\"test\":\"a\",\"outcome\":\"passed\",\"seconds\":1}\r\n{\"end\":139}\r\n";
        assert_eq!(matrix(&[("6.1", lines)]).faults(), ["6.1: the test program ended with 139"]);
    }
}

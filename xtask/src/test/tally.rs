//! Counting what libtest and libtest-mimic print.

use std::{fmt, process::ExitStatus};

/// What all the tests together did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    skipped: u64,
    /// Names, with the reason for each if the test gave one.
    skips: Vec<String>,
    failures: Vec<String>,
}

impl Tally {
    pub(crate) fn total(&self) -> u64 {
        self.passed + self.failed
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// Counts a test program that ended badly without saying that a test failed: it crashed, or did not compile.
    pub(crate) fn broke(&mut self, command: &str, status: ExitStatus) {
        self.failed += 1;
        self.failures.push(format!("`{command}` ended with {status}"));
    }

    /// Takes note of a line of output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.add_up(result);
        } else if let Some((name, outcome)) =
            line.strip_prefix("test ").and_then(|test| test.split_once(" ... "))
        {
            self.note(name.trim_end(), outcome);
        }
    }

    /// Reads `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s`.
    fn add_up(&mut self, result: &str) {
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for (count, what) in counts.split("; ").filter_map(|part| part.split_once(' ')) {
            let count = count.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }

    /// libtest writes `ignored, reason`, libtest-mimic `ignored (reason)`. What a test itself wrote to stdout may
    /// come before the outcome.
    fn note(&mut self, name: &str, outcome: &str) {
        if let Some((_, reason)) = outcome.split_once("ignored") {
            let reason = reason.strip_prefix(", ").unwrap_or(reason.trim_start());
            let reason =
                reason.strip_prefix('(').and_then(|reason| reason.strip_suffix(')')).unwrap_or(reason);
            self.skips
                .push(format!("{name}: {}", if reason.is_empty() { "no reason given" } else { reason }));
        } else if outcome.ends_with("FAILED") {
            self.failures.push(name.to_owned());
        }
    }
}

/// The summary; its last line is the verdict, alone.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, skips, failures } = self;
        for (title, names) in [("skipped", skips), ("failed", failures)] {
            if !names.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for name in names {
                writeln!(f, "  {name}")?;
            }
        }
        writeln!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, expected: &str) {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        assert_eq!(tally.to_string(), expected);
    }

    #[test]
    fn adds_up_several_test_programs() {
        check(
            "running 2 tests\n\
             test a ... ok\n\
             test b ... ignored, takes an hour\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test close_wait ... ignored (needs root)\n\
             test reset      ... FAILED\n\
             test result: FAILED. 0 passed; 1 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s\n",
            "skipped:\n  b: takes an hour\n  close_wait: needs root\nfailed:\n  reset\n\
             1 passed, 1 failed, 2 skipped\n",
        );
    }

    #[test]
    fn doc_tests_and_reasons_with_brackets() {
        check(
            "test src/lib.rs - Tracker (line 3) ... ignored\n\
             test vm ... ignored (kernel 5.4 (too old))\n\
             test result: ok. 0 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s\n",
            "skipped:\n  src/lib.rs - Tracker (line 3): no reason given\n  vm: kernel 5.4 (too old)\n\
             0 passed, 0 failed, 2 skipped\n",
        );
    }
}

//! What a run of libFuzzer came to, by what it says.

use std::{collections::VecDeque, fmt};

/// Lines that are kept, for a target that ends otherwise than it should.
const KEPT: usize = 60;

/// What a target came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    target: String,
    pub(super) executions: u64,
    /// Places of the code that were reached.
    coverage: u64,
    /// Inputs that each reach something that the others do not.
    corpus: u64,
    /// The file with the input that was found, and how it showed.
    pub(super) finding: Option<String>,
    reason: Option<String>,
    last: VecDeque<String>,
}

impl Outcome {
    pub(super) fn new(target: &str) -> Self {
        let last = VecDeque::new();
        Self {
            target: target.to_owned(),
            executions: 0,
            coverage: 0,
            corpus: 0,
            finding: None,
            reason: None,
            last,
        }
    }

    /// Takes a line of what libFuzzer writes.
    pub(super) fn read(&mut self, line: &str) {
        let number = |text: &str| text.trim().split(['/', ' ']).next()?.parse().ok();
        if let Some(executions) = line.strip_prefix("stat::number_of_executed_units:").and_then(number) {
            self.executions = executions;
        } else if line.starts_with('#') {
            let words: Vec<_> = line.split_whitespace().collect();
            let after = |name: &str| {
                let at = words.iter().position(|word| *word == name)?;
                number(words.get(at + 1)?)
            };
            self.executions =
                line.strip_prefix('#').and_then(|rest| number(rest.split('\t').next()?)).unwrap_or(0);
            self.coverage = after("cov:").unwrap_or(self.coverage);
            self.corpus = after("corp:").unwrap_or(self.corpus);
        } else if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.finding = Some(file.trim().to_owned());
        } else if line.contains("panicked at") || line.contains("ERROR: libFuzzer") {
            self.reason.get_or_insert_with(|| line.trim().to_owned());
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    pub(super) fn last_lines(&self) -> String {
        self.last.iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, executions, coverage, corpus, finding, reason, last: _ } = self;
        write!(f, "{target}: {executions} executions, {coverage} places reached, {corpus} inputs kept")?;
        if let Some(file) = finding {
            let reason = reason.as_deref().unwrap_or("");
            writeln!(f, "\n  FOUND: {reason}")?;
            write!(f, "{}  again: cargo xtask fuzz --input {file} {target}", self.last_lines())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_counted_and_its_finding_named() {
        let mut outcome = Outcome::new("btf");
        for line in [
            "INFO: Seed: 1",
            "#1024\tpulse  cov: 120 ft: 300 corp: 40/2Kb lim: 80 exec/s: 512 rss: 40Mb",
            "thread '<unnamed>' panicked at src/btf.rs:1:2:",
            "SUMMARY: libFuzzer: deadly signal",
            "artifact_prefix='/f/'; Test unit written to /f/crash-1",
            "stat::number_of_executed_units: 2048",
        ] {
            outcome.read(line);
        }
        let Outcome { executions, coverage, corpus, .. } = outcome;
        assert_eq!((executions, coverage, corpus), (2048, 120, 40));
        assert_eq!(outcome.finding.as_deref(), Some("/f/crash-1"));
        let text = outcome.to_string();
        assert!(text.contains("panicked at") && text.contains("--input /f/crash-1 btf"), "{text}");
    }
}

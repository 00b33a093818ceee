//! What every part has in common: the program, how long, how often.

use std::{path::PathBuf, sync::Mutex, time::Duration};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use tcp_trace_testkit::{
    NetNs,
    workload::{Churn, ChurnPlan, churn_for},
};

use crate::{
    candidates::{Candidate, Ready},
    child::{Options, Running},
    table::Table,
};

/// What tcp-trace says on standard error when it is attached.
pub(crate) const ATTACHED: &str = "tracing by";

/// The exit code of a program that was given arguments which it does not know.
const USAGE: i32 = 2;

/// A run of the benchmarks.
#[derive(Debug)]
pub(crate) struct Bench {
    /// tcp-trace.
    pub(crate) program: PathBuf,
    pub(crate) rounds: usize,
    /// Tiny loads, to see that everything works.
    pub(crate) quick: bool,
    /// How long a soak takes.
    pub(crate) soak: Duration,
    /// Which arguments tcp-trace was found to know.
    known: Mutex<Vec<(Vec<String>, bool)>>,
}

/// What a part has found out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tables: Vec<Table>,
    /// What could not be measured here, and why.
    pub(crate) lacks: Vec<String>,
    /// What should have worked and did not.
    pub(crate) failures: Vec<String>,
    /// For machines.
    pub(crate) figures: Value,
    pub(crate) budgets: Vec<Budget>,
}

/// A promise, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Budget {
    pub(crate) what: String,
    pub(crate) limit: String,
    pub(crate) found: String,
    pub(crate) kept: bool,
}

impl Budget {
    /// At most so much.
    pub(crate) fn at_most(what: &str, limit: f64, found: f64, unit: &str) -> Self {
        Self::new(what, "≤", limit, found, unit, found <= limit)
    }

    /// At least so much.
    pub(crate) fn at_least(what: &str, limit: f64, found: f64, unit: &str) -> Self {
        Self::new(what, "≥", limit, found, unit, found >= limit)
    }

    fn new(what: &str, sign: &str, limit: f64, found: f64, unit: &str, kept: bool) -> Self {
        let shown = |value: f64| format!("{} {unit}", crate::table::number(value)).trim_end().to_owned();
        Self { what: what.to_owned(), limit: format!("{sign} {}", shown(limit)), found: shown(found), kept }
    }
}

impl Bench {
    pub(crate) fn new(program: PathBuf, rounds: usize, quick: bool, soak: Duration) -> Self {
        Self { program, rounds, quick, soak, known: Mutex::default() }
    }

    /// So long, or a moment if it is to be quick.
    pub(crate) fn seconds(&self, seconds: u64) -> Duration {
        if self.quick { Duration::from_millis(200) } else { Duration::from_secs(seconds) }
    }

    /// One of two, by whether it is to be quick.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Starts tcp-trace, and returns when it is attached.
    pub(crate) fn tcp_trace(&self, arguments: &[&str]) -> Result<Running> {
        let mut running = self.begin(arguments)?;
        running.wait_for(ATTACHED)?;
        Ok(running)
    }

    /// Starts tcp-trace.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Result<Running> {
        Running::start(&self.program, arguments, Options { stdout: true, ..Options::default() })
    }

    /// Whether tcp-trace knows these arguments of `report`. It is tried, once.
    pub(crate) fn understands(&self, arguments: &[&str]) -> bool {
        let Ok(mut known) = self.known.lock() else { return false };
        if let Some((_, answer)) = known.iter().find(|(tried, _)| tried == arguments) {
            return *answer;
        }
        let trial = [&["report", "--json", "--duration", "1ms"], arguments].concat();
        let ended = self.begin(&trial).and_then(Running::wait);
        let answer = ended.is_ok_and(|ended| ended.status.code() != Some(USAGE));
        known.push((arguments.iter().map(|&argument| argument.to_owned()).collect(), answer));
        answer
    }

    /// Those candidates that this host has; what is missing is noted.
    pub(crate) fn ready<'a>(
        &self,
        candidates: impl IntoIterator<Item = &'a Candidate>,
        outcome: &mut Outcome,
    ) -> Vec<Ready> {
        let mut ready = Vec::new();
        for candidate in candidates {
            match candidate.ready(self) {
                Ok(found) => ready.push(found),
                Err(missing) => outcome.lacks.push(missing),
            }
        }
        ready
    }

    /// Arguments that make tcp-trace stream, whatever it would choose by itself.
    pub(crate) fn streaming(&self) -> &'static [&'static str] {
        const STREAM: &[&str] = &["--mode", "stream"];
        if self.understands(STREAM) { STREAM } else { &[] }
    }
}

/// As many connections as two cores make.
pub(crate) fn churn(ns: &NetNs, duration: Duration) -> Result<Churn> {
    Ok(churn_for(ns, duration, &ChurnPlan::default())?)
}

/// Says what is going on, for people who wait.
pub(crate) fn say(what: &str) {
    eprintln!("bench: {what}");
}

//! What every part has in common: the program, how much, what was found.

use std::{fmt::Display, path::PathBuf};

use anyhow::{Result, ensure};
use serde_json::Value;
use tcp_trace_testkit::NetNs;

use crate::child::{Ended, Running};

/// A run of the comparisons.
#[derive(Debug)]
pub(crate) struct Check {
    /// tcp-trace.
    pub(crate) program: PathBuf,
    pub(crate) transitions: u64,
    /// Connections a second.
    pub(crate) rate: u32,
    /// Looks.
    pub(crate) samples: u64,
    /// Small loads, to see that everything works.
    pub(crate) quick: bool,
}

/// What a part has found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What was counted, and how often.
    pub(crate) figures: Vec<(String, String)>,
    /// Differences of which a third witness shows who is right, and that it is not the other.
    pub(crate) explained: Vec<String>,
    /// What could not be compared here, and why.
    pub(crate) lacks: Vec<String>,
    /// Whatever else differs.
    pub(crate) differences: Vec<String>,
}

/// So many differences are told one by one.
const TOLD: usize = 20;

impl Outcome {
    pub(crate) fn figure(&mut self, what: impl Into<String>, value: impl Display) {
        self.figures.push((what.into(), value.to_string()));
    }

    pub(crate) fn explain(&mut self, text: impl Into<String>) {
        self.explained.push(text.into());
    }

    pub(crate) fn lack(&mut self, text: impl Into<String>) {
        self.lacks.push(text.into());
    }

    pub(crate) fn difference(&mut self, text: impl Into<String>) {
        match self.differences.len() {
            0..TOLD => self.differences.push(text.into()),
            TOLD => self.differences.push("… and more".to_owned()),
            _ => {}
        }
    }

    /// Both numbers are shown, and must be equal.
    pub(crate) fn equal(&mut self, what: &str, ours: u64, theirs: u64) {
        if ours == theirs {
            self.figure(what, format!("{ours} = {theirs}"));
        } else {
            self.figure(what, format!("{ours} ≠ {theirs}"));
            self.difference(format!("{what}: tcp-trace has {ours}, the witness {theirs}"));
        }
    }

    pub(crate) fn holds(&mut self, what: &str, holds: bool) {
        if !holds {
            self.difference(format!("not so: {what}"));
        }
    }
}

impl Check {
    /// Starts tcp-trace, and returns when it is attached.
    pub(crate) fn tcp_trace(&self, arguments: &[&str]) -> Result<Running> {
        let mut running = self.begin(arguments)?;
        running.wait_for("tracing by")?;
        Ok(running)
    }

    /// Starts tcp-trace.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = std::process::Command::new(&self.program);
        Running::start(command.args(arguments))
    }

    /// Runs tcp-trace to its end; the JSON document that it prints.
    pub(crate) fn document(&self, arguments: &[&str]) -> Result<Value> {
        self.begin(arguments)?.wait()?.succeeded()?.json()
    }

    /// The sockets of a namespace, now.
    pub(crate) fn snapshot(&self, ns: &NetNs) -> Result<Vec<Value>> {
        let inum = ns.inum().to_string();
        let mut document = self.document(&["snapshot", "--sockets", "--json", "--netns", &inum])?;
        // A process of this host that may not be looked at is not in the namespaces that are compared.
        let mut lacks = document["degradations"].as_array().into_iter().flatten();
        ensure!(!lacks.any(|lack| lack["feature"] == "sockets"), "{}", document["degradations"]);
        match document["sockets"].take() {
            Value::Array(sockets) => Ok(sockets),
            other => anyhow::bail!("`sockets` is {other}"),
        }
    }
}

/// Nothing was lost, and the sums are right.
pub(crate) fn is_whole(report: &Value, outcome: &mut Outcome) {
    let loss = &report["loss"];
    outcome.holds(
        &format!("nothing was lost, and all is balanced: {loss}"),
        loss["lost"] == 0 && loss["balanced"] == true,
    );
}

/// A tcp-trace that has ended as it should.
pub(crate) fn stop(running: Running) -> Result<Ended> {
    running.stop()?.succeeded()
}

/// Says what is going on, for people who wait.
pub(crate) fn say(what: &str) {
    eprintln!("crosscheck: {what}");
}

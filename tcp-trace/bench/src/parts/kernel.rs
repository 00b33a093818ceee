//! What a transition costs in the kernel: the run time of the programs, as the kernel itself measures it.
//!
//! An empty program is attached all the time. How often it ran is the number of transitions, whoever caused them; how
//! long is what calling and measuring a program costs. Both come from the same seconds as what they are compared with.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::sys::{Stats, enable_stats};
use serde_json::json;
use tcp_trace_testkit::NetNs;

use crate::{
    bench::{Bench, Budget, Outcome, churn, say},
    candidates::{COUNT, LEANEST, MODES, REFERENCES, Ready, STREAM, TCPSTATES, TOOLS},
    programs::{self, Usage},
    reference::{Reference, Which},
    stats::{Summary, order},
    table::{Table, UNKNOWN, number},
    truth::transitions,
};

/// One turn of one candidate.
struct Sample {
    /// By the empty program.
    transitions: f64,
    /// Of those, made by the load.
    own: f64,
    /// Nanoseconds per transition.
    empty: f64,
    /// Of all of its programs, nanoseconds per transition, and runs per transition.
    shares: BTreeMap<String, (f64, f64)>,
}

impl Sample {
    fn total(&self) -> f64 {
        self.shares.values().map(|(ns, _)| ns).sum()
    }

    /// Over the empty program.
    fn net(&self) -> f64 {
        self.total() - self.empty
    }

    /// Over an empty program for each of its own: without what timing each of them costs.
    fn untimed(&self) -> f64 {
        let runs: f64 = self.shares.values().map(|(_, runs)| runs).sum();
        self.total() - runs * self.empty
    }
}

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let candidates = bench.ready(REFERENCES.iter().chain(&MODES).chain(&TOOLS), &mut outcome);
    // It stays on as long as this descriptor is open, and not longer, however this program ends.
    let _statistics =
        enable_stats(Stats::RunTime).context("switching the kernel's BPF statistics on (5.8)")?;
    let empty = Reference::attach(Which::Empty)?;
    let ns = NetNs::new()?;
    churn(&ns, bench.seconds(1))?;
    let mut samples: Vec<Vec<Sample>> = candidates.iter().map(|_| Vec::new()).collect();
    for round in 0..bench.rounds {
        say(&format!("kernel: round {} of {}", round + 1, bench.rounds));
        for turn in order(candidates.len(), round) {
            let (Some(candidate), Some(samples)) = (candidates.get(turn), samples.get_mut(turn)) else {
                continue;
            };
            match measure(candidate, &empty, &ns, bench.seconds(2)) {
                Ok(sample) => samples.push(sample),
                // The others are none the worse for it.
                Err(error) => outcome.failures.push(format!("{}: {error:#}", candidate.name)),
            }
        }
    }
    let named: Vec<(&str, Vec<Sample>)> =
        candidates.iter().map(|candidate| candidate.name).zip(samples).collect();
    outcome.tables = vec![cost_table(&named), share_table(&named)];
    outcome.budgets = budgets(&named);
    outcome.figures = figures(&named);
    Ok(outcome)
}

fn measure(candidate: &Ready, empty: &Reference, ns: &NetNs, duration: Duration) -> Result<Sample> {
    let active = candidate.start(&[])?;
    let ids = active.programs()?;
    let read = || -> Result<(BTreeMap<u32, Usage>, Usage)> {
        let mut usage = programs::of_process(active.pid())?;
        usage.retain(|id, _| ids.contains(id));
        let own = programs::of_process(std::process::id())?;
        Ok((usage, own.get(&empty.id).copied().unwrap_or_default()))
    };
    let (before, empty_before) = read()?;
    let churn = churn(ns, duration)?;
    let (after, empty_after) = read()?;
    let names = programs::names();
    active.stop()?;
    let empty = empty_after.since(empty_before);
    ensure!(empty.runs > 0, "no transition was seen");
    let each = 1.0 / empty.runs as f64;
    let mut shares: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (id, usage) in &after {
        let usage = usage.since(before.get(id).copied().unwrap_or_default());
        let name = names.get(id).cloned().unwrap_or_else(|| format!("program {id}"));
        let share = shares.entry(name).or_default();
        share.0 += usage.ns as f64 * each;
        share.1 += usage.runs as f64 * each;
    }
    let (transitions, own) = (empty.runs as f64, transitions(&churn) as f64);
    Ok(Sample { transitions, own, empty: empty.ns as f64 * each, shares })
}

fn summary(samples: &[Sample], of: fn(&Sample) -> f64) -> Option<Summary> {
    Summary::of(samples.iter().map(of))
}

fn net_of(named: &[(&str, Vec<Sample>)], wanted: &str) -> Option<f64> {
    let (_, samples) = named.iter().find(|(name, _)| *name == wanted)?;
    Some(summary(samples, Sample::net)?.median)
}

fn cost_table(named: &[(&str, Vec<Sample>)]) -> Table {
    let columns = ["programs", "ns", "min–max", "net", "× leanest", "tcpstates ÷ it", "net of each run"];
    let mut table = Table::new("Kernel cost of a transition", &columns);
    let all = || named.iter().flat_map(|(_, samples)| samples);
    if let Some(empty) = Summary::of(all().map(|sample| sample.empty)) {
        let range = format!("{}–{}", number(empty.min), number(empty.max));
        let none = || UNKNOWN.to_owned();
        let zero = || "0".to_owned();
        table.row(["empty program".into(), number(empty.median), range, zero(), none(), none(), zero()]);
    }
    let (leanest, tcpstates) = (net_of(named, LEANEST), net_of(named, TCPSTATES));
    for (name, samples) in named {
        let (Some(total), Some(net)) = (summary(samples, Sample::total), summary(samples, Sample::net))
        else {
            continue;
        };
        // A ratio to next to nothing says nothing.
        let ratio = |above: Option<f64>, below: Option<f64>| match above.zip(below) {
            Some((above, below)) if below > 5.0 && above > 0.0 => number(above / below),
            _ => UNKNOWN.to_owned(),
        };
        let range = format!("{}–{}", number(total.min), number(total.max));
        let times = ratio(Some(net.median), leanest);
        let below = ratio(tcpstates, Some(net.median));
        let untimed = summary(samples, Sample::untimed).map_or(UNKNOWN.into(), |ns| number(ns.median));
        table.row([
            (*name).to_owned(),
            number(total.median),
            range,
            number(net.median),
            times,
            below,
            untimed,
        ]);
    }
    let foreign = Summary::of(all().map(|sample| 100.0 * (1.0 - sample.own / sample.transitions)));
    if let (Some(foreign), Some(count)) = (foreign, Summary::of(all().map(|sample| sample.transitions))) {
        table.note(format!(
            "Medians of {} rounds of about {} transitions; {} % of them were not of the load (at most {} %).",
            named.iter().map(|(_, samples)| samples.len()).max().unwrap_or(0),
            number(count.median),
            number(foreign.median),
            number(foreign.max),
        ));
    }
    table
}

fn share_table(named: &[(&str, Vec<Sample>)]) -> Table {
    let columns = ["candidate: program", "ns per transition", "ns per run", "runs per transition"];
    let mut table = Table::new("The same, program by program", &columns);
    for (name, samples) in named {
        let programs: std::collections::BTreeSet<&String> =
            samples.iter().flat_map(|sample| sample.shares.keys()).collect();
        for program in programs {
            let of = |pick: fn(&(f64, f64)) -> f64| {
                Summary::of(samples.iter().filter_map(|sample| sample.shares.get(program)).map(pick))
            };
            let (Some(ns), Some(runs)) = (of(|share| share.0), of(|share| share.1)) else { continue };
            if runs.max > 0.0 {
                let each = number(ns.median / runs.median);
                table.row([format!("{name}: {program}"), number(ns.median), each, number(runs.median)]);
            }
        }
    }
    table
}

fn budgets(named: &[(&str, Vec<Sample>)]) -> Vec<Budget> {
    let [stream, count, leanest, tcpstates] =
        [STREAM, COUNT, LEANEST, TCPSTATES].map(|name| net_of(named, name));
    // The others have one program, so that both ways are the same for them.
    let untimed = named.iter().find(|(name, _)| *name == STREAM);
    let untimed = untimed.and_then(|(_, samples)| summary(samples, Sample::untimed)).map(|ns| ns.median);
    let mut budgets = Vec::new();
    if let Some((stream, leanest)) = untimed.zip(leanest) {
        let what = "stream over the leanest stream, net of each run";
        budgets.push(Budget::at_most(what, 2.0, stream / leanest, "×"));
    }
    if let Some((stream, leanest)) = stream.zip(leanest) {
        let what = "stream over the leanest stream, net of one run";
        budgets.push(Budget::at_most(what, 2.0, stream / leanest, "×"));
    }
    if let Some((stream, tcpstates)) = untimed.zip(tcpstates) {
        budgets.push(Budget::at_least(
            "tcpstates over stream, net of each run",
            25.0,
            tcpstates / stream,
            "×",
        ));
    }
    if let Some((stream, tcpstates)) = stream.zip(tcpstates) {
        budgets.push(Budget::at_least(
            "tcpstates over stream, net of one run",
            25.0,
            tcpstates / stream,
            "×",
        ));
    }
    budgets.extend(count.map(|count| Budget::at_most("count only, net", 10.0, count, "ns")));
    budgets
}

fn figures(named: &[(&str, Vec<Sample>)]) -> serde_json::Value {
    let of = |(name, samples): &(&str, Vec<Sample>)| {
        let rounds = samples.iter().map(|sample| {
            let programs: BTreeMap<_, _> = sample
                .shares
                .iter()
                .map(|(name, (ns, runs))| {
                    (name, json!({"ns_per_transition": ns, "runs_per_transition": runs}))
                })
                .collect();
            json!({
                "transitions": sample.transitions, "transitions_of_the_load": sample.own,
                "empty_ns": sample.empty, "total_ns": sample.total(), "net_ns": sample.net(),
                "net_of_each_run_ns": sample.untimed(), "programs": programs
            })
        });
        json!({
            "candidate": name, "rounds": rounds.collect::<Vec<_>>(),
            "total_ns": summary(samples, Sample::total), "net_ns": summary(samples, Sample::net),
            "net_of_each_run_ns": summary(samples, Sample::untimed),
        })
    };
    json!({"candidates": named.iter().map(of).collect::<Vec<_>>()})
}

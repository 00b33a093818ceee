//! `report` for a long time: also whether owners are right to the end.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Deserializer, Value, json};
use tcp_trace_testkit::{NetNs, workload::Churn};

use super::{Sample, Sum, flat, growth, table, watch};
use crate::{
    bench::{Bench, Budget, Outcome, churn},
    table::grouped,
    truth::transitions,
};

pub(in crate::parts) fn run(bench: &Bench) -> Result<Outcome> {
    let ns = NetNs::new()?;
    let netns = ns.inum().to_string();
    let (every, interval) =
        bench.pick((Duration::from_secs(10), "10s"), (Duration::from_millis(200), "500ms"));
    let arguments = ["report", "--json", "--interval", interval, "--netns", &netns];
    let running = bench.tcp_trace(&[&arguments, bench.streaming()].concat())?;
    let (churn, samples) = thread::scope(|scope| {
        let load = scope.spawn(|| churn(&ns, bench.soak));
        let samples = watch(&running, every, || load.is_finished());
        let churn = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, anyhow::Error>((churn?, samples?))
    })?;
    let ended = running.stop()?;
    let reports = Deserializer::from_slice(&ended.stdout).into_iter::<Value>();
    let reports = reports.collect::<Result<Vec<_>, _>>().context("reading the reports")?;
    Ok(outcome(&samples, &reports, &churn))
}

/// Transitions that were put down to this process, which makes the connections.
fn owned(reports: &[Value]) -> u64 {
    let own = std::process::id();
    let processes = reports.iter().filter_map(|report| report["processes"].as_array()).flatten();
    processes.filter(|row| row["process"]["pid"] == own).filter_map(|row| row["total"].as_u64()).sum()
}

fn outcome(samples: &[Sample], reports: &[Value], churn: &Churn) -> Outcome {
    let sum = Sum::of(reports, churn);
    let truth = transitions(churn);
    let disowned = truth.saturating_sub(sum.difference.missing).saturating_sub(owned(reports));
    let mut table = table("Soak at full churn", samples);
    table.note(format!(
        "{} transitions at {}/s; {} lost, {} not counted; {} of another owner.",
        grouped(truth as f64),
        grouped(truth as f64 / churn.elapsed.as_secs_f64()),
        grouped(sum.lost as f64),
        grouped(sum.difference.missing as f64),
        grouped(disowned as f64),
    ));
    let mut budgets = flat(samples);
    budgets.extend(sum.budgets(churn));
    budgets.push(Budget::at_most("transitions of another owner, or of none", 0.0, disowned as f64, ""));
    let figures = json!({
        "transitions": truth, "sum": sum, "samples": samples,
        "rss_kib_per_minute": growth(samples, |sample| sample.rss_kib).0,
        "map_entries_per_minute": growth(samples, |sample| sample.map_entries).0,
    });
    Outcome { tables: vec![table], budgets, figures, ..Outcome::default() }
}

//! What tracing costs outside the kernel programs: tcp-trace's own processor time and memory while it traces.

use std::{collections::BTreeMap, thread};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;
use tcp_trace_testkit::NetNs;

use crate::{
    bench::{Bench, Outcome, churn, say},
    candidates::{Active, Kind, MODES, Ready, STREAM},
    stats::{Summary, order},
    table::{Table, UNKNOWN, number},
    truth::transitions,
};

/// One run.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    /// Processor seconds of a run of this length without a load.
    idle: f64,
    /// Processor seconds for a million transitions, without those.
    million: f64,
    /// Share of one CPU that this is at full churn, in per cent.
    share: f64,
    /// Memory at its most, MiB.
    peak: f64,
}

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let modes = MODES.iter().filter(|mode| matches!(mode.kind, Kind::TcpTrace(_)));
    let modes = modes.filter(|mode| !bench.quick || mode.name == STREAM);
    let candidates = bench.ready(modes, &mut outcome);
    let ns = NetNs::new()?;
    let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for round in 0..bench.rounds {
        say(&format!("live-cpu: round {} of {}", round + 1, bench.rounds));
        for turn in order(candidates.len(), round) {
            let Some(candidate) = candidates.get(turn) else { continue };
            samples.entry(candidate.name).or_default().push(measure(bench, candidate, &ns)?);
        }
    }
    let columns = ["mode", "CPU s per million", "min–max", "of a CPU at full churn", "idle", "peak memory"];
    let mut table = Table::new("tcp-trace's own processor time and memory", &columns);
    for (name, samples) in &samples {
        let of = |pick: fn(&Sample) -> f64| Summary::of(samples.iter().map(pick));
        let shown =
            |pick, unit: &str| of(pick).map_or(UNKNOWN.into(), |s| format!("{} {unit}", number(s.median)));
        let Some(million) = of(|one| one.million) else { continue };
        table.row([
            (*name).to_owned(),
            number(million.median),
            format!("{}–{}", number(million.min), number(million.max)),
            shown(|one| one.share, "%"),
            shown(|one| one.idle, "s"),
            shown(|one| one.peak, "MiB"),
        ]);
    }
    table.note(format!(
        "Processor seconds for a million transitions, without those of an idle run of the same length ({} s).",
        number(bench.seconds(3).as_secs_f64())
    ));
    outcome.tables.push(table);
    outcome.figures = json!(samples);
    Ok(outcome)
}

fn measure(bench: &Bench, candidate: &Ready, ns: &NetNs) -> Result<Sample> {
    let duration = bench.seconds(3);
    let idle = candidate.start(&[])?;
    thread::sleep(duration);
    let idle = idle.stop()?.context("tcp-trace is a program")?.cpu.as_secs_f64();
    let active = candidate.start(&[])?;
    let churn = churn(ns, duration)?;
    let peak = match &active {
        Active::Program { running, .. } => running.memory_kib("VmHWM").unwrap_or(0) as f64 / 1024.0,
        Active::Reference(_) | Active::Tool(_) => 0.0,
    };
    let ended = active.stop()?.context("tcp-trace is a program")?;
    let busy = (ended.cpu.as_secs_f64() - idle).max(0.0);
    let million = busy * 1e6 / transitions(&churn) as f64;
    Ok(Sample { idle, million, share: 100.0 * busy / churn.elapsed.as_secs_f64(), peak })
}

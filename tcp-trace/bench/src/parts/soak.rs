//! A long time at full churn: whether memory and maps stay as they are, nothing is lost, and owners are right to the end.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Deserializer, Value, json};
use tcp_trace_testkit::{NetNs, workload::Churn};

use crate::{
    bench::{Bench, Budget, Outcome, churn, say},
    child::Running,
    maps,
    stats::slope,
    table::{Table, grouped, number},
    truth::{Difference, transitions},
};

/// What may come in the second half for all its minutes together, as a share of what is there. One byte lost for each
/// transition would be several times this.
const GROWTH: f64 = 0.05;
/// The same, in entries of maps that fill (not those of fixed size, which the memory of all maps includes).
const GROWTH_ENTRIES: f64 = 1_000.0;
/// A kernel that runs no program for a few transitions is no fault of ours; more than so many of a million are.
const UNSEEN: f64 = 20.0;

/// A look at the running program.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    seconds: f64,
    rss_kib: u64,
    map_entries: u64,
    map_room: u64,
    map_bytes: u64,
}

/// What all the reports of the run say together.
#[derive(Debug, Default, Serialize)]
struct Sum {
    reports: u64,
    seen: u64,
    lost: u64,
    unbalanced: u64,
    /// Transitions that were put down to the process that makes the connections.
    owned: u64,
    /// Between the counts and what happened.
    difference: Difference,
    /// The counts.
    transitions: Vec<Value>,
}

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
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
    let sum = sum(&reports, &churn);
    Ok(outcome(&samples, &sum, &churn))
}

/// Looks again and again until it is over.
fn watch(running: &Running, every: Duration, over: impl Fn() -> bool) -> Result<Vec<Sample>> {
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut said = Instant::now();
    while !over() {
        let filling = maps::of_process(running.pid()).context("looking at the maps")?;
        let rss_kib = at_rest(running, every)?;
        samples.push(Sample {
            seconds: began.elapsed().as_secs_f64(),
            rss_kib,
            map_entries: filling.entries,
            map_room: filling.room,
            map_bytes: filling.bytes,
        });
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            say(&format!(
                "soak: {:.0} s, {rss_kib} KiB, {} entries",
                began.elapsed().as_secs_f64(),
                filling.entries
            ));
        }
    }
    Ok(samples)
}

/// The least of some looks within that time, so that none of them is in a survey: these take memory and give it back,
/// and a sample as often as there is a report would fall into all of them for minutes, and then into none.
fn at_rest(running: &Running, within: Duration) -> Result<u64> {
    const LOOKS: u32 = 10;
    let mut least = u64::MAX;
    for _ in 0..LOOKS {
        least = least.min(running.memory_kib("VmRSS").context("tcp-trace has ended")?);
        thread::sleep(within / LOOKS);
    }
    Ok(least)
}

/// Adds the windows up.
fn sum(reports: &[Value], churn: &Churn) -> Sum {
    let own = std::process::id();
    let mut sum = Sum { reports: reports.len() as u64, ..Sum::default() };
    for report in reports {
        let of = |key: &str| report["loss"][key].as_u64().unwrap_or(0);
        sum.seen += of("seen");
        sum.lost += of("lost");
        sum.unbalanced += u64::from(report["loss"]["balanced"] != true);
        let processes = report["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = processes.iter().filter(|row| row["process"]["pid"] == own);
        sum.owned += ours.filter_map(|row| row["total"].as_u64()).sum::<u64>();
        for cell in report["transitions"].as_array().into_iter().flatten() {
            add(&mut sum.transitions, cell);
        }
    }
    sum.difference = Difference::of(&sum.transitions, churn.connections, churn.listeners.into());
    sum
}

/// Adds one count to those of its kind.
fn add(kinds: &mut Vec<Value>, cell: &Value) {
    let same = kinds.iter_mut().find(|kind| kind["old"] == cell["old"] && kind["new"] == cell["new"]);
    match same {
        Some(kind) => {
            let count = kind["count"].as_u64().unwrap_or(0) + cell["count"].as_u64().unwrap_or(0);
            kind["count"] = count.into();
        }
        None => kinds.push(cell.clone()),
    }
}

fn outcome(samples: &[Sample], sum: &Sum, churn: &Churn) -> Outcome {
    // The first half is for tables and allocators to come to their size.
    let late = samples.get(samples.len() / 2..).unwrap_or_default();
    let growth = |of: fn(&Sample) -> u64| {
        let points: Vec<_> = late.iter().map(|sample| (sample.seconds / 60.0, of(sample) as f64)).collect();
        let minutes = points.last().zip(points.first()).map_or(0.0, |(last, first)| last.0 - first.0);
        slope(&points).map_or((0.0, 0.0), |slope| (slope, slope * minutes))
    };
    let (rss_slope, rss_growth) = growth(|sample| sample.rss_kib);
    let middle = late.first().map_or(0.0, |sample| sample.rss_kib as f64);
    let (entries_slope, entries_growth) = growth(|sample| sample.map_entries);
    let truth = transitions(churn);
    let uncounted = sum.difference.missing as f64;
    let disowned = truth.saturating_sub(sum.difference.missing).saturating_sub(sum.owned);
    let mut table = Table::new("Soak at full churn", &["time", "memory", "map entries", "map memory"]);
    let step = samples.len().div_ceil(12).max(1);
    for sample in samples.iter().step_by(step).chain(samples.last()) {
        table.row([
            format!("{:.0} s", sample.seconds),
            format!("{} KiB", grouped(sample.rss_kib as f64)),
            format!("{} of {}", grouped(sample.map_entries as f64), grouped(sample.map_room as f64)),
            format!("{} KiB", grouped(sample.map_bytes as f64 / 1024.0)),
        ]);
    }
    table.note(format!(
        "{} transitions at {}/s; {} lost, {} not counted; {} of another owner. Second half: {} KiB and {} entries a minute.",
        grouped(truth as f64),
        grouped(truth as f64 / churn.elapsed.as_secs_f64()),
        grouped(sum.lost as f64),
        grouped(uncounted),
        grouped(disowned as f64),
        number(rss_slope),
        number(entries_slope),
    ));
    let budgets = vec![
        Budget::at_most("growth of memory in the second half", GROWTH * middle, rss_growth, "KiB"),
        Budget::at_most("growth of maps in the second half", GROWTH_ENTRIES, entries_growth, "entries"),
        Budget::at_most("lost", 0.0, sum.lost as f64, ""),
        Budget::at_most("reports that do not balance", 0.0, sum.unbalanced as f64, ""),
        Budget::at_most("transitions not counted, in a million", UNSEEN, uncounted * 1e6 / truth as f64, ""),
        Budget::at_most("transitions counted that did not happen", 0.0, sum.difference.extra as f64, ""),
        Budget::at_most("transitions of another owner, or of none", 0.0, disowned as f64, ""),
    ];
    let figures = json!({
        "transitions": truth, "sum": sum, "rss_kib_per_minute": rss_slope, "map_entries_per_minute": entries_slope,
        "samples": samples
    });
    Outcome { tables: vec![table], budgets, figures, ..Outcome::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_windows_are_added_up() {
        let cell = |old: &str, count: u64| json!({"old": old, "new": "CLOSE", "count": count});
        let mut kinds = Vec::new();
        [cell("LISTEN", 1), cell("LAST_ACK", 2), cell("LISTEN", 4)]
            .iter()
            .for_each(|cell| add(&mut kinds, cell));
        assert_eq!(kinds, [cell("LISTEN", 5), cell("LAST_ACK", 2)]);
    }
}

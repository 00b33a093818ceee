//! A long time at full churn: whether memory, maps, descriptors and threads stay as they are, and nothing is lost.

mod agent;
mod receivers;
mod report;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use tcp_trace_testkit::workload::Churn;

pub(super) use self::{agent::run as run_agent, report::run as run_report};
use crate::{
    bench::{Budget, say},
    child::{self, Running},
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
/// The same, in descriptors, and in threads: those of a look at the host, or of an answer to a scrape, come and go.
const GROWTH_HANDLES: f64 = 2.0;
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
    descriptors: u64,
    threads: u64,
}

/// What all the reports of the run say together.
#[derive(Debug, Default, Serialize)]
struct Sum {
    reports: u64,
    seen: u64,
    lost: u64,
    unbalanced: u64,
    /// Between the counts and what happened.
    difference: Difference,
    /// The counts.
    transitions: Vec<Value>,
}

impl Sum {
    /// Adds the windows up.
    fn of<'a>(reports: impl IntoIterator<Item = &'a Value>, churn: &Churn) -> Self {
        let mut sum = Self::default();
        for report in reports {
            let of = |key: &str| report["loss"][key].as_u64().unwrap_or(0);
            sum.reports += 1;
            sum.seen += of("seen");
            sum.lost += of("lost");
            sum.unbalanced += u64::from(report["loss"]["balanced"] != true);
            for cell in report["transitions"].as_array().into_iter().flatten() {
                add(&mut sum.transitions, cell);
            }
        }
        sum.difference = Difference::of(&sum.transitions, churn.connections, churn.listeners.into());
        sum
    }

    /// Of a run that loses nothing.
    fn budgets(&self, churn: &Churn) -> Vec<Budget> {
        let Self { lost, unbalanced, difference, .. } = self;
        let uncounted = difference.missing as f64 * 1e6 / transitions(churn) as f64;
        vec![
            Budget::at_most("lost", 0.0, *lost as f64, ""),
            Budget::at_most("reports that do not balance", 0.0, *unbalanced as f64, ""),
            Budget::at_most("transitions not counted, in a million", UNSEEN, uncounted, ""),
            Budget::at_most("transitions counted that did not happen", 0.0, difference.extra as f64, ""),
        ]
    }
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

/// Looks again and again until it is over.
fn watch(running: &Running, every: Duration, mut over: impl FnMut() -> bool) -> Result<Vec<Sample>> {
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut said = Instant::now();
    while !over() {
        let filling = maps::of_process(running.pid()).context("looking at the maps")?;
        let sample = Sample {
            rss_kib: at_rest(running, every)?,
            seconds: began.elapsed().as_secs_f64(),
            map_entries: filling.entries,
            map_room: filling.room,
            map_bytes: filling.bytes,
            descriptors: child::entries(running.pid(), "fd")?,
            threads: child::entries(running.pid(), "task")?,
        };
        samples.push(sample);
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            let Sample { seconds, rss_kib, map_entries, descriptors, threads, .. } = sample;
            say(&format!(
                "soak: {seconds:.0} s, {rss_kib} KiB, {map_entries} entries, {descriptors} descriptors, {threads} threads"
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

/// How something grows in the second half: a minute, and in all. The first half is for tables and allocators to come to
/// their size.
fn growth(samples: &[Sample], of: fn(&Sample) -> u64) -> (f64, f64) {
    let points: Vec<_> =
        late(samples).iter().map(|sample| (sample.seconds / 60.0, of(sample) as f64)).collect();
    let minutes = points.last().zip(points.first()).map_or(0.0, |(last, first)| last.0 - first.0);
    slope(&points).map_or((0.0, 0.0), |slope| (slope, slope * minutes))
}

fn late(samples: &[Sample]) -> &[Sample] {
    samples.get(samples.len() / 2..).unwrap_or_default()
}

/// That nothing grows.
fn flat(samples: &[Sample]) -> Vec<Budget> {
    let middle = late(samples).first().map_or(0.0, |sample| sample.rss_kib as f64);
    let budget = |what: &str, limit: f64, of: fn(&Sample) -> u64, unit: &str| {
        Budget::at_most(&format!("growth of {what} in the second half"), limit, growth(samples, of).1, unit)
    };
    vec![
        budget("memory", GROWTH * middle, |sample| sample.rss_kib, "KiB"),
        budget("maps", GROWTH_ENTRIES, |sample| sample.map_entries, "entries"),
        budget("descriptors", GROWTH_HANDLES, |sample| sample.descriptors, ""),
        budget("threads", GROWTH_HANDLES, |sample| sample.threads, ""),
    ]
}

/// Some of the samples, and the rates of the second half.
fn table(title: &str, samples: &[Sample]) -> Table {
    let mut table =
        Table::new(title, &["time", "memory", "map entries", "map memory", "descriptors", "threads"]);
    let step = samples.len().div_ceil(12).max(1);
    for sample in samples.iter().step_by(step).chain(samples.last()) {
        table.row([
            format!("{:.0} s", sample.seconds),
            format!("{} KiB", grouped(sample.rss_kib as f64)),
            format!("{} of {}", grouped(sample.map_entries as f64), grouped(sample.map_room as f64)),
            format!("{} KiB", grouped(sample.map_bytes as f64 / 1024.0)),
            sample.descriptors.to_string(),
            sample.threads.to_string(),
        ]);
    }
    table.note(format!(
        "Second half: {} KiB and {} entries a minute.",
        number(growth(samples, |sample| sample.rss_kib).0),
        number(growth(samples, |sample| sample.map_entries).0),
    ));
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(seconds: u32, descriptors: u64) -> Sample {
        let seconds = seconds.into();
        let (rss_kib, threads) = (60_000, 10);
        Sample { seconds, rss_kib, map_entries: 0, map_room: 0, map_bytes: 0, descriptors, threads }
    }

    #[test]
    fn the_counts_of_all_windows_are_added_up() {
        let cell = |old: &str, count: u64| json!({"old": old, "new": "CLOSE", "count": count});
        let mut kinds = Vec::new();
        [cell("LISTEN", 1), cell("LAST_ACK", 2), cell("LISTEN", 4)]
            .iter()
            .for_each(|cell| add(&mut kinds, cell));
        assert_eq!(kinds, [cell("LISTEN", 5), cell("LAST_ACK", 2)]);
    }

    #[test]
    fn a_descriptor_that_leaks_each_minute_is_growth() {
        let kept = |each: u64| {
            let samples: Vec<_> =
                (0..=20).map(|minute| sample(60 * minute, 30 + each * u64::from(minute))).collect();
            flat(&samples).iter().all(|budget| budget.kept)
        };
        assert!(kept(0));
        assert!(!kept(1));
    }
}

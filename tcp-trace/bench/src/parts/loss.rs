//! How fast transitions may come before any is lost, by the size of the ring buffer; and whether the counts are right when
//! some are.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tcp_trace_testkit::{
    NetNs,
    workload::{Churn, ChurnPlan, churn_for},
};

use crate::{
    bench::{Bench, Budget, Outcome, say},
    table::{Table, UNKNOWN, grouped},
    truth::{Difference, EACH},
};

/// Sizes of the buffer; the last one is the default.
const BUFFERS: [&str; 5] = ["4k", "64k", "1m", "8m", "16m"];
const DEFAULT: &str = "16m";

/// Lets tcp-trace aggregate in the kernel when the stream cannot keep up.
const AUTO: &[&str] = &["--mode", "auto"];

/// How often a run with uncounted transitions is tried again.
const RETRIES: usize = 2;

/// Connections per second that are tried below full churn, from above.
const RATES: [u32; 7] = [20_000, 10_000, 5_000, 2_000, 1_000, 500, 100];

/// A load and what tcp-trace said of it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    /// Transitions per second.
    rate: f64,
    seen: u64,
    delivered: u64,
    filtered: u64,
    lost: u64,
    /// Counted in the kernel; 0 in a tcp-trace that cannot do that.
    aggregated: u64,
    /// Whether `seen` is the sum of the others, kind by kind, by tcp-trace's own word and by ours.
    balanced: bool,
    /// Between the counts and what happened.
    difference: Difference,
}

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let columns =
        ["buffer", "without loss", "at full churn", "seen", "lost", "aggregated", "balanced", "uncounted"];
    let mut table = Table::new("Loss, by the size of the ring buffer", &columns);
    let mut figures = Vec::new();
    let buffers: &[&str] = bench.pick(&BUFFERS, &["4k"]);
    for buffer in buffers {
        // What is promised of the default is promised for a minute.
        let seconds = if *buffer == DEFAULT { 60 } else { 3 };
        let full = full_churn(bench, buffer, bench.streaming(), bench.seconds(seconds))?;
        let highest = if full.lost == 0 { Some(full) } else { highest(bench, buffer)? };
        let without = highest.map_or("none".into(), |sample| format!("{}/s", grouped(sample.rate)));
        table.row(row(buffer, without, &full));
        outcome.budgets.extend(budgets(buffer, &full));
        figures.push(json!({"buffer": buffer, "full_churn": full, "without_loss": highest}));
    }
    for &buffer in bench.pick(&[BUFFERS[0], DEFAULT][..], &BUFFERS[..1]) {
        if !bench.understands(AUTO) {
            outcome.lacks.push(format!("this tcp-trace does not know `{}`", AUTO.join(" ")));
            break;
        }
        let full = full_churn(bench, buffer, AUTO, bench.seconds(5))?;
        let name = format!("{buffer}, auto");
        table.row(row(&name, UNKNOWN.to_owned(), &full));
        outcome.budgets.extend(budgets(&name, &full));
        figures.push(json!({"buffer": buffer, "mode": "auto", "full_churn": full}));
    }
    table.note(
        "Transitions per second: the highest rate of those that were tried (down from full churn) at which none was lost; \
         then what became of full churn. Uncounted: happened, and not in the counts of any kind.",
    );
    outcome.tables.push(table);
    outcome.figures = figures.into();
    Ok(outcome)
}

fn row(name: &str, without: String, full: &Sample) -> [String; 8] {
    [
        name.to_owned(),
        without,
        format!("{}/s", grouped(full.rate)),
        grouped(full.seen as f64),
        grouped(full.lost as f64),
        grouped(full.aggregated as f64),
        yes(full.balanced),
        uncounted(full.difference),
    ]
}

/// A kernel that runs no program for some transitions does so rarely: one of a few runs has none of these. A fault of
/// ours would be in all of them.
fn full_churn(bench: &Bench, buffer: &str, mode: &[&str], duration: Duration) -> Result<Sample> {
    let mut sample = measure(bench, buffer, mode, None, duration)?;
    for _ in 0..RETRIES {
        if sample.difference.missing == 0 || sample.difference.extra > 0 {
            break;
        }
        sample = measure(bench, buffer, mode, None, duration)?;
    }
    Ok(sample)
}

/// The first rate, from above, at which nothing is lost.
fn highest(bench: &Bench, buffer: &str) -> Result<Option<Sample>> {
    let rates = if bench.quick { &RATES[6..] } else { &RATES[..] };
    for &rate in rates {
        let sample = measure(bench, buffer, bench.streaming(), Some(rate), bench.seconds(2))?;
        if sample.lost == 0 {
            return Ok(Some(sample));
        }
    }
    Ok(None)
}

fn measure(
    bench: &Bench,
    buffer: &str,
    mode: &[&str],
    rate: Option<u32>,
    duration: Duration,
) -> Result<Sample> {
    let what = rate.map_or("full churn".to_owned(), |rate| format!("{rate} connections/s"));
    say(&format!("loss: buffer of {buffer}, {what}"));
    let ns = NetNs::new()?;
    let netns = ns.inum().to_string();
    let arguments = ["report", "--json", "--buffer", buffer, "--netns", &netns];
    let running = bench.tcp_trace(&[&arguments, mode].concat())?;
    let churn = churn_for(&ns, duration, &ChurnPlan { rate, ..ChurnPlan::default() })?;
    let report = running.stop()?.json()?;
    judge(&report, &churn).with_context(|| format!("a report without its balance: {}", report["loss"]))
}

fn judge(report: &Value, churn: &Churn) -> Option<Sample> {
    let of = |key: &str| report["loss"][key].as_u64();
    let (seen, delivered, filtered, lost) = (of("seen")?, of("delivered")?, of("filtered")?, of("lost")?);
    let aggregated = of("aggregated").unwrap_or(0);
    let balanced = report["loss"]["balanced"] == true && seen == delivered + filtered + lost + aggregated;
    let rate = churn.rate() * EACH as f64;
    let cells = report["transitions"].as_array()?;
    let difference = Difference::of(cells, churn.connections, churn.listeners.into());
    Some(Sample { rate, seen, delivered, filtered, lost, aggregated, balanced, difference })
}

fn budgets(buffer: &str, full: &Sample) -> Vec<Budget> {
    let counts = f64::from(u8::from(!(full.balanced && full.difference.is_none())));
    let mut budgets = vec![Budget::at_most(&format!("{buffer}: counts that are wrong"), 0.0, counts, "")];
    if buffer == DEFAULT {
        budgets.push(Budget::at_most("default buffer, full churn: lost", 0.0, full.lost as f64, ""));
    }
    budgets
}

fn uncounted(difference: Difference) -> String {
    let Difference { missing, extra } = difference;
    if extra > 0 { format!("{missing}, and {extra} TOO MANY") } else { grouped(missing as f64) }
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "NO" }.to_owned()
}

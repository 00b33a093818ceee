//! What the traced feel: connections per second and the latency of `connect()`, on loopback and at a web server.

mod web;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use tcp_trace_testkit::NetNs;

use crate::{
    bench::{Bench, Budget, Outcome, churn, say},
    candidates::{Kind, LEANEST, MODES, REFERENCES, Ready, STREAM, TOOLS, UNTRACED},
    stats::{Summary, order},
    table::{Table, UNKNOWN, grouped, number},
};

/// One turn of a load under one candidate.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    /// Connections or requests per second.
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    /// Events that the candidate said it lost; `None` if it does not say.
    lost: Option<u64>,
    /// Per cent of the rate of the untraced turns just before and just after.
    of_untraced: Option<f64>,
}

/// A candidate's samples.
type Samples<'a> = Vec<(&'a str, Vec<Sample>)>;

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    // A single counter is not felt, and a reader that was stopped is nobody's wish.
    let all = REFERENCES.iter().chain(&MODES).chain(&TOOLS).filter(|candidate| match candidate.kind {
        Kind::Reference(_) => candidate.name == LEANEST,
        Kind::Stopped(_) => false,
        Kind::TcpTrace(_) | Kind::Tool(..) => true,
    });
    let all = all.filter(|candidate| !bench.quick || candidate.name == STREAM);
    let candidates = bench.ready(all, &mut outcome);
    let ns = NetNs::new()?;
    churn(&ns, bench.seconds(1))?;
    let loopback = rounds(bench, &candidates, &mut outcome, "churn", |duration| {
        let churn = churn(&ns, duration)?;
        let [p50_us, p99_us] =
            [0.5, 0.99].map(|share| churn.connect.quantile(share).unwrap_or(0) as f64 / 1e3);
        Ok(Sample { rate: churn.rate(), p50_us, p99_us, lost: None, of_untraced: None })
    })?;
    outcome.tables.push(table("Loopback churn under each tracer", "connections/s", &loopback));
    outcome.budgets = budgets("loopback churn", &loopback);
    let mut figures = json!({"churn": figures(&loopback)});
    match web::Web::start(&ns) {
        Ok(mut web) => {
            let load = |duration| web.load(duration);
            let served = rounds(bench, &candidates, &mut outcome, "web server", load)?;
            outcome.tables.push(table("nginx under wrk, `Connection: close`", "requests/s", &served));
            outcome.budgets.extend(budgets("nginx", &served));
            if let Some(all) = figures.as_object_mut() {
                all.insert("web".into(), self::figures(&served));
            }
        }
        Err(missing) => outcome.lacks.push(format!("web server: {missing:#}")),
    }
    outcome.figures = figures;
    Ok(outcome)
}

/// Before and after each turn of a candidate the load has one for itself, so that it is compared with its neighbours.
fn rounds<'a>(
    bench: &Bench,
    candidates: &'a [Ready],
    outcome: &mut Outcome,
    what: &str,
    mut load: impl FnMut(Duration) -> Result<Sample>,
) -> Result<Samples<'a>> {
    let duration = bench.seconds(2);
    let mut before = load(duration)?;
    let mut untraced = vec![before];
    let mut samples: Samples<'a> = candidates.iter().map(|candidate| (candidate.name, Vec::new())).collect();
    for round in 0..bench.rounds {
        say(&format!("victim, {what}: round {} of {}", round + 1, bench.rounds));
        for turn in order(candidates.len(), round) {
            let (Some(candidate), Some((_, samples))) = (candidates.get(turn), samples.get_mut(turn)) else {
                continue;
            };
            let traced = measure(candidate, || load(duration));
            let after = load(duration)?;
            untraced.push(after);
            match traced {
                Ok(sample) => {
                    let of_untraced = Some(100.0 * sample.rate / f64::midpoint(before.rate, after.rate));
                    samples.push(Sample { of_untraced, ..sample });
                }
                // The others are none the worse for it.
                Err(error) => outcome.failures.push(format!("{what} under {}: {error:#}", candidate.name)),
            }
            before = after;
        }
    }
    samples.insert(0, (UNTRACED, untraced));
    Ok(samples)
}

fn measure(candidate: &Ready, load: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
    let active = candidate.start(&[])?;
    let sample = load()?;
    let ended = active.stop()?;
    let lost = ended.and_then(|ended| {
        let report = ended.json().ok();
        report.and_then(|report| report["loss"]["lost"].as_u64()).or_else(|| lost_lines(&ended.stderr))
    });
    Ok(Sample { lost, ..sample })
}

/// What tcpstates says of what it lost: `lost 12 events on CPU #0`.
fn lost_lines(stderr: &[String]) -> Option<u64> {
    let lines =
        stderr.iter().filter_map(|line| line.split_once("ost ")?.1.split(' ').next()?.parse::<u64>().ok());
    lines.reduce(|sum, more| sum + more)
}

fn of_untraced(samples: &[Sample]) -> Option<Summary> {
    Summary::of(samples.iter().filter_map(|sample| sample.of_untraced))
}

fn table(title: &str, rate: &str, samples: &Samples<'_>) -> Table {
    let columns = ["under", rate, "of untraced", "min–max", "p50", "p99", "lost"];
    let mut table = Table::new(title, &columns);
    for (name, own) in samples {
        let of = |pick: fn(&Sample) -> f64| Summary::of(own.iter().map(pick));
        let (Some(rate), Some(p50), Some(p99)) =
            (of(|one| one.rate), of(|one| one.p50_us), of(|one| one.p99_us))
        else {
            continue;
        };
        let share = of_untraced(own);
        // How far the untraced turns differ among themselves says how noisy the machine was.
        let (least, most) = share.map_or_else(
            || (100.0 * rate.min / rate.median, 100.0 * rate.max / rate.median),
            |share| (share.min, share.max),
        );
        let share = share.map_or("100 %".into(), |share| format!("{} %", number(share.median)));
        let lost = own.iter().filter_map(|one| one.lost).reduce(|sum, more| sum + more);
        table.row([
            (*name).to_owned(),
            grouped(rate.median),
            share,
            format!("{least:.0}–{most:.0} %"),
            format!("{} µs", number(p50.median)),
            format!("{} µs", number(p99.median)),
            lost.map_or(UNKNOWN.into(), |lost| grouped(lost as f64)),
        ]);
    }
    let rounds = samples.iter().skip(1).map(|(_, own)| own.len()).max().unwrap_or(0);
    table.note(format!(
        "Medians of {rounds} rounds. Of untraced: compared with the untraced turns just before and after. Lost: in all rounds."
    ));
    table
}

fn budgets(load: &str, samples: &Samples<'_>) -> Vec<Budget> {
    let of = |wanted: &str| samples.iter().find(|(name, _)| *name == wanted);
    let Some((_, stream)) = of(STREAM) else { return Vec::new() };
    let mut budgets = Vec::new();
    if let Some(share) = of_untraced(stream) {
        budgets.push(Budget::at_least(&format!("{load}: rate kept under stream"), 95.0, share.median, "%"));
    }
    let lost: u64 = stream.iter().filter_map(|sample| sample.lost).sum();
    budgets.push(Budget::at_most(&format!("{load}: lost under stream"), 0.0, lost as f64, ""));
    budgets
}

fn figures(samples: &Samples<'_>) -> serde_json::Value {
    let of = |(name, own): &(&str, Vec<Sample>)| {
        let rate = Summary::of(own.iter().map(|one| one.rate));
        json!({"candidate": name, "rate": rate, "percent_of_untraced": of_untraced(own), "turns": own})
    };
    samples.iter().map(of).collect()
}

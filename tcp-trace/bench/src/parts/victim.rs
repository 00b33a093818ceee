//! What the traced feel: connections per second and the latency of `connect()`, on loopback and at a web server.

mod web;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use tcp_trace_testkit::NetNs;

use crate::{
    bench::{Bench, Budget, Outcome, churn, say},
    candidates::{Candidate, Kind, LEANEST, MODES, REFERENCES, Ready, STREAM, TCPSTATES, TOOLS, UNTRACED},
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
}

/// A candidate's samples, in the order of the rounds; `None` where it failed.
type Samples<'a> = Vec<(&'a Ready, Vec<Option<Sample>>)>;

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let untraced = Candidate { name: UNTRACED, kind: Kind::Untraced };
    let all = [untraced].into_iter().chain(REFERENCES).chain(MODES).chain(TOOLS);
    // A single counter is not felt, and a reader that was stopped is nobody's wish.
    let all: Vec<_> = all
        .filter(|candidate| match candidate.kind {
            Kind::Reference(_) => candidate.name == LEANEST,
            Kind::Stopped(_) => false,
            Kind::Untraced | Kind::TcpTrace(_) | Kind::Tool(..) => true,
        })
        .filter(|candidate| !bench.quick || [UNTRACED, STREAM].contains(&candidate.name))
        .collect();
    let candidates = bench.ready(&all, &mut outcome);
    let ns = NetNs::new()?;
    churn(&ns, bench.seconds(1))?;
    let loopback = rounds(bench, &candidates, &mut outcome, "churn", |duration| {
        let churn = churn(&ns, duration)?;
        let [p50_us, p99_us] =
            [0.5, 0.99].map(|share| churn.connect.quantile(share).unwrap_or(0) as f64 / 1e3);
        Ok(Sample { rate: churn.rate(), p50_us, p99_us, lost: None })
    });
    outcome.tables.push(table("Loopback churn under each tracer", "connections/s", &loopback));
    outcome.budgets = budgets("loopback churn", &loopback);
    let mut figures = json!({"churn": figures(&loopback)});
    match web::Web::start(&ns) {
        Ok(mut web) => {
            let served =
                rounds(bench, &candidates, &mut outcome, "web server", |duration| web.load(duration));
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

fn rounds<'a>(
    bench: &Bench,
    candidates: &'a [Ready],
    outcome: &mut Outcome,
    what: &str,
    mut load: impl FnMut(Duration) -> Result<Sample>,
) -> Samples<'a> {
    let mut samples: Samples<'a> = candidates.iter().map(|candidate| (candidate, Vec::new())).collect();
    for round in 0..bench.rounds {
        say(&format!("victim, {what}: round {} of {}", round + 1, bench.rounds));
        for turn in order(candidates.len(), round) {
            let Some((candidate, samples)) = samples.get_mut(turn) else { continue };
            match measure(candidate, || load(bench.seconds(3))) {
                Ok(sample) => samples.push(Some(sample)),
                Err(error) => {
                    // Its place stays empty, so that rounds can be compared; the others are none the worse for it.
                    samples.push(None);
                    outcome.failures.push(format!("{what} under {}: {error:#}", candidate.name));
                }
            }
        }
    }
    samples
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

/// The median of what is left of the untraced rate, round by round.
fn kept(samples: &Samples<'_>, of: &[Option<Sample>]) -> Option<Summary> {
    let (_, untraced) = samples.iter().find(|(candidate, _)| candidate.name == UNTRACED)?;
    let rounds = of.iter().zip(untraced).filter_map(|(traced, untraced)| traced.zip(*untraced));
    Summary::of(rounds.map(|(traced, untraced)| 100.0 * traced.rate / untraced.rate))
}

fn table(title: &str, rate: &str, samples: &Samples<'_>) -> Table {
    let columns = ["under", rate, "min–max", "of untraced", "min–max", "p50", "p99", "lost"];
    let mut table = Table::new(title, &columns);
    for (candidate, own) in samples {
        let of = |pick: fn(&Sample) -> f64| Summary::of(own.iter().flatten().map(pick));
        let (Some(rate), Some(p50), Some(p99)) =
            (of(|one| one.rate), of(|one| one.p50_us), of(|one| one.p99_us))
        else {
            continue;
        };
        let share = kept(samples, own);
        let range = share.map_or(UNKNOWN.into(), |share| format!("{:.0}–{:.0} %", share.min, share.max));
        let share = share.map_or(UNKNOWN.into(), |share| format!("{} %", number(share.median)));
        let lost = own.iter().flatten().filter_map(|one| one.lost).reduce(|sum, more| sum + more);
        table.row([
            candidate.name.to_owned(),
            grouped(rate.median),
            format!("{}–{}", grouped(rate.min), grouped(rate.max)),
            share,
            range,
            format!("{} µs", number(p50.median)),
            format!("{} µs", number(p99.median)),
            lost.map_or(UNKNOWN.into(), |lost| grouped(lost as f64)),
        ]);
    }
    let rounds = samples.iter().map(|(_, own)| own.len()).max().unwrap_or(0);
    table.note(format!(
        "Medians of {rounds} rounds; the share of untraced is taken round by round; lost in all rounds."
    ));
    table
}

fn budgets(load: &str, samples: &Samples<'_>) -> Vec<Budget> {
    let of = |wanted: &str| samples.iter().find(|(candidate, _)| candidate.name == wanted);
    let Some((_, stream)) = of(STREAM) else { return Vec::new() };
    let mut budgets = Vec::new();
    if let Some(share) = kept(samples, stream) {
        budgets.push(Budget::at_least(&format!("{load}: rate kept under stream"), 95.0, share.median, "%"));
    }
    let lost: u64 = stream.iter().flatten().filter_map(|sample| sample.lost).sum();
    budgets.push(Budget::at_most(&format!("{load}: lost under stream"), 0.0, lost as f64, ""));
    if let Some(share) = of(TCPSTATES).and_then(|(_, own)| kept(samples, own)) {
        say(&format!("{load}: tcpstates leaves {} % of the rate", number(share.median)));
    }
    budgets
}

fn figures(samples: &Samples<'_>) -> serde_json::Value {
    let of = |(candidate, own): &(&Ready, Vec<Option<Sample>>)| {
        let rate = Summary::of(own.iter().flatten().map(|one| one.rate));
        json!({"candidate": candidate.name, "rate": rate, "percent_of_untraced": kept(samples, own), "rounds": own})
    };
    samples.iter().map(of).collect()
}

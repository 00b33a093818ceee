//! How much memory a live connection takes in tcp-trace, and how long a report takes, by the number of connections.
//!
//! The connections are real. Each has two sockets on this host, and tcp-trace follows each: a socket is what it calls a
//! connection. They are there before tcp-trace (it finds them by a survey), or come after it (it sees their events).

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tcp_trace_testkit::{NetNs, leak::crowd};

use crate::{
    bench::{Bench, Budget, Outcome, say},
    child::Running,
    table::{Table, grouped, number},
};

/// How many sockets.
const SOCKETS: [u64; 3] = [10_000, 100_000, 1_000_000];
/// What the kernel takes for a socket with its file, with something to spare.
const KERNEL_BYTES: u64 = 6 * 1024;
/// The number of live connections that the budget is about.
const MILLION: u64 = 1_000_000;

#[derive(Clone, Debug, Serialize)]
struct Sample {
    sockets: u64,
    /// How tcp-trace came to know them.
    known_by: &'static str,
    /// KiB, when it has come to rest.
    rss_kib: u64,
    peak_kib: u64,
    bytes_each: f64,
    /// From the wish to the end of a report, with a last look at the sockets.
    report_ms: f64,
    /// Established ones in the report.
    live: Value,
    /// What the report says that it could not follow.
    untracked: Value,
}

pub(crate) fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let base = rest(bench, 0, false)?;
    let mut samples = Vec::new();
    for &sockets in bench.pick(&SOCKETS[..], &[1_000]) {
        if available() < sockets * KERNEL_BYTES {
            let bytes = (sockets * KERNEL_BYTES) >> 20;
            outcome.lacks.push(format!(
                "memory at {} sockets: they take {bytes} MiB in the kernel",
                grouped(sockets as f64)
            ));
            continue;
        }
        for traced in [false, true] {
            let mut sample = rest(bench, sockets, traced)?;
            let more = sample.rss_kib.saturating_sub(base.rss_kib);
            sample.bytes_each = more as f64 * 1024.0 / sockets.max(1) as f64;
            samples.push(sample);
        }
    }
    outcome.tables.push(table(&base, &samples));
    for sample in samples.iter().filter(|sample| sample.sockets == MILLION) {
        let what = format!("bytes per live connection at a million ({})", sample.known_by);
        outcome.budgets.push(Budget::at_most(&what, 256.0, sample.bytes_each, ""));
    }
    outcome.figures = json!({"without_sockets": base, "samples": samples});
    Ok(outcome)
}

fn table(base: &Sample, samples: &[Sample]) -> Table {
    let columns = ["live connections", "known by", "memory", "peak", "bytes each", "report", "in the report"];
    let mut table = Table::new("Memory and report time, by the number of live connections", &columns);
    for sample in [base].into_iter().chain(samples) {
        let mebibytes = |kib: u64| format!("{} MiB", number(kib as f64 / 1024.0));
        table.row([
            grouped(sample.sockets as f64),
            sample.known_by.to_owned(),
            mebibytes(sample.rss_kib),
            mebibytes(sample.peak_kib),
            number(sample.bytes_each),
            format!("{} ms", number(sample.report_ms)),
            sample.live.as_u64().map_or("-".into(), |live| grouped(live as f64)),
        ]);
    }
    table.note(
        "Real sockets, two for each connection on loopback. Bytes each: resident memory at rest over that of a run without \
         sockets. Report: from Ctrl-C to the end, with a last look at all sockets.",
    );
    table
}

/// tcp-trace at rest with so many sockets, which came after it if they are to be traced.
fn rest(bench: &Bench, sockets: u64, traced: bool) -> Result<Sample> {
    let known_by = if traced { "events" } else { "a survey" };
    say(&format!("memory: {sockets} sockets, known by {known_by}"));
    let ns = NetNs::new()?;
    let netns = ns.inum().to_string();
    let arguments = [&["report", "--json", "--netns", netns.as_str()], bench.streaming()].concat();
    let connections = sockets / 2;
    let make = || if connections > 0 { crowd(&ns, connections, 900) } else { Ok(Vec::new()) };
    let (running, crowd) = if traced {
        let running = bench.tcp_trace(&arguments)?;
        (running, make()?)
    } else {
        let crowd = make()?;
        (bench.tcp_trace(&arguments)?, crowd)
    };
    come_to_rest(&running, bench.pick(Duration::from_millis(1_500), Duration::from_millis(100)));
    let of = |key| running.memory_kib(key).with_context(|| format!("no {key} of a running program"));
    let (rss_kib, peak_kib) = (of("VmRSS")?, of("VmHWM")?);
    let began = Instant::now();
    let report = running.stop()?.json()?;
    let report_ms = began.elapsed().as_secs_f64() * 1e3;
    drop(crowd);
    let live = report["states"]["ESTABLISHED"]["live"].clone();
    let untracked = report["loss"]["untracked"].clone();
    Ok(Sample { sockets, known_by, rss_kib, peak_kib, bytes_each: 0.0, report_ms, live, untracked })
}

/// Waits until a program has had nothing to do for a while.
fn come_to_rest(running: &Running, quiet: Duration) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let before = ticks(running.pid());
        thread::sleep(quiet);
        // It comes every few milliseconds to look for events: one tick of 10 ms in a while is rest.
        if ticks(running.pid()) <= before + 3 {
            return;
        }
    }
}

/// Processor time of a process in clock ticks (`proc(5)`, fields 14 and 15 of `stat`).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    behind_name.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Bytes of memory that this host can spare.
fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

//! The hot paths of the core. `cargo bench -p tcp-trace-core` measures; `cargo test` runs each of them once, small,
//! so that none rots.
//!
//! Throughput is in items a second: records for `decode` and `track`, lines for `json`, sockets for `report`.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on must stop")]

mod load;

use std::{hint::black_box, sync::LazyLock};

use divan::{Bencher, counter::ItemsCount};
use load::Load;
use tcp_trace_core::{
    decode::decode,
    filter::FilterSpec,
    input::Input,
    log::{Document, LogWriter, Origin},
    report::LineWriter,
    tracker::{Output, Settings, Tracker},
};

fn main() {
    divan::main();
}

/// Whether this is a measurement; `cargo test` only wants to know that it runs.
static MEASURED: LazyLock<bool> = LazyLock::new(|| std::env::args().any(|argument| argument == "--bench"));

/// Lives of 20,000 connections, a thousand at a time.
static LIVES: LazyLock<Load> =
    LazyLock::new(|| if *MEASURED { Load::lives(20_000, 1_000) } else { Load::lives(64, 8) });

fn sizes() -> Vec<u64> {
    if *MEASURED { vec![10_000, 100_000, 1_000_000] } else { vec![64] }
}

fn tracker(settings: Settings) -> Tracker {
    let settings = Settings { max_connections: 1 << 21, ..settings };
    Tracker::new(load::session(), &FilterSpec::default(), settings).unwrap()
}

fn feed(tracker: &mut Tracker, load: &Load, mut each: impl FnMut(&mut Output)) {
    let mut output = Output::default();
    for record in load.records() {
        tracker.apply(&decode(record).unwrap(), &mut output);
        each(&mut output);
    }
}

#[divan::bench]
fn decoding(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(LIVES.len())).bench(|| {
        LIVES.records().for_each(|record| drop(black_box(decode(record))));
    });
}

#[divan::bench]
fn tracking(bencher: Bencher<'_, '_>) {
    let inputs: Vec<Input> = LIVES.records().map(|record| decode(record).unwrap()).collect();
    bencher.counter(ItemsCount::new(LIVES.len())).with_inputs(|| tracker(Settings::default())).bench_values(
        |mut tracker| {
            let mut output = Output::default();
            inputs.iter().for_each(|input| tracker.apply(input, &mut output));
            tracker
        },
    );
}

#[divan::bench]
fn decoding_and_tracking(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(LIVES.len())).with_inputs(|| tracker(Settings::default())).bench_values(
        |mut tracker| {
            feed(&mut tracker, &LIVES, |_| ());
            tracker
        },
    );
}

/// Of a host with so many sockets open.
#[divan::bench(args = sizes(), sample_count = 5, sample_size = 1)]
fn tracking_among_many(bencher: Bencher<'_, '_>, sockets: u64) {
    let crowd = Load::open(sockets);
    bencher.counter(ItemsCount::new(crowd.len())).with_inputs(|| tracker(Settings::default())).bench_values(
        |mut tracker| {
            feed(&mut tracker, &crowd, |_| ());
            tracker
        },
    );
}

#[divan::bench]
fn following_lives(bencher: Bencher<'_, '_>) {
    let settings = Settings { closed: true, ..Settings::default() };
    bencher.counter(ItemsCount::new(LIVES.len())).with_inputs(|| tracker(settings)).bench_values(
        |mut tracker| {
            feed(&mut tracker, &LIVES, |output| output.closed.clear());
            tracker
        },
    );
}

#[divan::bench]
fn json_lines(bencher: Bencher<'_, '_>) {
    let mut changes = Vec::new();
    let settings = Settings { changes: true, ..Settings::default() };
    feed(&mut tracker(settings), &LIVES, |output| changes.append(&mut output.changes));
    bencher.counter(ItemsCount::new(changes.len())).with_inputs(|| Vec::with_capacity(1 << 20)).bench_values(
        |mut out: Vec<u8>| {
            let mut writer = LineWriter::default();
            for change in &changes {
                writer.write(&mut out, change);
                if out.len() > 1 << 19 {
                    black_box(&out);
                    out.clear();
                }
            }
            out
        },
    );
}

/// The same as lines of a log, each of which stands for itself.
#[divan::bench]
fn log_lines(bencher: Bencher<'_, '_>) {
    let mut changes = Vec::new();
    let settings = Settings { changes: true, ..Settings::default() };
    feed(&mut tracker(settings), &LIVES, |output| changes.append(&mut output.changes));
    let documents: Vec<_> = changes.into_iter().map(Document::Transition).collect();
    let origin = Origin { host: "shop-1".to_owned(), ..Origin::default() };
    bencher
        .counter(ItemsCount::new(documents.len()))
        .with_inputs(|| Vec::with_capacity(1 << 20))
        .bench_values(|mut out: Vec<u8>| {
            let mut writer = LogWriter::new(&origin);
            for document in &documents {
                writer.write(&mut out, document);
                if out.len() > 1 << 19 {
                    black_box(&out);
                    out.clear();
                }
            }
            out
        });
}

#[divan::bench(args = sizes(), sample_count = 5, sample_size = 1)]
fn reporting(bencher: Bencher<'_, '_>, sockets: u64) {
    let crowd = Load::open(sockets);
    let mut tracker = tracker(Settings::default());
    feed(&mut tracker, &crowd, |_| ());
    bencher.counter(ItemsCount::new(sockets)).bench_local(|| tracker.report());
}

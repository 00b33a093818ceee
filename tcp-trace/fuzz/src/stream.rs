//! Streams: what the tracker makes of records in any order, and of bytes that are hardly any.

mod report;
mod step;

use arbitrary::Unstructured;
use tcp_trace_common::counters::{Counters, slot};
use tcp_trace_core::{
    decode::decode,
    filter::FilterSpec,
    findings::{Judge, Thresholds},
    input::Input,
    record::{CounterReading, Record, encode_counters, kind},
    session::{Attach, Host, Session},
    time::{ClockAnchor, Timestamp},
    tracker::{Output, Settings, Tracker},
};
use zerocopy::IntoBytes as _;

use step::{Fate, Step};

/// CLOCK_MONOTONIC at the start of every session.
const BASE: u64 = 1_000_000_000_000;
/// Rows of a report.
const ROWS: usize = 3;

/// A stream of which it is known what happened to each transition: then its balance must say so, no more and no less.
pub fn stream(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(mut run) = Run::new(&mut u) else { return };
    while !u.is_empty() {
        let Ok(step) = Step::take(&mut u) else { break };
        run.step(&step);
    }
    run.read();
    run.record(kind::END, &(BASE + 9_000).to_le_bytes());
    run.report();
}

/// Records that may say anything, their counters too. Each reading of the counters is followed by a report.
pub(crate) fn play(session: Session, records: Vec<Record<'_>>) {
    let settings = Settings { max_connections: 64, max_rows: ROWS, max_sockets: 2, ..every() };
    let mut tracker =
        Tracker::new(session, &FilterSpec::default(), settings).expect("its filter was compiled");
    let mut judge = Judge::new(Thresholds::default());
    let mut output = Output::default();
    for record in records {
        let Ok(input) = decode(record) else { break };
        tracker.apply(&input, &mut output);
        report::assert_output(&output);
        output = Output::default();
        if matches!(input, Input::Counters(_) | Input::End(_)) {
            let mut report = tracker.report();
            judge.judge(&mut report);
            report::assert_holds(&report, &settings);
        }
    }
    report::assert_census(&tracker);
}

fn every() -> Settings {
    Settings { close_wait_after_ns: 100, changes: true, closed: true, series: true, ..Settings::default() }
}

/// A run, and what is known of it.
struct Run {
    tracker: Tracker,
    judge: Judge,
    settings: Settings,
    counters: Box<Counters>,
    missed: u64,
    /// Transitions that the kernel has passed on and that never arrived.
    withheld: u64,
    /// State changes that were told, and what reports have delivered.
    told: u64,
    delivered: u64,
}

impl Run {
    fn new(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let bits: u8 = u.arbitrary()?;
        let has = |bit: u8| bits & bit != 0;
        let session = session(has(1), has(2), has(4));
        let replay = if has(8) { step::filter(u)? } else { FilterSpec::default() };
        let max_connections = if has(16) { 8 } else { 1 << 20 };
        let settings = Settings { max_connections, max_rows: ROWS, max_sockets: 2, ..every() };
        let tracker = Tracker::new(session, &replay, settings).expect("the filter is short");
        let judge = Judge::new(Thresholds::default());
        let counters = Box::new(Counters::ZERO);
        Ok(Self { tracker, judge, settings, counters, missed: 0, withheld: 0, told: 0, delivered: 0 })
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Event(event, fate) => {
                let slot = slot(event.old, event.new);
                self.counters.seen[slot] += 1;
                match fate {
                    Fate::Delivered => self.record(kind::EVENT, event.as_bytes()),
                    Fate::Lost => self.counters.lost[slot] += 1,
                    Fate::Filtered => self.counters.filtered[slot] += 1,
                    Fate::Unaggregated => self.counters.unaggregated[slot] += 1,
                    Fate::Withheld => self.withheld += 1,
                }
            }
            // Its transition is in a row, or nobody has counted it.
            Step::Shown(event) => self.record(kind::EVENT, event.as_bytes()),
            Step::Row(row) => {
                self.counters.seen[slot(row.key.old, row.key.new)] += row.count;
                self.record(kind::AGGREGATES, row.as_bytes());
            }
            Step::Miss => self.missed += 1,
            Step::Record(kind, bytes) => self.record(*kind, bytes),
            Step::Reconfigure(changes, closed) => {
                // Whoever does not ask is not told; what is told can no longer be compared with what is delivered.
                self.tracker.reconfigure(100, *changes, *closed);
                self.told = u64::MAX;
            }
            Step::Report => {
                self.read();
                self.report();
            }
        }
    }

    fn record(&mut self, kind: u16, bytes: &[u8]) {
        let Ok(input) = decode(Record { kind, bytes }) else { return };
        let mut output = Output::default();
        self.tracker.apply(&input, &mut output);
        report::assert_output(&output);
        self.told = self.told.saturating_add(output.changes.len() as u64);
        let _ = (self.tracker.take_wanted(), self.tracker.needs_repair(), self.tracker.is_blurred());
    }

    fn read(&mut self) {
        let time = self.tracker.now();
        let reading = CounterReading { time, missed: self.missed, counters: self.counters.clone() };
        self.record(kind::COUNTERS, &encode_counters(&reading));
    }

    /// A report that follows a reading at once: between the two nothing can have come in whose place another one lacks.
    fn report(&mut self) {
        let mut report = self.tracker.report();
        self.judge.judge(&mut report);
        report::assert_holds(&report, &self.settings);
        assert_eq!(
            report.loss.balanced,
            self.withheld == 0,
            "{} were withheld: {:?}",
            self.withheld,
            report.loss
        );
        self.delivered += report.loss.delivered;
        assert!(self.told == u64::MAX || self.told == self.delivered, "{} of {}", self.told, self.delivered);
        report::assert_census(&self.tracker);
    }
}

fn session(perf: bool, half_open: bool, programs: bool) -> Session {
    let all = ["accepted", "last_close", "request_queued", "stack_state", "time_wait"];
    Session {
        program: "0.1.0".to_owned(),
        pid: Some(3),
        host: Host { name: "host".to_owned(), kernel: "6.18.0".to_owned(), boot_id: None },
        anchor: ClockAnchor { monotonic_ns: BASE, boottime_ns: BASE, unix_ns: 1_700_000_000_000_000_000 },
        started: Timestamp(BASE),
        attach: if perf { Attach::Tracepoint } else { Attach::TpBtf },
        half_open,
        programs: if programs { all.map(str::to_owned).into() } else { Vec::new() },
        filter: FilterSpec::default(),
        buffer_bytes: 1 << 24,
        degradations: Vec::new(),
    }
}

//! What holds for any input whatever: events in any order, twice or never, with reused addresses and cookies,
//! and times that run backwards.

use proptest::{collection::vec, prelude::*};
use tcp_trace_common::{
    aggregate::{AggregateKey, AggregateRow},
    counters::{Counters, slot},
    event::{StateChange, flags, kind as event_kind},
};
use tcp_trace_core::{
    decode::decode,
    endpoint::Endpoint,
    filter::FilterSpec,
    mode::{Mode, ModeChange, Reason},
    record::{CounterReading, Record, encode_counters, kind},
    report::{Loss, Report, TransitionCount},
    session::{Attach, Session},
    time::Timestamp,
    tracker::{Output, Settings, Tracker},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{check, dsl::BASE};

const MAX_CONNECTIONS: usize = 8;
const MAX_ROWS: usize = 3;

/// One thing that happens to a transition, or between transitions.
#[derive(Clone, Debug)]
enum Step {
    Deliver(Box<StateChange>),
    Lose(u8, u8),
    /// So many in a row; or without room for one.
    Aggregate(Box<AggregateRow>),
    Spill(u8, u8),
    /// An event whose transition is in a row.
    Show(Box<StateChange>),
    Mode(bool),
    Filter(u8, u8),
    Miss,
    /// The counters are read and a report is made.
    Report,
}

#[derive(Clone, Debug)]
struct Run {
    attach: Attach,
    half_open: bool,
    recorded: FilterSpec,
    replay: FilterSpec,
    max_connections: usize,
    steps: Vec<Step>,
}

/// States that exist, and now and then one that does not.
fn state() -> impl Strategy<Value = u8> {
    prop_oneof![20 => 1_u8..=11, 1 => any::<u8>()]
}

/// Transitions, half of them ones that kernels make.
pub(crate) fn transition() -> impl Strategy<Value = (u8, u8)> {
    let real =
        [(7, 2), (7, 10), (10, 3), (2, 1), (3, 1), (1, 8), (1, 4), (4, 5), (5, 5), (5, 7), (8, 9), (9, 7)];
    prop_oneof![proptest::sample::select(real.to_vec()), (state(), state())]
}

pub(crate) fn endpoint() -> impl Strategy<Value = Endpoint> {
    let addresses = ["0.0.0.0", "10.0.0.1", "10.0.0.2", "::", "2001:db8::1", "::ffff:10.0.0.1"];
    (proptest::sample::select(addresses.to_vec()), 0_u16..4)
        .prop_map(|(address, port)| Endpoint { address: address.parse().unwrap(), port })
}

prop_compose! {
    /// Few cookies, addresses, ports and processes, so that they meet.
    pub(crate) fn event()(
        (old, new) in transition(),
        (cookie, skaddr, flags) in (0_u64..12, 0_u64..6, 0_u32..256),
        (local, peer) in (endpoint(), endpoint()),
        (time, request) in (0_u64..1_000, 0_u64..1_000),
        (netns, cgroup_id, tgid, start) in (0_u32..3, 0_u64..3, 1_u32..7, 0_u64..2),
        (error, srtt_us, total_retrans, total_rto) in
            (prop_oneof![Just(0), Just(104), Just(111), any::<u16>()], 0_u32..3, 0_u32..3, 0_u16..3),
        comm in prop_oneof![any::<[u8; 16]>(), Just(*b"a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")],
    ) -> StateChange {
        StateChange {
            kind: event_kind::STATE_CHANGE,
            old, new, flags, cookie, skaddr, cgroup_id, netns, tgid, srtt_us, total_retrans, total_rto, comm,
            time_ns: BASE + time, request_ns: BASE + request,
            local_addr: local.wire_address(), local_port: local.port,
            peer_addr: peer.wire_address(), peer_port: peer.port,
            family: if local.address.is_ipv4() { 2 } else { 10 },
            sk_err: error, tid: tgid, process_start_ns: start, total_rto_time_ms: 3,
            ..StateChange::new_zeroed()
        }
    }
}

prop_compose! {
    pub(crate) fn row()(
        (old, new) in transition(),
        (tgid, netns, cgroup_id, listener_port) in (0_u32..7, 0_u32..3, 0_u64..3, 0_u16..4),
        (bucket, what, error) in (0_u8..70, 0_u8..9, prop_oneof![Just(0), Just(111), any::<u16>()]),
        count in 1_u64..100,
    ) -> AggregateRow {
        let process_start_ns = 0;
        let key = AggregateKey {
            process_start_ns, cgroup_id, tgid, netns, listener_port, error, old, new, bucket, what,
        };
        AggregateRow { key, count }
    }
}

pub(crate) fn filter() -> impl Strategy<Value = FilterSpec> {
    let some = (
        proptest::option::of(1_u32..7),
        proptest::option::of(1_u32..3),
        proptest::option::of(prop_oneof![Just(4_u8), Just(6)]),
        vec(1_u16..4, 0..2),
        vec(1_u16..4, 0..2),
    )
        .prop_map(|(pid, netns, ip_version, local_ports, peer_ports)| FilterSpec {
            pid,
            netns,
            ip_version,
            local_ports,
            peer_ports,
            cgroup_ids: Vec::new(),
        });
    prop_oneof![Just(FilterSpec::default()), some]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => event().prop_map(|event| Step::Deliver(Box::new(event))),
        2 => transition().prop_map(|(old, new)| Step::Lose(old, new)),
        2 => transition().prop_map(|(old, new)| Step::Filter(old, new)),
        4 => row().prop_map(|row| Step::Aggregate(Box::new(row))),
        1 => transition().prop_map(|(old, new)| Step::Spill(old, new)),
        6 => event().prop_map(|event| {
            let flags = event.flags | flags::AGGREGATED;
            Step::Show(Box::new(StateChange { flags, ..event }))
        }),
        1 => any::<bool>().prop_map(Step::Mode),
        1 => Just(Step::Miss),
        1 => Just(Step::Report),
    ]
}

prop_compose! {
    fn run()(
        attach in prop_oneof![Just(Attach::TpBtf), Just(Attach::Tracepoint)],
        half_open in any::<bool>(),
        (recorded, replay) in (filter(), filter()),
        max_connections in prop_oneof![Just(MAX_CONNECTIONS), Just(1 << 20)],
        steps in vec(step(), 0..120),
    ) -> Run {
        Run { attach, half_open, recorded, replay, max_connections, steps }
    }
}

/// What a run made.
struct Outcome {
    reports: Vec<Report>,
    rows: usize,
    json: Vec<u8>,
}

impl Run {
    /// Runs, with counters that are consistent.
    fn play(&self) -> Outcome {
        let mut outcome = Outcome { reports: Vec::new(), rows: 0, json: Vec::new() };
        let mut tracker = self.tracker();
        let (mut counters, mut missed) = (Box::new(Counters::ZERO), 0);
        for step in &self.steps {
            match step {
                Step::Deliver(event) => {
                    counters.seen[slot(event.old, event.new)] += 1;
                    apply(&mut tracker, &mut outcome, kind::EVENT, event.as_bytes());
                }
                Step::Lose(old, new) => {
                    counters.seen[slot(*old, *new)] += 1;
                    counters.lost[slot(*old, *new)] += 1;
                }
                Step::Filter(old, new) => {
                    counters.seen[slot(*old, *new)] += 1;
                    counters.filtered[slot(*old, *new)] += 1;
                }
                Step::Aggregate(row) => {
                    counters.seen[slot(row.key.old, row.key.new)] += row.count;
                    apply(&mut tracker, &mut outcome, kind::AGGREGATES, row.as_bytes());
                }
                Step::Spill(old, new) => {
                    counters.seen[slot(*old, *new)] += 1;
                    counters.unaggregated[slot(*old, *new)] += 1;
                }
                Step::Show(event) => apply(&mut tracker, &mut outcome, kind::EVENT, event.as_bytes()),
                Step::Mode(aggregate) => {
                    let mode = if *aggregate { Mode::Aggregate } else { Mode::Stream };
                    let change = ModeChange { time: Timestamp(BASE + 500), mode, reason: Reason::Asked };
                    let json = serde_json::to_vec(&change).unwrap();
                    apply(&mut tracker, &mut outcome, kind::MODE, &json);
                }
                Step::Miss => missed += 1,
                Step::Report => {
                    read(&mut tracker, &mut outcome, &counters, missed);
                    report(&mut tracker, &mut outcome);
                }
            }
        }
        read(&mut tracker, &mut outcome, &counters, missed);
        apply(&mut tracker, &mut outcome, kind::END, &(BASE + 2_000).to_le_bytes());
        report(&mut tracker, &mut outcome);
        outcome
    }

    fn tracker(&self) -> Tracker {
        let session = Session {
            attach: self.attach,
            half_open: self.half_open,
            filter: self.recorded.clone(),
            ..check::session()
        };
        let settings = Settings {
            max_connections: self.max_connections,
            max_rows: MAX_ROWS,
            max_sockets: 2,
            close_wait_after_ns: 100,
            changes: true,
            closed: true,
            series: true,
        };
        Tracker::new(session, &self.replay, settings).unwrap()
    }
}

fn apply(tracker: &mut Tracker, outcome: &mut Outcome, kind: u16, bytes: &[u8]) {
    let mut output = Output::default();
    tracker.apply(&decode(Record { kind, bytes }).unwrap(), &mut output);
    outcome.rows += output.changes.len();
    for row in &output.changes {
        serde_json::to_writer(&mut outcome.json, row).unwrap();
    }
    for obituary in &output.closed {
        serde_json::to_writer(&mut outcome.json, obituary).unwrap();
    }
}

fn read(tracker: &mut Tracker, outcome: &mut Outcome, counters: &Counters, missed: u64) {
    let reading = CounterReading { time: Timestamp(BASE + 1_000), missed, counters: Box::new(*counters) };
    apply(tracker, outcome, kind::COUNTERS, &encode_counters(&reading));
}

fn report(tracker: &mut Tracker, outcome: &mut Outcome) {
    let report = tracker.report();
    serde_json::to_writer(&mut outcome.json, &report).unwrap();
    outcome.reports.push(report);
}

fn count(cells: &[TransitionCount]) -> u64 {
    cells.iter().map(|cell| cell.count).sum()
}

fn sum(reports: &[Report], number: impl Fn(&Report) -> u64) -> u64 {
    reports.iter().map(number).sum()
}

/// A record of any bytes, often of a length that means something.
fn record() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let event = vec(any::<u8>(), size_of::<StateChange>()).prop_map(|mut bytes| {
        bytes[..2].copy_from_slice(&event_kind::STATE_CHANGE.to_le_bytes());
        (kind::EVENT, bytes)
    });
    let counters = (0_u64..300, any::<[u64; 7]>()).prop_map(|(slot, [time, missed, rest @ ..])| {
        let words = [time, missed, slot].into_iter().chain(rest);
        (kind::COUNTERS, words.flat_map(u64::to_le_bytes).collect())
    });
    let end = any::<u64>().prop_map(|time| (kind::END, time.to_le_bytes().to_vec()));
    prop_oneof![event, counters, end, (0_u16..13, vec(any::<u8>(), 0..200))]
}

/// Few cases as a rule, and as many as `PROPTEST_CASES` asks for.
pub(crate) fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if asked.cases == 256 { 64 } else { asked.cases };
    ProptestConfig { cases, failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_transition_is_delivered_filtered_or_lost_and_each_window_says_so(run in run()) {
        let Outcome { reports, rows, .. } = run.play();
        for report in &reports {
            let loss = report.loss;
            prop_assert!(loss.balanced);
            prop_assert_eq!(loss.seen, loss.delivered + loss.filtered + loss.lost + loss.aggregated);
        }
        prop_assert_eq!(sum(&reports, |report| report.loss.delivered), rows as u64);
    }

    #[test]
    fn the_matrix_is_what_was_delivered_and_what_was_lost(run in run()) {
        // Nobody can say whether a filter that user space applies would have accepted a lost event.
        let lost_are_ours = run.recorded.is_decided_in_kernel() && run.replay.is_empty();
        for report in run.play().reports {
            let loss = report.loss;
            let lost = if lost_are_ours { loss.lost - loss.missed + loss.aggregated } else { 0 };
            prop_assert_eq!(count(&report.transitions), loss.delivered + lost);
        }
    }

    #[test]
    fn every_delivered_transition_is_some_processs(run in run()) {
        let rows_are_ours = run.recorded.is_decided_in_kernel() && run.replay.is_empty();
        let reports = run.play().reports;
        for process in reports.iter().flat_map(|report| &report.processes) {
            prop_assert_eq!(process.total, count(&process.transitions));
        }
        let attributed = sum(&reports, |r| r.omitted + r.processes.iter().map(|p| p.total).sum::<u64>());
        let rows = |loss: &Loss| if rows_are_ours { loss.aggregated - loss.unattributed } else { 0 };
        prop_assert_eq!(attributed, sum(&reports, |report| report.loss.delivered + rows(&report.loss)));
    }

    #[test]
    fn tables_stay_within_their_bounds(run in run()) {
        for report in run.play().reports {
            let live = |report: &Report| report.states.values().filter_map(|state| state.live).sum::<u64>();
            prop_assert!(live(&report) <= run.max_connections as u64);
            prop_assert!(report.processes.len() <= MAX_ROWS);
            // One row more sums up the rest.
            prop_assert!(report.connect.len() <= MAX_ROWS + 1);
            prop_assert!(report.half_open.listeners.len() <= MAX_ROWS + 1);
            prop_assert!(report.close_wait.processes.iter().all(|row| row.sockets.len() <= 2));
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes(run in run()) {
        prop_assert!(run.play().json == run.play().json);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_and_what_is_decoded_is_applied(records in vec(record(), 0..20)) {
        let mut tracker =
            Tracker::new(check::session(), &FilterSpec::default(), Settings::default()).unwrap();
        let mut output = Output::default();
        for (kind, bytes) in &records {
            if let Ok(input) = decode(Record { kind: *kind, bytes }) {
                tracker.apply(&input, &mut output);
            }
        }
        serde_json::to_vec(&(output.changes, output.closed, tracker.report())).unwrap();
    }
}

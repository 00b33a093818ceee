//! What holds when everything goes wrong at once: besides `properties.rs`, records that arrive twice or never although they
//! were counted, clocks that step, surveys that contradict the events, modes that change, numbers at their ends, and
//! records of any bytes.

use std::collections::{BTreeMap, HashMap};

use proptest::{collection::vec, prelude::*};
use tcp_trace_common::{
    aggregate::AggregateRow,
    counters::{Counters, slot},
    event::{RequestChange, SocketUse, StateChange, flags, kind as event_kind},
};
use tcp_trace_core::{
    decode::decode,
    filter::FilterSpec,
    findings::{Judge, Thresholds},
    mode::{Mode, ModeChange, Reason},
    record::{CounterReading, Record, encode_counters, kind},
    report::{Limit, Report},
    session::{Attach, Session},
    state::TcpState,
    survey::{
        Facts, Holder, ListenerFacts, NamespaceFacts, RequestRow, SocketCounters, SocketRow, SurveyBegin,
        SurveyEnd, Timer, encode_holders, encode_requests, encode_sockets,
    },
    time::Timestamp,
    tracker::{Account, Output, Settings, Tracker},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    check,
    dsl::BASE,
    properties::{config, endpoint, event, filter, row, transition},
};

const MAX_CONNECTIONS: usize = 6;

/// What becomes of a transition that the kernel has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    Lost,
    Filtered,
    /// It was passed on and never arrived.
    Withheld,
    /// It arrived, and arrived again.
    Doubled,
}

#[derive(Clone, Debug)]
enum Step {
    Event(Box<StateChange>, Fate),
    Shown(Box<StateChange>),
    Row(Box<AggregateRow>),
    Record(u16, Vec<u8>),
    /// From here on the clock is so much behind or ahead.
    Clock(i64),
    Reconfigure(bool, bool),
    Report,
}

/// An event with flags of every kind, and now and then with every number at its end.
fn any_event() -> impl Strategy<Value = Box<StateChange>> {
    (event(), 0_u32..1 << 15, 0_u8..20).prop_map(|(event, flags, extreme)| {
        let mut event = StateChange { flags, ..event };
        if extreme == 0 {
            event.request_ns = u64::MAX;
            event.process_start_ns = u64::MAX;
            (event.bytes_received, event.bytes_acked, event.unread) = (u64::MAX, u64::MAX, u32::MAX);
            (event.srtt_us, event.total_retrans, event.total_rto_time_ms) = (u32::MAX, u32::MAX, u32::MAX);
            (event.total_rto, event.sk_err, event.netns, event.cgroup_id) =
                (u16::MAX, u16::MAX, u32::MAX, u64::MAX);
        }
        if extreme == 1 {
            event.time_ns = u64::MAX;
        }
        Box::new(event)
    })
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        20 => Just(Fate::Delivered),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Filtered),
        1 => Just(Fate::Withheld),
        1 => Just(Fate::Doubled),
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        20 => (0_u64..2_000).prop_map(|ns| Timestamp(BASE + ns)),
        1 => Just(Timestamp(BASE + 5_000_000_000)),
        1 => any::<u64>().prop_map(Timestamp),
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0_u32..4, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn cookie() -> impl Strategy<Value = std::num::NonZeroU64> {
    (1_u64..12).prop_map(|number| number.try_into().unwrap())
}

prop_compose! {
    fn socket()(
        (netns, cookie, state) in (0_u32..3, cookie(), 0_u8..14),
        (local, peer) in (endpoint(), endpoint()),
        (inode, cgroup_id) in (proptest::option::of(1_u32..9), proptest::option::of(0_u64..3)),
        (receive_queue, send_queue, expires_ms) in (number(), number(), number()),
        (timer, retransmits) in (0_u8..6, any::<u8>()),
    ) -> SocketRow {
        let family = if local.address.is_ipv4() { 2 } else { 10 };
        SocketRow {
            netns, cookie, local, peer, family, inode, cgroup_id, receive_queue, send_queue, retransmits, expires_ms,
            state: TcpState::from_number(state), uid: 0, timer: Timer::from_number(timer), info: None,
        }
    }
}

/// A part of a survey, in no order.
fn survey() -> impl Strategy<Value = Step> {
    let begin =
        time().prop_map(|time| json(kind::SURVEY_BEGIN, &SurveyBegin { time, scope: "all".to_owned() }));
    let sockets =
        (time(), vec(socket(), 0..6)).prop_map(|(time, rows)| (kind::SOCKETS, encode_sockets(time, &rows)));
    let holder = (1_u32..9, 1_u32..5, 0_u32..3).prop_map(|(inode, pid, fd)| Holder { inode, pid, fd });
    let holders = vec(holder, 0..6).prop_map(|holders| (kind::HOLDERS, encode_holders(&holders)));
    let request = (cookie(), time(), endpoint(), endpoint())
        .prop_map(|(cookie, queued, local, peer)| RequestRow { cookie, queued, local, peer, family: 2 });
    let requests = vec(request, 0..6).prop_map(|rows| (kind::REQUESTS, encode_requests(&rows)));
    let facts =
        (0_u32..3, any::<u64>(), cookie(), number()).prop_map(|(inum, passive_opens, cookie, drops)| {
            let counters = SocketCounters {
                passive_opens,
                embryonic_resets: passive_opens,
                ..SocketCounters::default()
            };
            let namespaces = vec![NamespaceFacts {
                inum,
                name: None,
                port_range: Some((drops as u16, 4)),
                syncookies: Some(1),
                synack_retries: Some(drops as u8),
                somaxconn: None,
                time_wait_reuse: None,
                counters: Some(counters),
            }];
            let listeners = vec![ListenerFacts { cookie, drops }];
            json(kind::FACTS, &Facts { namespaces, listeners, ..Facts::default() })
        });
    let end = (time(), any::<[bool; 3]>(), vec(0_u32..3, 0..3)).prop_map(
        |(time, [whole, holders, all], namespaces)| {
            let states = if whole { (1..=13).collect() } else { vec![8, 10, 12] };
            json(
                kind::SURVEY_END,
                &SurveyEnd { time, states, namespaces, holders, holders_complete: all, problems: Vec::new() },
            )
        },
    );
    prop_oneof![2 => begin, 4 => sockets, 1 => holders, 1 => requests, 1 => facts, 2 => end]
        .prop_map(|(kind, bytes)| Step::Record(kind, bytes))
}

fn json(kind: u16, value: &impl serde::Serialize) -> (u16, Vec<u8>) {
    (kind, serde_json::to_vec(value).unwrap())
}

/// What tasks do with sockets, and what becomes of requests; a change of the mode; and any bytes.
fn other() -> impl Strategy<Value = Step> {
    let used = (0_u16..5, 0_u64..12, 1_u32..7, time()).prop_map(|(how, cookie, tgid, time)| {
        let kind = event_kind::SOCKET_USE;
        let used = SocketUse { kind, how, cookie, tgid, time_ns: time.0, ..SocketUse::new_zeroed() };
        (kind::EVENT, used.as_bytes().to_vec())
    });
    let request =
        (0_u16..5, 0_u64..12, endpoint(), time(), number()).prop_map(|(what, cookie, local, time, queue)| {
            let kind = event_kind::REQUEST_CHANGE;
            let (local_addr, local_port) = (local.wire_address(), local.port);
            let change =
                RequestChange { kind, what, cookie, local_addr, local_port, ..RequestChange::new_zeroed() };
            let change = RequestChange { time_ns: time.0, accept_queue: queue, accept_limit: 1, ..change };
            (kind::EVENT, change.as_bytes().to_vec())
        });
    let mode = (time(), any::<bool>()).prop_map(|(time, aggregate)| {
        let mode = if aggregate { Mode::Aggregate } else { Mode::Stream };
        json(kind::MODE, &ModeChange { time, mode, reason: Reason::Lost })
    });
    let bytes = (4_u16..14, vec(any::<u8>(), 0..120))
        .prop_filter("rows are counted", |(kind, _)| *kind != kind::AGGREGATES);
    prop_oneof![used, request, mode, bytes].prop_map(|(kind, bytes)| Step::Record(kind, bytes))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (any_event(), fate()).prop_map(|(event, fate)| Step::Event(event, fate)),
        6 => any_event().prop_map(|mut event| {
            event.flags |= flags::AGGREGATED;
            Step::Shown(event)
        }),
        4 => (row(), any::<bool>()).prop_map(|(row, many)| {
            let count = if many { u64::from(u32::MAX) } else { row.count };
            Step::Row(Box::new(AggregateRow { count, ..row }))
        }),
        12 => survey(),
        6 => other(),
        1 => (-3_000_000_000_i64..3_000_000_000).prop_map(Step::Clock),
        1 => any::<[bool; 2]>().prop_map(|[changes, closed]| Step::Reconfigure(changes, closed)),
        2 => Just(Step::Report),
    ]
}

#[derive(Clone, Debug)]
struct Run {
    session: Session,
    filter: FilterSpec,
    max_connections: usize,
    steps: Vec<Step>,
}

prop_compose! {
    fn run()(
        perf in any::<bool>(),
        half_open in any::<bool>(),
        programs in any::<bool>(),
        filter in filter(),
        max_connections in prop_oneof![Just(MAX_CONNECTIONS), Just(1 << 20)],
        steps in vec(step(), 0..150),
    ) -> Run {
        let all = ["accepted", "last_close", "request_queued", "stack_state", "time_wait"];
        let programs = if programs { all.map(str::to_owned).into() } else { Vec::new() };
        let attach = if perf { Attach::Tracepoint } else { Attach::TpBtf };
        Run { session: Session { attach, half_open, programs, ..check::session() }, filter, max_connections, steps }
    }
}

/// A run under way.
struct Play {
    tracker: Tracker,
    judge: Judge,
    counters: Box<Counters>,
    /// By kind, how many more have arrived than were counted.
    surplus: BTreeMap<usize, i64>,
    shift: i64,
    reports: Vec<Report>,
    accounts: Vec<Account>,
    /// The longest time that anything may have lasted, and the longest that something is said to have lasted.
    times: (u64, u64),
    longest: u64,
}

impl Run {
    fn settings(&self) -> Settings {
        Settings {
            close_wait_after_ns: 100,
            max_connections: self.max_connections,
            max_rows: 3,
            max_sockets: 2,
            changes: true,
            closed: true,
            series: true,
        }
    }

    fn play(&self) -> Play {
        let mut play = Play {
            tracker: Tracker::new(self.session.clone(), &self.filter, self.settings()).unwrap(),
            judge: Judge::new(Thresholds::default()),
            counters: Box::new(Counters::ZERO),
            surplus: BTreeMap::new(),
            shift: 0,
            reports: Vec::new(),
            accounts: Vec::new(),
            times: (u64::MAX, 0),
            longest: 0,
        };
        for step in &self.steps {
            play.step(step);
        }
        play.read();
        play.record(kind::END, &(BASE + 2_000).to_le_bytes());
        play.report();
        play
    }
}

impl Play {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Event(event, fate) => self.event(event, *fate),
            Step::Shown(event) => self.send(event),
            Step::Row(row) => {
                self.counters.seen[slot(row.key.old, row.key.new)] += row.count;
                self.record(kind::AGGREGATES, row.as_bytes());
            }
            Step::Record(kind, bytes) => self.record(*kind, bytes),
            Step::Clock(step) => self.shift = *step,
            Step::Reconfigure(changes, closed) => self.tracker.reconfigure(100, *changes, *closed),
            Step::Report => {
                self.read();
                self.report();
            }
        }
    }

    fn event(&mut self, event: &StateChange, fate: Fate) {
        let slot = slot(event.old, event.new);
        self.counters.seen[slot] += 1;
        match fate {
            Fate::Delivered => self.send(event),
            Fate::Lost => self.counters.lost[slot] += 1,
            Fate::Filtered => self.counters.filtered[slot] += 1,
            Fate::Withheld => *self.surplus.entry(slot).or_default() -= 1,
            Fate::Doubled => {
                self.send(event);
                self.send(event);
                *self.surplus.entry(slot).or_default() += 1;
            }
        }
    }

    fn send(&mut self, event: &StateChange) {
        let time_ns = event.time_ns.saturating_add_signed(self.shift);
        self.times = (self.times.0.min(time_ns), self.times.1.max(time_ns));
        self.record(kind::EVENT, StateChange { time_ns, ..*event }.as_bytes());
    }

    fn record(&mut self, kind: u16, bytes: &[u8]) {
        let Ok(input) = decode(Record { kind, bytes }) else { return };
        let mut output = Output::default();
        self.tracker.apply(&input, &mut output);
        serde_json::to_vec(&(&output.changes, &output.closed)).unwrap();
        // A handshake's time begins with a request, which the event itself tells of.
        let changes = output.changes.iter().filter(|change| change.old != TcpState::SynReceived);
        self.longest = self.longest.max(changes.filter_map(|change| change.duration_ns).max().unwrap_or(0));
    }

    fn read(&mut self) {
        let reading = CounterReading { time: self.tracker.now(), missed: 0, counters: self.counters.clone() };
        self.record(kind::COUNTERS, &encode_counters(&reading));
    }

    fn report(&mut self) {
        let mut report = self.tracker.report();
        self.judge.judge(&mut report);
        serde_json::to_vec(&report).unwrap();
        self.reports.push(report);
        self.accounts.push(self.tracker.account());
    }
}

/// Lives of a few sockets, each under its own cookie, and every event in sight.
fn lives() -> impl Strategy<Value = Vec<StateChange>> {
    let event = (1_u64..6, transition(), 0_u64..1_000, any::<u32>());
    let event = event.prop_map(|(cookie, (old, new), time, bits)| StateChange {
        kind: event_kind::STATE_CHANGE,
        flags: flags::HAS_SOCK | bits & (flags::DONE | flags::NO_FILE | flags::HAS_TCP),
        family: 2,
        local_addr: "::ffff:10.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        peer_addr: "::ffff:10.0.0.2".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        time_ns: BASE + time,
        // An address is given to the next socket as soon as one is closed.
        skaddr: u64::from(bits >> 30),
        local_port: 80,
        peer_port: 1,
        netns: 1,
        old,
        new,
        cookie,
        ..StateChange::new_zeroed()
    });
    vec(event, 0..150)
}

/// A recording's counters may say anything: numbers that are too large stay at the largest.
#[test]
fn counters_at_their_ends_are_reported_as_they_are() {
    let mut tracker = Tracker::new(check::session(), &FilterSpec::default(), Settings::default()).unwrap();
    let mut counters = Box::new(Counters::ZERO);
    for old in [2, 3, 4] {
        counters.seen[slot(old, 1)] = u64::MAX;
        counters.unaggregated[slot(old, 1)] = u64::MAX;
    }
    let reading = CounterReading { time: Timestamp(BASE), missed: u64::MAX, counters };
    let huge = |count| NamespaceFacts {
        inum: 1,
        name: None,
        port_range: Some((u16::MAX, 0)),
        syncookies: Some(0),
        synack_retries: Some(u8::MAX),
        somaxconn: Some(u64::MAX),
        time_wait_reuse: None,
        counters: Some(SocketCounters {
            request_queue_full_cookies: count,
            request_queue_full_drops: count,
            syncookies_sent: count,
            listen_overflows: count,
            listen_drops: count,
            ..SocketCounters::default()
        }),
    };
    for count in [0, u64::MAX] {
        let (kind, bytes) = json(kind::FACTS, &Facts { namespaces: vec![huge(count)], ..Facts::default() });
        tracker.apply(&decode(Record { kind, bytes: &bytes }).unwrap(), &mut Output::default());
    }
    let bytes = encode_counters(&reading);
    let input = decode(Record { kind: kind::COUNTERS, bytes: &bytes }).unwrap();
    tracker.apply(&input, &mut Output::default());
    let mut report = tracker.report();
    Judge::new(Thresholds::default()).judge(&mut report);
    assert_eq!(report.states[&TcpState::Established].entered, u64::MAX);
    assert_eq!(report.loss.aggregated, u64::MAX);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_table_is_bounded_whatever_comes(run in run()) {
        for Report { limits, states, .. } in run.play().reports {
            for Limit { name, limit, in_use, peak, .. } in limits {
                // One that is too many is counted before it goes.
                prop_assert!(in_use <= limit && peak <= limit + 1, "{}: {} of {}, {} at most", name, in_use, limit, peak);
            }
            let live = states.values().filter_map(|state| state.live).sum::<u64>();
            prop_assert!(live <= run.max_connections as u64);
        }
    }

    #[test]
    fn every_connection_that_was_opened_is_live_closed_or_evicted(run in run()) {
        let Play { accounts, reports, .. } = run.play();
        for (Account { opened, live, closed, evicted }, report) in accounts.into_iter().zip(reports) {
            prop_assert_eq!(opened, live + closed + evicted);
            let table = report.limits.iter().find(|limit| limit.name == "connections").unwrap();
            prop_assert_eq!(live, table.in_use);
            prop_assert!(evicted <= table.dropped, "what is given up is said");
        }
    }

    #[test]
    fn a_balance_that_does_not_hold_is_never_said_to(run in run()) {
        let Play { reports, surplus, .. } = run.play();
        let last = reports.last().unwrap();
        prop_assert_eq!(last.loss.balanced, surplus.values().all(|surplus| *surplus == 0));
    }

    #[test]
    fn nothing_lasts_longer_than_the_run_whatever_the_clock_does(run in run()) {
        let Play { times: (first, last), longest, .. } = run.play();
        // What a survey has found may be older than any event.
        let is_found = run.steps.iter().any(|step| matches!(step, Step::Record(kind::SOCKETS, _)));
        prop_assert!(is_found || longest <= last.saturating_sub(first), "{} in {}", longest, last - first);
    }

    #[test]
    fn the_populations_are_what_the_events_have_left(events in lives()) {
        let mut tracker = Tracker::new(check::session(), &FilterSpec::default(), Settings::default()).unwrap();
        let mut model = HashMap::new();
        for event in &events {
            tracker.apply(&decode(Record { kind: kind::EVENT, bytes: event.as_bytes() }).unwrap(), &mut Output::default());
            if event.new == TcpState::Close.number() {
                model.remove(&event.cookie);
            } else {
                model.insert(event.cookie, event.new);
            }
        }
        let report = tracker.report();
        for (state, summary) in report.states.iter().filter(|(_, summary)| summary.live.is_some()) {
            let expected = model.values().filter(|now| **now == state.number()).count();
            prop_assert_eq!(summary.live, Some(expected as u64), "{:?}", state);
        }
        prop_assert_eq!(tracker.account().live, model.len() as u64);
    }
}

//! What holds for the bounded metrics whatever happens: no counter falls, increases add up, series are bounded, and what
//! is left over is in `other`.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
};

use proptest::{collection::vec, prelude::*};
use tcp_trace_core::{
    metrics::{Meter, Own, Settings},
    process::Comm,
    report::{CloseWaitProcess, Connect, DurationSummary, Listener, ProcessIdentity, Report},
    time::WallTime,
};

use super::{START, values};
use crate::check::last_report;

const MAX: usize = 3;
/// A window is a second, and a series goes after so many.
const STALE: u64 = 4;

/// A window: listeners, owners and destinations with numbers, and what of them no row tells.
#[derive(Clone, Debug)]
struct Window {
    listeners: Vec<(u16, u8, [u64; 4])>,
    owners: Vec<(u8, u64)>,
    destinations: Vec<(u16, u64)>,
    unlisted: u64,
}

prop_compose! {
    fn window()(
        listeners in vec((1_u16..12, 0_u8..4, [0_u64..100, 0..100, 0..3, 0..50]), 0..8),
        owners in vec((0_u8..12, 1_u64..100), 0..8),
        destinations in vec((1_u16..12, 0_u64..50), 0..8),
        unlisted in 0_u64..5,
    ) -> Window {
        Window { listeners, owners, destinations, unlisted }
    }
}

fn process(who: u8) -> Option<ProcessIdentity> {
    // Unknown, one that calls itself what the rest is called, and others.
    let comm = match who {
        0 => return None,
        1 => "other".to_owned(),
        2 => "a\"b\\".to_owned(),
        n => format!("process{n}"),
    };
    Some(ProcessIdentity {
        pid: u32::from(who),
        comm: Comm::from_text(&comm),
        exe: None,
        cmdline: None,
        user: None,
        start_time: None,
        container: None,
        cgroup: None,
        fds: None,
        nofile: None,
    })
}

fn template() -> Report {
    last_report(
        "
        session half_open
        +0ms LISTEN>SYN_RECV ck=5 10.0.0.1:80>10.0.0.2:4000 ns=1
        +0ms SYN_RECV>EST ck=5 10.0.0.1:80>10.0.0.2:4000 ns=1 req=5
        +0ms EST>CLOSE_WAIT ck=5 10.0.0.1:80>10.0.0.2:4000 ns=1 done
        +1ms CLOSE>SYN_SENT ck=6 10.0.0.1:0>10.0.0.9:5432 task=100:client
        +2ms SYN_SENT>CLOSE ck=6 10.0.0.1:4000>10.0.0.9:5432 err=111 task=100:client
        survey +10ms\nsurveyed +11ms report ns=1\nend +60000ms\nreport findings",
    )
}

impl Window {
    /// The report of it, as the tracker would make it: totals are of all, rows of those that there was room for.
    fn report(&self, template: &Report, number: u64) -> Report {
        let mut report = template.clone();
        report.window.end = WallTime(START.0 + (number + 1) * 1_000_000_000);
        let row = report.half_open.listeners[0].clone();
        let sum =
            |at: usize| self.listeners.iter().map(|(.., counts)| counts[at]).sum::<u64>() + self.unlisted;
        let times = |count| DurationSummary { count, ..DurationSummary::default() };
        report.half_open.completed = times(sum(0));
        report.half_open.expired = Some(sum(1));
        report.half_open.cookies = Some(sum(2));
        report.half_open.live = Some(sum(3));
        report.half_open.listeners = self
            .listeners
            .iter()
            .map(|(port, who, [completed, expired, cookies, live])| {
                let mut local = row.local.unwrap();
                local.port = *port;
                Listener {
                    local: Some(local),
                    process: process(*who),
                    completed: times(*completed),
                    expired: Some(*expired),
                    cookies: Some(*cookies),
                    live: Some(*live),
                    drops: Some(*expired),
                    ..row.clone()
                }
            })
            .collect();
        let leak = report.close_wait.processes[0].clone();
        report.close_wait.processes = self
            .owners
            .iter()
            .map(|(who, count)| CloseWaitProcess {
                process: process(*who),
                count: *count,
                oldest_ns: Some(*count),
                ..leak.clone()
            })
            .collect();
        report.close_wait.lingering = self.owners.iter().map(|(_, count)| count).sum::<u64>() + self.unlisted;
        let attempt = report.connect[0].clone();
        report.connect = self
            .destinations
            .iter()
            .map(|(port, refused)| {
                let mut peer = attempt.peer.unwrap();
                peer.port = *port;
                Connect { peer: Some(peer), refused: *refused, ..attempt.clone() }
            })
            .collect();
        report
    }
}

fn settings() -> Settings {
    let max = NonZeroUsize::new(MAX).unwrap();
    Settings {
        max_owners: max,
        max_listeners: max,
        max_destinations: max,
        stale_after_s: STALE,
        ..Settings::default()
    }
}

type Values = BTreeMap<String, f64>;

/// Series of a metric with this in their labels.
fn of<'a>(values: &'a Values, name: &'a str, label: &'a str) -> impl Iterator<Item = (&'a String, f64)> {
    let series = values.iter().filter(move |(series, _)| series.starts_with(&format!("{name}{{")));
    series.filter(move |(series, _)| series.contains(label)).map(|(series, value)| (series, *value))
}

fn sum(values: &Values, name: &str, label: &str) -> f64 {
    of(values, name, label).map(|(_, value)| value).sum()
}

/// By how much the series of a metric have risen together, as `sum(increase())` has it: a series that is new rises from
/// its first value on.
fn risen(before: &Values, after: &Values, name: &str, label: &str) -> f64 {
    of(after, name, label).filter_map(|(series, value)| Some(value - before.get(series)?)).sum()
}

const BOUNDED: [(&str, &str, usize); 6] = [
    ("tcp_trace_listener_handshakes", "outcome=completed", 1),
    ("tcp_trace_listener_handshakes", "outcome=expired", 1),
    ("tcp_trace_listener_handshakes", "outcome=cookie", 1),
    ("tcp_trace_listener_dropped_segments", "", 1),
    ("tcp_trace_connect_failures", "error=refused", 1),
    ("tcp_trace_half_open_requests", "", 1),
];

/// The snapshots of a run, the first one before anything was counted.
fn play(windows: &[Window]) -> Vec<Values> {
    let template = template();
    let mut meter = Meter::new(settings(), START);
    let quiet = Window { listeners: Vec::new(), owners: Vec::new(), destinations: Vec::new(), unlisted: 0 };
    let all = std::iter::once(&quiet).chain(windows);
    let mut snapshots = Vec::new();
    for (number, window) in (0..).zip(all) {
        meter.absorb(&window.report(&template, number));
        snapshots.push(values(&meter.snapshot(&Own::default())));
    }
    snapshots
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_counter_falls_and_a_new_series_begins_at_0(windows in vec(window(), 1..40)) {
        let snapshots = play(&windows);
        for pair in snapshots.windows(2) {
            for (name, label, _) in &BOUNDED[..5] {
                for (series, value) in of(&pair[1], name, label) {
                    match pair[0].get(series) {
                        Some(before) => prop_assert!(value >= *before, "{series} falls"),
                        None => prop_assert!(value == 0.0 || series.contains("=other"), "{series} begins at {value}"),
                    }
                }
                // What sums up the rest never goes; of drops nothing is known before a listener was looked at.
                let rest = |values| of(values, name, label).any(|(series, _)| series.contains("=other"));
                prop_assert!(rest(&pair[1]) || !rest(&pair[0]));
            }
        }
    }

    #[test]
    fn in_each_window_the_series_rise_by_what_was_counted(windows in vec(window(), 1..40)) {
        let snapshots = play(&windows);
        for (window, pair) in windows.iter().zip(snapshots.windows(2)) {
            let (before, after) = (&pair[0], &pair[1]);
            let counted = |at: usize| {
                (window.listeners.iter().map(|(.., counts)| counts[at]).sum::<u64>() + window.unlisted) as f64
            };
            let name = "tcp_trace_listener_handshakes";
            for (at, outcome) in ["completed", "expired", "cookie"].into_iter().enumerate() {
                let label = format!("outcome={outcome}");
                prop_assert_eq!(risen(before, after, name, &label), counted(at));
                // The one without labels says the same, and never loses any.
                prop_assert_eq!(risen(before, after, "tcp_trace_handshakes", &label), counted(at));
            }
            let refused = window.destinations.iter().map(|(_, refused)| *refused).sum::<u64>() as f64;
            prop_assert_eq!(risen(before, after, "tcp_trace_connect_failures", "error=refused"), refused);
        }
    }

    #[test]
    fn gauges_add_up_to_the_total(windows in vec(window(), 1..40)) {
        for (window, after) in windows.iter().zip(&play(&windows)[1..]) {
            let live = window.listeners.iter().map(|(.., counts)| counts[3]).sum::<u64>() + window.unlisted;
            prop_assert_eq!(sum(after, "tcp_trace_half_open_requests", ""), live as f64);
            let lingering = window.owners.iter().map(|(_, count)| *count).sum::<u64>() + window.unlisted;
            prop_assert_eq!(sum(after, "tcp_trace_close_wait_lingering_sockets", ""), lingering as f64);
            let oldest = window.owners.iter().map(|(_, count)| *count).max();
            let told = of(after, "tcp_trace_close_wait_oldest_seconds", "").map(|(_, value)| value);
            // The owners are merged by name, the oldest of each is theirs, and none is forgotten.
            let most = told.fold(0.0, f64::max);
            prop_assert!((most - oldest.unwrap_or(0) as f64 / 1e9).abs() < 1e-12);
        }
    }

    #[test]
    fn series_are_bounded_and_so_are_those_that_come(windows in vec(window(), 1..60)) {
        let snapshots = play(&windows);
        for (name, label, each) in BOUNDED {
            let mut ever = BTreeSet::new();
            for after in &snapshots {
                let now: Vec<_> = of(after, name, label).map(|(series, _)| series).collect();
                prop_assert!(now.len() <= (MAX + 1) * each, "{name}");
                ever.extend(now.into_iter().cloned());
            }
            if name != "tcp_trace_half_open_requests" {
                // A place is taken anew once in the time after which a series goes.
                let turns = 1 + (windows.len() as u64 + 1) / STALE;
                prop_assert!(ever.len() as u64 <= MAX as u64 * turns + 1, "{name}: {ever:?}");
            }
        }
        prop_assert!(snapshots.iter().all(|after| of(after, "tcp_trace_close_wait_lingering_sockets", "").count() <= MAX + 1));
    }
}

/// The rows of a window are cut where they say more than the total: nobody can check a recording.
#[test]
fn rows_that_exceed_their_total_do_not_make_it_larger() {
    let template = template();
    let mut meter = Meter::new(settings(), START);
    let window = Window {
        listeners: vec![(80, 3, [7, 0, 0, 9])],
        owners: vec![(3, 9)],
        destinations: vec![],
        unlisted: 0,
    };
    for number in 0..3 {
        let mut report = window.report(&template, number);
        report.half_open.completed.count = 2;
        report.half_open.live = Some(1);
        meter.absorb(&report);
    }
    let values = values(&meter.snapshot(&Own::default()));
    assert_eq!(sum(&values, "tcp_trace_listener_handshakes", "outcome=completed"), 6.0);
}

/// A listener that was quiet for long, and one that gets a flood, have their places all the same.
#[test]
fn what_has_most_to_tell_gets_a_place_and_what_is_quiet_loses_it() {
    let template = template();
    let mut meter = Meter::new(settings(), START);
    let at = |listeners: &[(u16, u64)]| Window {
        listeners: listeners.iter().map(|(port, count)| (*port, 3, [*count, 0, 0, 0])).collect(),
        owners: vec![],
        destinations: vec![],
        unlisted: 0,
    };
    let few = [(1, 5), (2, 5), (3, 5)];
    let mut ports = Vec::new();
    for number in 0..40 {
        let mut now: Vec<(u16, u64)> = few.to_vec();
        if number >= 10 {
            now.push((9, 1000));
        }
        if number >= 20 {
            now.retain(|(port, _)| *port != 1);
        }
        meter.absorb(&at(&now).report(&template, number));
        let values = values(&meter.snapshot(&Own::default()));
        let series = of(&values, "tcp_trace_listener_handshakes", "outcome=completed");
        let named: Vec<_> = series
            .filter_map(|(series, _)| series.split_once("port=")?.1.split_once(','))
            .map(|(port, _)| port.to_owned())
            .collect();
        ports.push(named);
    }
    assert_eq!(ports[9], ["1", "2", "3", "other"]);
    assert!(ports[16].contains(&"9".to_owned()), "{ports:?}");
    assert!(!ports[39].contains(&"1".to_owned()), "{:?}", ports[39]);
    assert!(ports.iter().all(|ports| ports.len() <= MAX + 1));
}

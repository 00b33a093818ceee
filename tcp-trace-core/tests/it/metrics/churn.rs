//! A day's worth of short-lived containers, through the tracker: what is kept of them does not become more.

use std::{collections::BTreeSet, fmt::Write as _};

use tcp_trace_core::metrics::{Meter, Own, Settings};

use super::{START, values};
use crate::check::reports;

/// Windows of a minute, which is how often a day's worth is looked at here.
const WINDOWS: u64 = 1440;
const WINDOW_MS: u64 = 60_000;
/// Containers that come in each of them and are gone before the next is over.
const CONTAINERS: u64 = 4;

/// A server that stays all day: so many handshakes in each window.
const STEADY: u64 = 3;

fn steady(input: &mut String, window: u64) {
    for number in 0..STEADY {
        let (ck, at) = ((1 << 40) + window * STEADY + number, window * WINDOW_MS + 100 + number);
        let tuple = format!("ck={ck} 10.0.0.1:443>10.255.0.1:{} ns=1", 4000 + number);
        let _ = writeln!(input, "+{at}ms LISTEN>SYN_RECV {tuple}\n+{at}ms SYN_RECV>EST {tuple} req=5");
        let _ = writeln!(input, "+{at}ms EST>CLOSE {tuple} err=104");
    }
}

/// Each container listens on a port of its own, completes two handshakes, leaks one of the connections until the next
/// window, and fails to connect.
fn minute(input: &mut String, window: u64) {
    for number in 0..CONTAINERS {
        let id = 100 + window * CONTAINERS + number;
        let (pid, ck, at) = (id, id * 16, window * WINDOW_MS + 1 + number);
        let (listens, port) =
            (format!("10.{}.{}.{}", id >> 16, (id >> 8) & 255, id & 255), 20_000 + id % 30_000);
        let task = format!("task={pid}:job{id} start={id}");
        let _ = writeln!(input, "facts {pid}:job{id} start={id} container=job-{id}");
        let _ = writeln!(input, "+{at}ms CLOSE>LISTEN ck={ck} {listens}:{port}>0.0.0.0:0 ns=1 {task}");
        for (ck, peer) in [(ck + 1, 4000), (ck + 2, 4001)] {
            let tuple = format!("ck={ck} {listens}:{port}>10.255.0.1:{peer} ns=1");
            let _ = writeln!(input, "+{at}ms LISTEN>SYN_RECV {tuple}\n+{at}ms SYN_RECV>EST {tuple} req=5");
            let _ = writeln!(input, "+{at}ms EST>CLOSE_WAIT {tuple} done {task}");
        }
        let tuple = format!("ck={} {listens}:{port}>10.255.0.1:4000 ns=1", ck + 1);
        let _ = writeln!(
            input,
            "+{at}ms CLOSE_WAIT>LAST_ACK {tuple} done {task}\n+{at}ms LAST_ACK>CLOSE {tuple} done"
        );
        let peer = format!("10.255.0.9:{}", 1 + id % 60_000);
        let _ = writeln!(input, "+{at}ms CLOSE>SYN_SENT ck={} {listens}:0>{peer} ns=1 {task}", ck + 3);
        let _ =
            writeln!(input, "+{at}ms SYN_SENT>CLOSE ck={} {listens}:4000>{peer} ns=1 err=111 {task}", ck + 3);
    }
    let _ = writeln!(input, "counters +{}ms\nreport findings", (window + 1) * WINDOW_MS - 1);
    for number in 0..CONTAINERS {
        let id = 100 + window * CONTAINERS + number;
        let (pid, ck, at) = (id, id * 16, (window + 1) * WINDOW_MS);
        let (listens, port) =
            (format!("10.{}.{}.{}", id >> 16, (id >> 8) & 255, id & 255), 20_000 + id % 30_000);
        let task = format!("task={pid}:job{id} start={id}");
        let tuple = format!("ck={} {listens}:{port}>10.255.0.1:4001 ns=1", ck + 2);
        let _ = writeln!(
            input,
            "+{at}ms CLOSE_WAIT>LAST_ACK {tuple} done {task}\n+{at}ms LAST_ACK>CLOSE {tuple} done"
        );
        let _ = writeln!(input, "+{at}ms LISTEN>CLOSE ck={ck} {listens}:{port}>0.0.0.0:0 ns=1 {task}");
    }
}

#[test]
fn a_days_worth_of_short_lived_containers_is_bounded_and_adds_up() {
    let mut input = "session half_open\n+0ms CLOSE>LISTEN ck=1099511627775 10.0.0.1:443>0.0.0.0:0 ns=1 task=1:steady start=1\n".to_owned();
    for window in 0..WINDOWS {
        steady(&mut input, window);
        minute(&mut input, window);
    }
    let settings = Settings::default();
    let mut meter = Meter::new(settings, START);
    let (mut sizes, mut ever, mut most) = (Vec::new(), BTreeSet::new(), 0);
    for (number, report) in reports(&input).iter().enumerate() {
        meter.absorb(report);
        // What it holds, as text: it has no other memory.
        sizes.push(format!("{meter:?}").len());
        if number % 5 > 0 {
            continue;
        }
        let values = values(&meter.snapshot(&Own::default()));
        let sum = |name: &str| {
            values
                .iter()
                .filter(|(series, _)| series.starts_with(&format!("{name}{{")))
                .map(|(_, n)| n)
                .sum::<f64>()
        };
        assert_eq!(sum("tcp_trace_close_wait_lingering_sockets"), CONTAINERS as f64);
        most = most.max(values.len());
        ever.extend(values.into_keys().filter(|series| series.starts_with("tcp_trace_listener_handshakes")));
    }
    let values = values(&meter.snapshot(&Own::default()));
    let containers = WINDOWS * CONTAINERS;
    assert_eq!(values["tcp_trace_handshakes{outcome=completed}"], (2 * containers + STEADY * WINDOWS) as f64);
    // What came in the first window came before it had a series.
    let steady = values["tcp_trace_listener_handshakes{port=443,comm=steady,outcome=completed}"];
    assert_eq!(steady, (STEADY * (WINDOWS - 1)) as f64);
    // None was there for long enough to have anything counted under its own name: it is all there, and it is `other`.
    let other = values["tcp_trace_listener_handshakes{port=other,outcome=completed}"];
    assert_eq!(other, (2 * containers + STEADY) as f64);
    assert_eq!(values["tcp_trace_connect_failures{peer_port=other,error=refused}"], containers as f64);
    let (early, late) =
        (sizes[100..200].iter().max().unwrap(), sizes[WINDOWS as usize - 100..].iter().max().unwrap());
    eprintln!(
        "{containers} containers: at most {most} series at once, {} of listeners in all; {early} bytes after two hours, {late} after a day",
        ever.len()
    );
    assert!(*late < early + early / 10, "{early} → {late}");
    assert!(most < 450, "{most} series");
    // Ten places, each taken anew after five minutes, six outcomes (three are told here).
    let turns = 1 + WINDOWS * WINDOW_MS / 1000 / settings.stale_after_s;
    assert!(ever.len() as u64 <= 3 * (10 * turns + 1), "{}", ever.len());
}

//! The churn counts exactly, and the kernel agrees.

use std::io;

use tcp_trace_testkit::workload::{ChurnPlan, Closer, Driver, churn, churn_for};
use tcp_trace_testkit::{NetNs, sock};

use super::Test;
use super::util::{ms, rounds};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("exact_counts", exact_counts), ("exact_duration", || rounds(exact_duration))];

/// The kernel opened and closed as many on both sides, and nothing was reset, retried or dropped.
fn assert_kernel_agrees(ns: &NetNs, connections: u64) -> io::Result<()> {
    let counters = sock::counters(ns)?;
    let connections = connections.cast_signed();
    for (name, value) in [
        ("Tcp.ActiveOpens", connections),
        ("Tcp.PassiveOpens", connections),
        ("Tcp.CurrEstab", 0),
        ("Tcp.AttemptFails", 0),
        ("Tcp.EstabResets", 0),
        ("Tcp.OutRsts", 0),
        ("Tcp.RetransSegs", 0),
        ("TcpExt.ListenOverflows", 0),
        ("TcpExt.SyncookiesSent", 0),
        ("TcpExt.TCPTimeWaitOverflow", 0),
    ] {
        assert_eq!(counters[name], value, "{name}");
    }
    Ok(())
}

fn exact_counts() -> io::Result<()> {
    for closer in [Closer::ClientFirst, Closer::ServerFirst] {
        for driver in [Driver::OneThread, Driver::ThreadPair] {
            let ns = NetNs::new()?;
            let plan = ChurnPlan { lanes: 3, closer, driver, ..ChurnPlan::default() };
            let done = churn(&ns, 2_000, &plan)?;
            assert_eq!((done.connections, done.listeners), (2_000, 3));
            assert_kernel_agrees(&ns, 2_000)?;
        }
    }
    Ok(())
}

fn exact_duration() -> io::Result<()> {
    let ns = NetNs::new()?;
    let done = churn_for(&ns, ms(300), &ChurnPlan::default())?;
    assert!(done.elapsed >= ms(300) && done.elapsed < ms(600), "{:?}", done.elapsed);
    assert!(done.connections > 100, "{done:?}");
    assert_kernel_agrees(&ns, done.connections)
}

//! The churn counts exactly, and the kernel agrees.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use tcp_trace_testkit::workload::{Churn, ChurnPlan, Closer, Driver, churn, churn_for};
use tcp_trace_testkit::{NetNs, sock};

use super::Test;
use super::util::ms;

pub(crate) const TESTS: &[(&str, Test)] =
    &[("exact_counts", exact_counts), ("exact_duration", exact_duration)];

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

fn cpu_ns() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e9 + used.tv_nsec as f64
}

/// Prints the rates of this machine, and the CPU time of a connection: that does not suffer from other load.
pub(crate) fn rates() -> io::Result<()> {
    for (lanes, closer, driver, seconds) in [
        (1, Closer::ClientFirst, Driver::OneThread, 5),
        (2, Closer::ClientFirst, Driver::OneThread, 5),
        (2, Closer::ServerFirst, Driver::OneThread, 5),
        (2, Closer::ClientFirst, Driver::ThreadPair, 5),
        (2, Closer::ClientFirst, Driver::OneThread, 30),
    ] {
        let ns = NetNs::new()?;
        let plan = ChurnPlan { lanes, closer, driver, ..ChurnPlan::default() };
        let before_ns = cpu_ns();
        let done: Churn = churn_for(&ns, Duration::from_secs(seconds), &plan)?;
        let cpu_us = (cpu_ns() - before_ns) / 1e3 / done.connections as f64;
        assert_kernel_agrees(&ns, done.connections)?;
        eprintln!(
            "{lanes} lanes, {closer:?}, {driver:?}, {:?}: {} connections, {:.0}/s, {cpu_us:.1} us CPU each",
            done.elapsed,
            done.connections,
            done.rate()
        );
    }
    Ok(())
}

//! A load to look at: `cargo run --release -p tcp-trace-testkit --example churn -- SECONDS [pair]` connects,
//! accepts and closes on loopback in a namespace of its own, as fast as two cores can, and says how often, and how long
//! a `connect()` took.

use std::{env, io, time::Duration};

use tcp_trace_testkit::{
    NetNs,
    workload::{ChurnPlan, Driver, churn_for},
};

fn main() -> io::Result<()> {
    let seconds = env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    let driver = if env::args().nth(2).is_some() { Driver::ThreadPair } else { Driver::OneThread };
    let plan = ChurnPlan { driver, ..ChurnPlan::default() };
    let churn = churn_for(&NetNs::new()?, Duration::from_secs(seconds), &plan)?;
    let [p50, p99] = [0.5, 0.99].map(|share| churn.connect.quantile(share).unwrap_or(0) as f64 / 1e3);
    eprintln!(
        "{} connections, {:.0}/s, connect p50 {p50:.1} µs, p99 {p99:.1} µs",
        churn.connections,
        churn.rate()
    );
    Ok(())
}

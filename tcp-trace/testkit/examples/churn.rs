//! A load to look at: `cargo run --release -p tcp-trace-testkit --example churn -- SECONDS [pair]` connects,
//! accepts and closes on loopback in a namespace of its own, as fast as two cores can, and says how often.

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
    eprintln!("{} connections, {:.0}/s", churn.connections, churn.rate());
    Ok(())
}

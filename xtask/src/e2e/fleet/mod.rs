//! `fleet`: which service, on all hosts, leaks CLOSE_WAIT, and since which deploy? Asked of the engines that people have.
//!
//! A few recordings of real programs are replayed by several hundred agents, each with a host, a cluster and a deploy of
//! its own. What went into which recording is known, and so are the answers.

mod agents;
mod clickhouse;
mod prometheus;
mod recordings;
mod volume;

use anyhow::Result;

use super::{Scenario, collector, http::Sink, need::Need, stage::Stage};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fleet",
    about: "240 agents; a Collector, ClickHouse and Prometheus say which service leaks, and since which deploy",
    needs: &[
        Need::Root,
        Need::Collector,
        Need::Python("chdb"),
        Need::Program("prometheus", "prometheus"),
        Need::Program("ip", "iproute2"),
    ],
    run,
};

/// Agents.
const HOSTS: usize = 240;

/// What is put in: a host and what happens there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: String,
    cluster: &'static str,
    /// What its services were deployed with.
    deploy: &'static str,
    /// Which of its services leaks.
    leaks: Option<&'static str>,
}

/// The fleet: since deploy 42, which a third of it has, `orders-api` leaks; `billing` does on four hosts, whatever the
/// deploy; on the others nothing is wrong.
fn hosts() -> Vec<Host> {
    let host = |number: usize| {
        let deploy = if number.is_multiple_of(3) { "42" } else { "41" };
        let leaks = match number {
            _ if deploy == "42" => Some("orders-api"),
            _ if number % 60 == 1 => Some("billing"),
            _ => None,
        };
        let cluster = if number < HOSTS / 2 { "west" } else { "east" };
        Host { name: format!("host-{number:03}"), cluster, deploy, leaks }
    };
    (0..HOSTS).map(host).collect()
}

/// A service, how many hosts it leaks on, and their deploy.
fn truth(hosts: &[Host], service: &str) -> (String, u64, String) {
    let mut leaking = hosts.iter().filter(|host| host.leaks == Some(service));
    let deploy = leaking.clone().map(|host| host.deploy).max().unwrap_or_default();
    (service.to_owned(), leaking.by_ref().count() as u64, deploy.to_owned())
}

fn run(stage: &Stage) -> Result<()> {
    let recordings = recordings::make(stage)?;
    volume::measure(stage, &recordings)?;
    volume::live(stage)?;
    let hosts = hosts();
    let onward = Sink::new()?;
    let (mut collector, address) = collector::start(stage, onward.address)?;
    let agents = agents::start(stage, &hosts, &recordings, address)?;
    prometheus::ask(stage, &hosts, &agents)?;
    clickhouse::ask(stage, &hosts, &onward)?;
    drop(agents);
    collector.stop()?;
    Ok(())
}

//! The agents of the fleet.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::{Host, recordings::Recordings};
use crate::e2e::{
    http,
    stage::{self, Running, Stage},
};

/// Agents that replay at a time; their answers afterwards cost nothing.
const AT_A_TIME: usize = 12;

/// The first agent's port, the others' follow: below those that the kernel gives out, so that nobody else is asked.
const FIRST_PORT: u16 = 21_000;

/// The address of an agent, by its number.
pub(super) fn address(number: usize) -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], FIRST_PORT + u16::try_from(number)?)))
}

/// An agent that has sent what it had to, and goes on answering.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) address: SocketAddr,
    _running: Running,
}

/// The configuration of all of them: what differs is in their environment, as in a DaemonSet.
pub(super) fn config(collector: SocketAddr) -> String {
    format!(
        "[report]
interval = \"2s\"
close_wait_after = \"2s\"
[sinks.collector.otlp]
endpoint = \"http://{collector}\"
"
    )
}

/// The agent of one host.
pub(super) fn command(stage: &Stage, host: &Host, config: &Path, recording: &Path) -> Command {
    let mut agent = Command::new(&stage.program);
    agent.arg("agent").arg("--config").arg(config).arg("--from").arg(recording);
    agent.env("TCP_TRACE_HOST", &host.name).env("TCP_TRACE_CLUSTER", host.cluster);
    agent.env("TCP_TRACE_LABELS", format!("deploy={}", host.deploy));
    agent
}

pub(super) fn start(
    stage: &Stage,
    hosts: &[Host],
    recordings: &Recordings,
    collector: SocketAddr,
) -> Result<Vec<Agent>> {
    let config = stage.write("agent.toml", config(collector))?;
    let mut agents = Vec::with_capacity(hosts.len());
    for hosts in hosts.chunks(AT_A_TIME) {
        let first = agents.len();
        for host in hosts {
            let address = address(agents.len())?;
            let mut agent = command(stage, host, &config, recordings.of(host.leaks));
            agent.env("TCP_TRACE_HTTP_LISTEN", address.to_string());
            agents.push(Agent { address, _running: stage.start(&host.name, &mut agent)? });
        }
        for agent in agents.iter().skip(first) {
            stage::until(Duration::from_secs(120), || http::get(agent.address, "/readyz"))
                .with_context(|| format!("the agent on {} does not become ready", agent.address))?;
        }
    }
    eprintln!("   {} agents have replayed, and answer", agents.len());
    Ok(agents)
}

//! Containers that podman starts, one on the host's network and one on its own.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tcp_trace_testkit::{
    Container, NetNs,
    container::{Network, require_podman},
    sock,
};

use crate::check::{self, Check, Outcome};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(check: &Check, outcome: &mut Outcome) -> Result<()> {
    if let Err(missing) = require_podman() {
        outcome.lack(missing);
        return Ok(());
    }
    for (what, network) in [("the host's network", Network::Host), ("its own network", Network::None)] {
        serve(check, what, network, outcome)?;
    }
    Ok(())
}

fn serve(check: &Check, what: &str, network: Network, outcome: &mut Outcome) -> Result<()> {
    let calls: u64 = if check.quick { 10 } else { 200 };
    let mut container = Container::start("crosscheck", network, "server", &["listen=127.0.0.1:0"])?;
    let address: std::net::SocketAddr = container.helper.expect("listening", PATIENCE)?.value("addr")?;
    let stream =
        check.tcp_trace(&["stream", "--closed", "--json", "--strict", "-L", &address.port().to_string()])?;
    let ns: NetNs = container.netns()?;
    ns.run(|| (0..calls).try_for_each(|_| sock::connect(None, address).map(drop)))?;
    for _ in 0..calls {
        container.helper.expect("closed", PATIENCE)?;
    }
    std::thread::sleep(Duration::from_millis(500));
    let stream = check::stop(stream)?;
    let mut served = 0;
    stream.each_line(|line| {
        let closed: Value = serde_json::from_str(line)?;
        let is_its = closed["role"] == "server"
            && closed["local"]["port"] == address.port()
            && closed["netns"] == ns.inum();
        if !is_its {
            return Ok(());
        }
        served += 1;
        // In whose container it was is known as soon as somebody has looked at the process.
        let container_is_right =
            closed["container"].is_null() || closed["container"]["id"] == *container.id();
        if closed["process"]["pid"] != container.pid() || !container_is_right {
            outcome.difference(format!(
                "a connection of {} (process {}) on {what}: {closed}",
                container.name(),
                container.pid()
            ));
        }
        Ok(())
    })?;
    outcome.equal(&format!("connections of a container on {what}, all of its process"), served, calls);
    Ok(())
}

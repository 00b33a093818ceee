//! The fleet's question in PromQL, of a Prometheus that scrapes every agent.

use std::{fmt::Write as _, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Host, agents::Agent};
use crate::e2e::{
    http, rows,
    stage::{self, Stage},
};

/// Hosts where a container holds connections in CLOSE_WAIT for too long, by container and deploy.
const QUESTION: &str = "count by (container, deploy) (sum by (container, deploy, instance) (tcp_trace_close_wait_lingering_sockets) > 9)";

pub(super) fn ask(stage: &Stage, hosts: &[Host], agents: &[Agent]) -> Result<()> {
    let address = stage::free_port()?;
    let config = stage.write("prometheus.yml", config(hosts, agents))?;
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", stage.folder.join("prometheus").display()));
    command.arg(format!("--web.listen-address={address}"));
    let mut prometheus = stage.start("prometheus", &mut command)?;
    prometheus.listens(address)?;
    stage::until(Duration::from_secs(90), || {
        let up = query(address, "sum(up)")?;
        let up = up.first().map_or(0.0, |sample| sample.1);
        ensure!(up == hosts.len() as f64, "{up} of {} agents are scraped", hosts.len());
        Ok(())
    })?;
    let told = query(address, QUESTION)?;
    let samples = query(address, "sum(scrape_samples_scraped)")?.first().map_or(0.0, |sample| sample.1);
    eprintln!("   Prometheus, of {samples} series: {told:?}");
    for service in ["orders-api", "billing"] {
        let (_, expected, deploy) = super::truth(hosts, service);
        let found: Vec<_> = told.iter().filter(|(labels, _)| labels["container"] == service).collect();
        let right = matches!(found[..], [(labels, hosts)] if labels["deploy"] == *deploy && *hosts == expected as f64);
        ensure!(
            right,
            "Prometheus says {found:?} of {service}, but put in were {expected} hosts of deploy {deploy}"
        );
    }
    ensure!(told.len() == 2, "Prometheus says more than was put in: {told:?}");
    prometheus.stop()?;
    Ok(())
}

fn config(hosts: &[Host], agents: &[Agent]) -> String {
    let mut text = "global: {scrape_interval: 5s}\nscrape_configs:\n- job_name: tcp-trace\n  honor_labels: true\n  static_configs:\n".to_owned();
    for (Host { name, cluster, deploy, .. }, agent) in hosts.iter().zip(agents) {
        let labels = format!("{{instance: {name}, cluster: {cluster}, deploy: '{deploy}'}}");
        let _ = writeln!(text, "  - {{targets: ['{}'], labels: {labels}}}", agent.address);
    }
    text
}

/// Labels and value of each sample of the answer.
fn query(prometheus: SocketAddr, query: &str) -> Result<Vec<(Value, f64)>> {
    let mut encoded = String::new();
    for byte in query.bytes() {
        let _ = write!(encoded, "%{byte:02X}");
    }
    let answer = http::get(prometheus, &format!("/api/v1/query?query={encoded}"))?;
    let answer: Value = serde_json::from_str(&answer).context("an answer of Prometheus")?;
    ensure!(answer["status"] == "success", "Prometheus says {answer}");
    let sample =
        |sample: &Value| Some((sample["metric"].clone(), sample["value"][1].as_str()?.parse().ok()?));
    Ok(rows::each(&answer["data"]["result"]).filter_map(sample).collect())
}

//! `collector`: what the agent sends arrives in a real OpenTelemetry Collector, whole and under its own names.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Scenario,
    http::Sink,
    need::{self, Need},
    rows::{self, LogRow},
    stage::{self, Running, Stage},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "collector",
    about: "logs and metrics of a recording arrive in the OpenTelemetry Collector",
    needs: &[Need::Collector],
    run,
};

/// A recording with containers, lost events, and connections in every state.
pub(super) const RECORDING: &str = "tcp-trace/tests/data/incident.tctrace";

fn run(stage: &Stage) -> Result<()> {
    let onward = Sink::new()?;
    let (mut collector, gateway) = start(stage, onward.address)?;
    let (mut node, address) = start_node(stage, gateway)?;
    replay(stage, address, "node-1", Path::new(RECORDING))?;
    let told = lines(&stage.read("node-1.out")?)?;
    let rows = stage::until(Duration::from_secs(20), || {
        let rows = logs(&onward)?;
        ensure!(rows.len() >= told.len(), "{} of {} records have arrived", rows.len(), told.len());
        Ok(rows)
    })?;
    same(&told, &rows)?;
    resources(&rows)?;
    let metrics = metrics(&onward)?;
    for name in ["system.network.connection.count", "tcp.state.transitions"] {
        ensure!(metrics.contains(name), "the metric {name} is missing; there are {metrics:?}");
    }
    ensure!(node.stop()?.success(), "the node's collector did not end well: {}", node.last_words());
    ensure!(collector.stop()?.success(), "the collector did not end well: {}", collector.last_words());
    let log = stage.read("collector.err")?;
    for shown in
        ["EventName: tcp.report", "-> service.name: Str(orders)", "-> container.runtime.name: Str(docker)"]
    {
        ensure!(log.contains(shown), "the collector's own log does not show `{shown}`");
    }
    eprintln!(
        "   {} records and {} metrics arrived, as they were told on standard output",
        rows.len(),
        metrics.len()
    );
    Ok(())
}

/// Starts the collector that users have on their nodes, with the file that they get.
fn start_node(stage: &Stage, gateway: SocketAddr) -> Result<(Running, SocketAddr)> {
    let address = stage::free_port()?;
    let mut command = Command::new(need::collector(&stage.shared));
    command.arg("--config").arg(Stage::repository("deploy/otel/node.yaml"));
    command
        .env("LISTEN", address.to_string())
        .env("GATEWAY", format!("http://{gateway}"))
        .env("OWN_METRICS", "none");
    let mut running = stage.start("node", &mut command)?;
    running.listens(address)?;
    Ok((running, address))
}

/// Starts a collector that logs what it gets, and sends it on as JSON.
pub(super) fn start(stage: &Stage, onward: SocketAddr) -> Result<(Running, SocketAddr)> {
    let address = stage::free_port()?;
    let config = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{address}'}}}}}}}}
processors:
  memory_limiter: {{check_interval: 1s, limit_mib: 512}}
  batch: {{timeout: 200ms}}
exporters:
  debug: {{verbosity: detailed}}
  otlp_http: {{endpoint: 'http://{onward}', encoding: json, compression: none}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlp], processors: [memory_limiter, batch], exporters: [debug, otlp_http]}}
    metrics: {{receivers: [otlp], processors: [memory_limiter, batch], exporters: [debug, otlp_http]}}
"
    );
    let config = stage.write("collector.yaml", config)?;
    let mut command = Command::new(need::collector(&stage.shared));
    let mut running = stage.start("collector", command.arg("--config").arg(config))?;
    running.listens(address)?;
    Ok((running, address))
}

/// What one agent tells of a recording, to a collector and as lines to `HOST.out`.
pub(super) fn replay(stage: &Stage, collector: SocketAddr, host: &str, recording: &Path) -> Result<()> {
    // Of five hosts the last two have had a later deploy.
    let deploy = if ["node-4", "node-5"].contains(&host) { 2 } else { 1 };
    let config = format!(
        "[agent]
host = \"{host}\"
cluster = \"e2e\"
[agent.labels]
deploy = \"2026-01-15.{deploy}\"
[report]
interval = \"5s\"
close_wait_after = \"1s\"
[findings.close_wait_leak]
min_sockets = 1
[sinks.collector]
level = \"all\"
[sinks.collector.otlp]
endpoint = \"http://{collector}\"
[sinks.lines]
level = \"all\"
[sinks.lines.stdout]
"
    );
    let config = stage.write(&format!("{host}.toml"), config)?;
    let recording = Stage::repository(&recording.to_string_lossy());
    let mut agent = Command::new(&stage.program);
    agent.arg("agent").arg("--config").arg(config).arg("--from").arg(recording);
    stage.run(host, &mut agent, Duration::from_secs(60))
}

/// Time, event and message of each line.
fn lines(text: &str) -> Result<BTreeSet<(String, String, String)>> {
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).with_context(|| format!("reading {line}"))?;
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            Ok((text("time"), text("event"), text("message")))
        })
        .collect()
}

/// What the collector has sent on.
pub(super) fn logs(onward: &Sink) -> Result<Vec<LogRow>> {
    let requests = onward.received("/v1/logs");
    let rows: Result<Vec<_>> = requests.iter().map(|request| rows::logs(&request.body)).collect();
    Ok(rows?.into_iter().flatten().collect())
}

fn same(told: &BTreeSet<(String, String, String)>, rows: &[LogRow]) -> Result<()> {
    let arrived: BTreeSet<_> =
        rows.iter().map(|row| (row.timestamp.clone(), row.event.clone(), row.body.clone())).collect();
    let missing: Vec<_> = told.difference(&arrived).take(3).collect();
    ensure!(missing.is_empty(), "these were told, but did not arrive: {missing:?}");
    let more: Vec<_> = arrived.difference(told).take(3).collect();
    ensure!(more.is_empty(), "these arrived, but were not told: {more:?}");
    ensure!(rows.len() >= told.len(), "{} of {} arrived", rows.len(), told.len());
    Ok(())
}

/// The container is a resource of its own, and everything says where it comes from.
fn resources(rows: &[LogRow]) -> Result<()> {
    let services: BTreeSet<_> = rows.iter().map(LogRow::service).collect();
    let expected = BTreeSet::from(["orders", "tcp-trace"]);
    ensure!(services == expected, "services are {services:?}, not {expected:?}");
    for row in rows {
        let resource = |key: &str| row.resource.get(key).map(String::as_str);
        ensure!(resource("host.name") == Some("node-1"), "no host in {row:?}");
        ensure!(resource("k8s.cluster.name") == Some("e2e"), "no cluster in {row:?}");
        ensure!(resource("deploy") == Some("2026-01-15.1"), "no deploy in {row:?}");
    }
    Ok(())
}

fn metrics(onward: &Sink) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for request in onward.received("/v1/metrics") {
        let body: Value = serde_json::from_slice(&request.body)?;
        let scopes =
            rows::each(&body["resourceMetrics"]).flat_map(|resource| rows::each(&resource["scopeMetrics"]));
        let metrics = scopes.flat_map(|scope| rows::each(&scope["metrics"]));
        names.extend(metrics.filter_map(|metric| metric["name"].as_str().map(str::to_owned)));
    }
    Ok(names)
}

//! What one host sends and shows, in bytes and series: the figures of `docs/fleet.md`.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Host, agents, recordings::Recordings};
use crate::e2e::{
    http::{self, Sink},
    shop::{Habit, Shop},
    stage::{self, Stage},
};

const NETNS: &str = "tt-e2e-volume";
/// How long the live agent is listened to; it reports each second.
const SECONDS: u64 = 40;
/// Reports of a day at the default interval of 15 s, and metrics at that of 60 s.
const REPORTS: f64 = 86_400.0 / 15.0;
const METRICS: f64 = 86_400.0 / 60.0;

/// Replays each kind of host on its own, straight into a server that counts, and says what came.
pub(super) fn measure(stage: &Stage, recordings: &Recordings) -> Result<()> {
    for (name, leaks) in [("healthy", None), ("leaking", Some("orders-api"))] {
        let host = Host { name: format!("volume-{name}"), cluster: "west", deploy: "41", leaks };
        for level in ["findings", "closed", "all"] {
            let sink = Sink::new()?;
            let config = agents::config(sink.address).replace(
                "[sinks.collector.otlp]",
                &format!("[sinks.collector]\nlevel = \"{level}\"\n[sinks.lines]\nlevel = \"{level}\"\n[sinks.lines.stdout]\n[sinks.collector.otlp]"),
            );
            let config = stage.write(&format!("volume-{name}-{level}.toml"), config)?;
            let log = format!("volume-{name}-{level}");
            let mut agent: Command = agents::command(stage, &host, &config, recordings.of(leaks));
            let address = agents::address(0)?;
            agent.env("TCP_TRACE_HTTP_LISTEN", address.to_string());
            let mut running = stage.start(&log, &mut agent)?;
            stage::until(Duration::from_secs(60), || http::get(address, "/readyz"))
                .context("the agent does not become ready")?;
            // The exporter's thread has sent the rest when it is told to stop.
            let exposition = http::get(address, "/metrics")?;
            ensure!(running.stop()?.success(), "the agent ended badly: {}", running.last_words());
            let lines = stage.read(&format!("{log}.out"))?;
            let sent = |path: &str| {
                let requests = sink.received(path);
                (requests.len(), requests.iter().map(|request| request.body.len()).sum::<usize>())
            };
            let series = exposition.lines().filter(|line| !line.starts_with('#')).count();
            eprintln!(
                "   {log}: {} documents, {} bytes as JSON Lines; OTLP with gzip (requests, bytes): logs {:?}, metrics {:?}; /metrics {series} series, {} bytes",
                lines.lines().count(),
                lines.len(),
                sent("/v1/logs"),
                sent("/v1/metrics"),
                exposition.len(),
            );
        }
    }
    Ok(())
}

/// An agent at work, whose reports go out one by one as they do on a host: bytes a day, of what is sent by default.
pub(super) fn live(stage: &Stage) -> Result<()> {
    let mut shop = Shop::new(NETNS)?;
    let sink = Sink::new()?;
    let _shop = [
        shop.serve(stage, "orders-api", 8080, Habit::Leak)?,
        shop.serve(stage, "billing", 8081, Habit::Close)?,
    ];
    let config = format!(
        "[agent]\nhost = \"live\"\nlabels = {{ deploy = \"42\" }}\n[source]\nnetns = \"{NETNS}\"\n[report]\ninterval = \"1s\"\n\
         close_wait_after = \"2s\"\n[sinks.collector.otlp]\nendpoint = \"http://{}\"\nmetrics_interval = \"4s\"\n",
        sink.address
    );
    let config = stage.write("volume-live.toml", config)?;
    let mut agent = Command::new(&stage.program);
    let address = agents::address(0)?;
    agent.arg("agent").arg("--config").arg(config).env("TCP_TRACE_HTTP_LISTEN", address.to_string());
    let mut running = stage.start("volume-live", &mut agent)?;
    stage::until(Duration::from_secs(60), || http::get(address, "/readyz"))?;
    let _caller = shop.call(stage, "checkout", 300, &[8080, 8081])?;
    thread::sleep(Duration::from_secs(SECONDS));
    let exposition = http::get(address, "/metrics")?;
    let mean = |path: &str| {
        let requests = sink.received(path);
        let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
        (requests.len(), bytes as f64 / requests.len().max(1) as f64)
    };
    let (logs, metrics) = (mean("/v1/logs"), mean("/v1/metrics"));
    let per_day = |(_, bytes): (usize, f64), times: f64| bytes * times / 1e6;
    let series = exposition.lines().filter(|line| !line.starts_with('#')).count();
    eprintln!(
        "   live, 3 services: {} requests of logs of {:.0} bytes: {:.1} MB a day; {} of metrics of {:.0} bytes: {:.1} MB a day; {series} series",
        logs.0,
        logs.1,
        per_day(logs, REPORTS),
        metrics.0,
        metrics.1,
        per_day(metrics, METRICS),
    );
    ensure!(running.stop()?.success(), "the agent ended badly: {}", running.last_words());
    Ok(())
}

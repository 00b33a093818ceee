//! What one host sends and shows, in bytes and series: the figures of `docs/fleet.md`.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Host, agents, recordings::Recordings};
use crate::e2e::{
    http::{self, Sink},
    stage::{self, Stage},
};

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
            let address = stage::free_port()?;
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

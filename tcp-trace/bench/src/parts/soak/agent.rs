//! The agent for a long time, with every exporter at work and one of them failing.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tcp_trace_testkit::{NetNs, workload::Churn};

use super::{
    Sum, flat, growth,
    receivers::{self, Count},
    table, watch,
};
use crate::{
    bench::{Bench, Budget, Outcome, churn},
    child::Running,
    table::grouped,
    truth::transitions,
};

/// The sink whose other side is not there.
const DEAD: &str = "dead";
/// Those that must get everything.
const ALIVE: [&str; 5] = ["file", "journal", "lines", "otlp", "syslog"];

/// Those who take what the agent sends, and what they have taken.
struct Receivers {
    folder: PathBuf,
    http: SocketAddr,
    config: PathBuf,
    journal: Count,
    syslog: Count,
    collector: Count,
}

impl Receivers {
    fn new(netns: u32, interval: &str) -> Result<Self> {
        let folder = env::temp_dir().join(format!("tcp-trace-soak-{}", process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let (syslog_at, syslog) = receivers::syslog()?;
        let (collector_at, collector) = receivers::collector()?;
        let (http, dead) = (receivers::nobody()?, receivers::nobody()?);
        let journal_at = folder.join("journal.socket");
        let journal = receivers::journal(&journal_at)?;
        let config = folder.join("agent.toml");
        let (journal_at, file) = (journal_at.display(), folder.join("events.jsonl"));
        let file = file.display();
        let text = format!(
            "[source]\nnetns = \"{netns}\"\nmode = \"stream\"\n[report]\ninterval = \"{interval}\"\n\
             [http]\nlisten = \"{http}\"\n\
             [sinks.lines.stdout]\n\
             [sinks.file]\nlevel = \"all\"\n[sinks.file.file]\npath = \"{file}\"\nmax_size = \"4M\"\nkeep = 3\n\
             [sinks.journal]\nlevel = \"closed\"\n[sinks.journal.journald]\nsocket = \"{journal_at}\"\n\
             [sinks.syslog]\nlevel = \"closed\"\n[sinks.syslog.syslog]\naddress = \"udp:{syslog_at}\"\n\
             [sinks.otlp]\nlevel = \"closed\"\n[sinks.otlp.otlp]\nendpoint = \"http://{collector_at}\"\n\
             [sinks.{DEAD}]\nlevel = \"all\"\nqueue = 4096\n[sinks.{DEAD}.otlp]\nendpoint = \"http://{dead}\"\n"
        );
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        Ok(Self { folder, http, config, journal, syslog, collector })
    }

    /// Waits until the agent has reported once.
    fn wait(&self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let began = Instant::now();
        while let Err(error) = receivers::get(self.http, "/readyz") {
            if began.elapsed() > PATIENCE {
                return Err(error.context("the agent is not ready"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Documents of a sink that became this, as the agent's own metrics say.
    fn documents(metrics: &str, sink: &str, outcome: &str) -> Result<f64> {
        let labels = [format!("sink=\"{sink}\""), format!("outcome=\"{outcome}\"")];
        let mut lines = metrics.lines().filter(|line| {
            line.starts_with("tcp_trace_sink_documents_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        let value = lines.next().and_then(|line| line.rsplit(' ').next());
        value.map_or(Ok(0.0), |value| value.parse().with_context(|| format!("{value} is no number")))
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        // Below the folder for temporary files; what cannot be removed is found there.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(in crate::parts) fn run(bench: &Bench) -> Result<Outcome> {
    let ns = NetNs::new()?;
    let (every, interval) = bench.pick((Duration::from_secs(10), "15s"), (Duration::from_millis(200), "1s"));
    let receivers = Receivers::new(ns.inum(), interval)?;
    let running = bench.begin(&["agent", "--config", path(&receivers.config)?])?;
    receivers.wait()?;
    let mut metrics = Ok(String::new());
    let (churn, samples) = thread::scope(|scope| {
        let load = scope.spawn(|| churn(&ns, bench.soak));
        let samples = watch(&running, every, || {
            // As whoever scrapes it does.
            metrics = receivers::get(receivers.http, "/metrics");
            load.is_finished()
        });
        let churn = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, anyhow::Error>((churn?, samples?))
    })?;
    let reports = reports(running)?;
    let metrics = metrics.context("scraping the agent")?;
    let mut outcome = outcome(&samples, &reports, &churn, &receivers, &metrics)?;
    // A moment does not fill its queue.
    let lost = Receivers::documents(&metrics, DEAD, "dropped")?;
    let least = bench.pick(1.0, 0.0);
    outcome.budgets.push(Budget::at_least(
        "documents lost for the sink that fails, counted",
        least,
        lost,
        "",
    ));
    Ok(outcome)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Ends the agent; the reports among what it has written.
fn reports(running: Running) -> Result<Vec<Value>> {
    let ended = running.stop()?;
    if !ended.status.success() {
        bail!("the agent ended with {}: {}", ended.status, ended.stderr.join("; "));
    }
    let lines = ended.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let documents = lines.map(serde_json::from_slice::<Value>).collect::<Result<Vec<_>, _>>();
    let documents = documents.context("reading the agent's documents")?;
    Ok(documents.into_iter().filter(|document| document["event"] == "tcp.report").collect())
}

fn outcome(
    samples: &[super::Sample],
    reports: &[Value],
    churn: &Churn,
    receivers: &Receivers,
    metrics: &str,
) -> Result<Outcome> {
    let sum = Sum::of(reports, churn);
    let truth = transitions(churn);
    let of = |sink: &str, outcome: &str| Receivers::documents(metrics, sink, outcome);
    let mut dropped = 0.0;
    for sink in ALIVE {
        dropped += of(sink, "dropped")?;
    }
    let (dead_sent, dead_lost) = (of(DEAD, "sent")?, of(DEAD, "dropped")?);
    let taken = [receivers.journal.get(), receivers.syslog.get(), receivers.collector.get()];
    let mut table = table("Soak of the agent with every exporter, one of them failing", samples);
    table.note(format!(
        "{} transitions at {}/s; {} lost, {} not counted. Journal {} entries, syslog {} messages, OTLP {} requests, \
         file {} documents; the sink without another side: {} documents lost, and counted.",
        grouped(truth as f64),
        grouped(truth as f64 / churn.elapsed.as_secs_f64()),
        grouped(sum.lost as f64),
        grouped(sum.difference.missing as f64),
        grouped(taken[0] as f64),
        grouped(taken[1] as f64),
        grouped(taken[2] as f64),
        grouped(of("file", "sent")?),
        grouped(dead_lost),
    ));
    let mut budgets = flat(samples);
    budgets.extend(sum.budgets(churn));
    let least = taken.into_iter().min().unwrap_or(0) as f64;
    budgets.extend([
        Budget::at_least("sent to each of those who listen", 1.0, least, ""),
        Budget::at_most("documents lost for a sink that works", 0.0, dropped, ""),
        Budget::at_most("documents sent where nobody is", 0.0, dead_sent, ""),
    ]);
    let figures = json!({
        "transitions": truth, "sum": sum, "samples": samples, "taken": taken, "dead_lost": dead_lost,
        "rss_kib_per_minute": growth(samples, |sample| sample.rss_kib).0,
    });
    Ok(Outcome { tables: vec![table], budgets, figures, ..Outcome::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_sinks_documents_is_read() {
        let metrics = "# TYPE tcp_trace_sink_documents_total counter\n\
                       tcp_trace_sink_documents_total{sink=\"a\",outcome=\"sent\"} 7\n\
                       tcp_trace_sink_documents_total{sink=\"a\",outcome=\"dropped\"} 1e3\n";
        let of = |sink: &str, outcome: &str| Receivers::documents(metrics, sink, outcome).unwrap();
        assert_eq!((of("a", "sent"), of("a", "dropped"), of("b", "sent")), (7.0, 1000.0, 0.0));
    }
}

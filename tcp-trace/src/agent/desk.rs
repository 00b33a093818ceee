//! Where an agent's results arrive, and go out to all of its sinks.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use tcp_trace_core::{
    log::{Chronicle, DegradationNotice, Document, Level, Origin},
    metrics::{Meter, Own, SinkHealth, Snapshot},
    report::{Obituary, Report, StateChange},
    session::Degradation,
    time::WallTime,
};

use super::{
    channel::{Channel, Totals},
    http::Board,
    own,
    select::{Choice, Selector},
};
use crate::{
    cli::config::{self, Config},
    outlet::Outlet,
};

/// A sink at work.
#[derive(Debug)]
struct Line {
    config: config::Sink,
    channel: Channel,
    totals: Arc<Totals>,
    selector: Selector,
    takes_documents: bool,
    takes_metrics: bool,
    /// What is said of it to the others while it fails.
    trouble: Option<Degradation>,
}

/// The sinks, the metrics, and what has been told so far.
#[derive(Debug)]
pub(super) struct Desk {
    origin: Origin,
    lines: BTreeMap<String, Line>,
    chronicle: Chronicle,
    meter: Meter,
    board: Arc<Board>,
    /// The agent's own process, if its documents are to be left out.
    not: Option<u32>,
    run: Run,
    /// Configurations that were taken since the start, and that were refused.
    reloads: (u64, u64),
    /// What sinks have come to by name, those that are gone too: no counter goes back.
    totals: BTreeMap<String, Arc<Totals>>,
}

/// What kind of run it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// When it began.
    pub(super) started: WallTime,
    /// Whether to wait for sinks that are full, instead of losing what finds no room.
    pub(super) patient: bool,
}

impl Desk {
    /// One with the sinks of `config`.
    ///
    /// # Errors
    ///
    /// If a sink cannot be had.
    pub(super) fn new(
        config: &Config,
        origin: Origin,
        board: Arc<Board>,
        not: Option<u32>,
        run: Run,
    ) -> anyhow::Result<Self> {
        let Run { started, .. } = run;
        let mut desk = Self {
            origin,
            lines: BTreeMap::new(),
            chronicle: Chronicle::default(),
            meter: Meter::new(config.metrics, started),
            board,
            not,
            run,
            reloads: (0, 0),
            totals: BTreeMap::new(),
        };
        for (name, sink) in &config.sinks {
            let line = desk.line(name, sink)?;
            desk.lines.insert(name.clone(), line);
        }
        Ok(desk)
    }

    fn line(&mut self, name: &str, sink: &config::Sink) -> anyhow::Result<Line> {
        let kind = sink.kind().map_err(|why| anyhow::anyhow!("sinks.{name}: {why}"))?;
        let said = format!("sinks.{name}.{}", kind.kind());
        let totals = Arc::clone(self.totals.entry(name.to_owned()).or_default());
        let (takes_documents, takes_metrics) = (kind.takes_documents(), kind.takes_metrics());
        let whither = (kind, self.origin.clone());
        let channel = Channel::start(name, whither, sink.queue, Arc::clone(&totals));
        Ok(Line {
            config: sink.clone(),
            channel: channel.map_err(|error| error.context(said))?,
            totals,
            selector: Selector::new(sink.level, sink.filter.clone(), sink.rate, self.not),
            takes_documents,
            takes_metrics,
            trouble: None,
        })
    }

    /// Works with another configuration from now on. Sinks that are as they were go on, and so do the queues of those that
    /// have changed, so that nothing falls between the old one and the new.
    ///
    /// # Errors
    ///
    /// If a new sink cannot be had; then everything is as before.
    pub(super) fn reconfigure(
        &mut self,
        config: &Config,
        origin: Origin,
        not: Option<u32>,
    ) -> anyhow::Result<()> {
        let before = (std::mem::replace(&mut self.origin, origin), std::mem::replace(&mut self.not, not));
        let moved = before != (self.origin.clone(), self.not);
        let mut fresh = BTreeMap::new();
        for (name, sink) in &config.sinks {
            // A thread has given up what its sink did not need, and cannot become what needs something else.
            let same = |line: &Line| {
                let duties = (line.config.kind(), sink.kind());
                matches!(duties, (Ok(before), Ok(now)) if before.duty() == now.duty())
            };
            if self.lines.get(name).is_some_and(same) {
                continue;
            }
            match self.line(name, sink) {
                Ok(line) => fresh.insert(name.clone(), line),
                Err(error) => {
                    (self.origin, self.not) = before;
                    return Err(error);
                }
            };
        }
        let deadline = Instant::now() + config.agent.stop_within.0;
        self.lines.retain(|name, line| {
            let Some(sink) = config.sinks.get(name).filter(|_| !fresh.contains_key(name)) else {
                // It sends what it has, and nobody waits for it.
                line.channel.stop(deadline);
                return false;
            };
            if line.config == *sink && !moved {
                line.channel.reopen();
            } else if let Ok(kind) = sink.kind() {
                line.takes_documents = kind.takes_documents();
                line.takes_metrics = kind.takes_metrics();
                line.selector = Selector::new(sink.level, sink.filter.clone(), sink.rate, self.not);
                line.channel.change(kind, self.origin.clone(), sink.queue);
                line.config = sink.clone();
            }
            true
        });
        self.lines.append(&mut fresh);
        Ok(())
    }

    /// Hands a document to everybody who wants it.
    fn tell(&mut self, documents: &[Document]) {
        for line in self.lines.values_mut().filter(|line| line.takes_documents) {
            let Line { selector, channel, totals, .. } = line;
            let mut over_rate = 0;
            let mut chosen = documents
                .iter()
                .filter(|document| match selector.choose(document) {
                    Choice::Send => true,
                    Choice::Skip => false,
                    Choice::OverRate => {
                        over_rate += 1;
                        false
                    }
                })
                .cloned()
                .peekable();
            if chosen.peek().is_some() {
                channel.offer(chosen, self.run.patient);
            }
            totals.over_rate.fetch_add(over_rate, Relaxed);
        }
    }

    /// What became of sinks since the last report, as documents for the others: they say of themselves what they can.
    fn troubles(&mut self, time: WallTime) -> Vec<Document> {
        let mut documents = Vec::new();
        for (name, line) in &mut self.lines {
            let why = line.channel.take_trouble();
            // What went wrong and is over is told, too.
            let failing = line.channel.is_failing() || why.is_some();
            match (&line.trouble, failing) {
                (None, true) => {
                    let degradation = Degradation {
                        feature: format!("sink {name}"),
                        reason: format!(
                            "while it fails documents wait, and are lost for it when its queue is full: {}",
                            why.unwrap_or_default()
                        ),
                        remedy: Some(
                            "see whether its other end works; it is tried again by itself".to_owned(),
                        ),
                    };
                    line.trouble = Some(degradation.clone());
                    documents.push(Document::Degradation(DegradationNotice {
                        time,
                        degradation,
                        over: false,
                    }));
                }
                (Some(_), false) => {
                    if let Some(degradation) = line.trouble.take() {
                        documents.push(Document::Degradation(DegradationNotice {
                            time,
                            degradation,
                            over: true,
                        }));
                    }
                }
                _ => {}
            }
        }
        documents
    }

    /// How the agent itself is.
    fn own(&self) -> Own {
        let own::Usage { cpu_seconds, resident_bytes } = own::usage();
        let sinks = self.totals.iter().map(|(name, totals)| {
            let line = self.lines.get(name);
            SinkHealth {
                name: name.clone(),
                queued: line.map_or(0, |line| line.channel.queued()),
                queue_limit: line.map_or(0, |line| line.config.queue as u64),
                sent: totals.delivered.load(Relaxed),
                dropped: totals.overflowed.load(Relaxed),
                limited: totals.over_rate.load(Relaxed),
                refused: totals.refused.load(Relaxed),
                failures: totals.failures.load(Relaxed),
            }
        });
        Own {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: Some(env!("TCP_TRACE_COMMIT").to_owned()),
            started: Some(self.run.started),
            cpu_seconds,
            resident_bytes,
            reloads: Some(self.reloads),
            sinks: sinks.collect(),
        }
    }

    fn publish(&self) {
        let snapshot: Arc<Snapshot> = Arc::new(self.meter.snapshot(&self.own()));
        for line in self.lines.values().filter(|line| line.takes_metrics) {
            line.channel.offer_metrics(&snapshot);
        }
        self.board.publish(snapshot);
    }

    /// Sends what waits, within `deadline`. Returns what was lost over the whole run, by sink.
    pub(super) fn finish(mut self, deadline: Instant) -> Vec<(String, u64)> {
        self.publish();
        let lines = std::mem::take(&mut self.lines);
        for line in lines.values() {
            line.channel.stop(deadline);
        }
        let mut lost = Vec::new();
        for (name, line) in lines {
            let totals = Arc::clone(&line.totals);
            // What a call of the system holds up is given a moment more to count.
            if !line.channel.join(deadline + std::time::Duration::from_millis(200)) {
                log::warn!("sink {name}: did not come to its end in time");
            }
            let sum = totals.overflowed.load(Relaxed) + totals.refused.load(Relaxed);
            if sum > 0 {
                lost.push((name, sum));
            }
        }
        lost
    }

    /// A configuration was read again, and taken or not.
    pub(super) fn reloaded(&mut self, taken: bool) {
        *if taken { &mut self.reloads.0 } else { &mut self.reloads.1 } += 1;
    }

    fn wants(&self, level: Level) -> bool {
        self.lines.values().any(|line| line.takes_documents && line.selector.level() >= level)
    }
}

impl Outlet for Desk {
    fn wants_changes(&self) -> bool {
        self.wants(Level::All)
    }

    fn wants_closed(&self) -> bool {
        self.wants(Level::Closed)
    }

    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()> {
        let documents: Vec<_> = changes.drain(..).map(Document::Transition).collect();
        self.tell(&documents);
        Ok(())
    }

    fn closed(&mut self, closed: &mut Vec<Obituary>) -> anyhow::Result<()> {
        let documents: Vec<_> = closed.drain(..).map(Document::Closed).collect();
        self.tell(&documents);
        Ok(())
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        let mut documents = self.chronicle.report(&report);
        documents.extend(self.troubles(report.window.end));
        self.tell(&documents);
        self.meter.absorb(&report);
        self.publish();
        self.board.is_ready_now();
        Ok(())
    }
}

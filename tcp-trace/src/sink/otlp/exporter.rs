//! The exporter: batches to requests, requests to a collector, answers to what the agent has to know.

use std::{
    env,
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use prost::Message as _;
use tcp_trace_core::{
    log::{Document, Origin},
    metrics::Snapshot,
    time::WallTime,
};

use super::{
    answer::Verdict,
    batch::Batch,
    client::{self, Client},
    config::{Config, Signal},
    environment::Environment,
    metrics,
    resource::Resources,
    settings::Settings,
};
use crate::agent::export::Failure;

/// Sends documents and metrics to an OpenTelemetry collector.
#[derive(Debug)]
pub struct Exporter {
    logs: Option<Client>,
    metrics: Option<Client>,
    resources: Resources,
    /// The most that a request holds; less than what the configuration says once the other side has found that too much.
    max_request: usize,
    schedule: Schedule,
    /// The newest metrics, where it was not time to send them.
    unsent: Option<Box<Snapshot>>,
}

/// When metrics are sent.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    interval: Duration,
    /// Of the interval, counted from the epoch of the clock: another one on each host, so that ten thousand hosts that
    /// were started by the same roll-out do not all come in the same second.
    phase: Duration,
    next: Option<WallTime>,
}

impl Exporter {
    /// # Errors
    ///
    /// If the configuration or the environment says something that cannot be done. Nothing is connected to yet.
    pub fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self> {
        Self::with_environment(config, origin, &|name| env::var(name).ok())
    }

    /// The same, with the environment of a test.
    pub(super) fn with_environment(
        config: &Config,
        origin: &Origin,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let Settings { mut targets, attributes, max_request, metrics_interval } =
            Settings::new(config, Environment(variable))?;
        let mut client = |signal| targets.remove(&signal).map(Client::new).transpose();
        Ok(Self {
            logs: client(Signal::Logs)?,
            metrics: client(Signal::Metrics)?,
            resources: Resources::new(origin.clone(), attributes),
            max_request,
            schedule: Schedule::new(metrics_interval, &origin.host),
            unsent: None,
        })
    }

    /// Sends documents, in order, in as many requests as they need.
    ///
    /// # Errors
    ///
    /// If some of them were refused, or may be sent again.
    pub fn send(&mut self, batch: &[Document]) -> Result<(), Failure> {
        let Some(client) = &self.logs else { return Ok(()) };
        let mut result = Failure { done: 0, refused: 0, after: None, why: String::new() };
        while let Some(rest) = batch.get(result.done..).filter(|rest| !rest.is_empty()) {
            let part = Batch::fill(rest, &self.resources, self.max_request, client::now().0);
            let message = part.request.encode_to_vec();
            match client.send(&message) {
                Verdict::Taken { rejected, why } => {
                    result.done += part.documents;
                    refuse(&mut result, rejected, part.documents, why);
                }
                Verdict::TooLarge { .. } if part.documents > 1 => self.max_request = halved(message.len()),
                Verdict::TooLarge { why } | Verdict::Refused { why } => {
                    result.done += part.documents;
                    refuse(&mut result, part.documents as u64, part.documents, why);
                }
                Verdict::Again { after, why } => return Err(Failure { after, why, ..result }),
            }
        }
        if result.refused > 0 { Err(result) } else { Ok(()) }
    }

    /// Sends metrics, if it is time to, and says whether it was. What cannot be sent is not offered again: the next ones have
    /// the same counters, further on.
    ///
    /// # Errors
    ///
    /// If they were not taken, or not all. `refused` counts points.
    pub fn metrics(&mut self, snapshot: &Snapshot) -> Result<bool, Failure> {
        if self.metrics.is_none() {
            return Ok(false);
        }
        if !self.schedule.is_due(snapshot.time) {
            self.unsent = Some(Box::new(snapshot.clone()));
            return Ok(false);
        }
        self.unsent = None;
        self.send_metrics(snapshot).map(|()| true)
    }

    fn send_metrics(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let Some(client) = &self.metrics else { return Ok(()) };
        let mut result = Failure { done: 0, refused: 0, after: None, why: String::new() };
        let resource = self.resources.host();
        let mut waiting = metrics::requests(snapshot, &resource, self.max_request);
        waiting.reverse();
        while let Some(request) = waiting.pop() {
            let points = metrics::points(&request);
            let message = request.encode_to_vec();
            match client.send(&message) {
                Verdict::Taken { rejected, why } => refuse(&mut result, rejected, points, why),
                Verdict::TooLarge { why } => {
                    self.max_request = halved(message.len());
                    refuse(&mut result, points as u64, points, why);
                }
                Verdict::Refused { why } => refuse(&mut result, points as u64, points, why),
                Verdict::Again { after, why } => return Err(Failure { after, why, ..result }),
            }
        }
        if result.refused > 0 { Err(result) } else { Ok(()) }
    }

    /// Sends the last metrics: counters that are not sent before the end are lost. No document waits in here.
    ///
    /// # Errors
    ///
    /// Those of [`Self::metrics`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.unsent.take().map_or(Ok(()), |snapshot| self.send_metrics(&snapshot))
    }
}

/// Counts what was not taken of a request, and keeps the reason that came last. A warning that goes with no loss is for
/// the log.
fn refuse(result: &mut Failure, rejected: u64, of: usize, why: String) {
    if rejected == 0 {
        if !why.is_empty() {
            log::warn!("the collector took everything, and says: {why}");
        }
        return;
    }
    result.refused += usize::try_from(rejected).unwrap_or(of).min(of);
    result.why = why;
}

fn halved(bytes: usize) -> usize {
    log::info!("a request of {bytes} bytes is too much for the collector; the next ones have half of that");
    (bytes / 2).max(1)
}

impl Schedule {
    fn new(interval: Duration, host: &str) -> Self {
        // The same on every start, so that a restart does not change it.
        let mut hasher = rustc_hash::FxHasher::default();
        host.hash(&mut hasher);
        let share = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        Self { interval, phase: interval.mul_f64(share), next: None }
    }

    /// Whether it is time, and if so when the next time is.
    fn is_due(&mut self, now: WallTime) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        let (interval, phase) = (self.interval.as_nanos().max(1), self.phase.as_nanos());
        let now = u128::from(now.0);
        let past = (now + interval - phase % interval) % interval;
        let next = now - past + interval;
        // The first time at once: an agent that was just started shows that it is there.
        self.next = Some(WallTime(u64::try_from(next).unwrap_or(u64::MAX)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> WallTime {
        WallTime(seconds * 1_000_000_000)
    }

    #[test]
    fn metrics_go_once_in_an_interval() {
        let mut schedule = Schedule::new(MINUTE, "node-1");
        let sent = (0..6000).filter(|second| schedule.is_due(at(1_000_000 + second))).count();
        assert!((100..=101).contains(&sent), "{sent}");
    }

    #[test]
    fn hosts_are_spread_over_the_interval() {
        let mut per_second = [0_u32; 60];
        for host in 0..6000 {
            let mut schedule = Schedule::new(MINUTE, &format!("node-{host:05}"));
            assert!(schedule.is_due(at(1_000_020)));
            let next = schedule.next.unwrap().0 / 1_000_000_000 - 1_000_020;
            per_second[usize::try_from(next).unwrap() % 60] += 1;
        }
        let most = per_second.iter().max().unwrap();
        assert!(*most < 180 && per_second.iter().all(|count| *count > 40), "{per_second:?}");
    }
}

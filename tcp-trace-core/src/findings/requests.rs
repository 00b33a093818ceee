//! What becomes of the connections that a listener is asked for: shared by the rules that tell a flood, a slow program
//! and a lossy network apart. Each listener has one of these troubles at most, and none is told by the number of SYNs.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{Evidence, Share, Subject, memory::Case, subject::boxed};
use crate::report::{HalfOpenCause, Listener, NamespaceSummary, PrefixCount, Queue};

/// A listener's requests of the window.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    pub(super) listener: &'a Listener,
    pub(super) namespace: Option<&'a NamespaceSummary>,
    /// Handshakes that completed.
    pub(super) done: u64,
    /// Requests that died, or have been half-open for a second: those that are only just half-open may do well.
    pub(super) undone: u64,
    /// SYN cookies that nobody has answered, and SYNs that were dropped at a full queue, in the namespace: put down to the
    /// listener with the fullest queue.
    pub(super) overflow: u64,
}

/// What is wrong with a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Most requests are never answered.
    Flood,
    /// Clients answer, and the program does not accept them.
    SlowAccept,
    /// Handshakes complete, many of them after a retransmission.
    Loss,
}

/// `[findings.syn_flood]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynFlood {
    /// Requests of one listener in a report that were not completed: dead, half-open, or beyond a full queue.
    pub min_requests: NonZeroU64,
    /// The largest share of its requests that complete.
    pub max_completed_share: Share,
}

impl Default for SynFlood {
    fn default() -> Self {
        Self { min_requests: NonZeroU64::MIN.saturating_add(99), max_completed_share: Share::new(0.5) }
    }
}

/// `[findings.accept_queue_overflow]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcceptQueueOverflow {
    /// Connections turned away at the full queue in a report (ListenOverflows): a warning.
    pub min_overflows: NonZeroU64,
    /// So many: critical.
    pub critical_overflows: NonZeroU64,
}

impl Default for AcceptQueueOverflow {
    fn default() -> Self {
        Self { min_overflows: NonZeroU64::MIN, critical_overflows: NonZeroU64::MIN.saturating_add(999) }
    }
}

/// `[findings.handshake_loss]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandshakeLoss {
    /// Handshakes of one listener in a report that completed after a retransmission.
    pub min_handshakes: NonZeroU64,
    /// The least share of its completed handshakes that they are.
    pub min_share: Share,
}

impl Default for HandshakeLoss {
    fn default() -> Self {
        Self { min_handshakes: NonZeroU64::MIN.saturating_add(4), min_share: Share::new(0.05) }
    }
}

/// The listeners of the report.
pub(super) fn all<'a>(case: &Case<'a>) -> Vec<Requests<'a>> {
    let half_open = &case.report.half_open;
    let mut all: Vec<_> = half_open
        .listeners
        .iter()
        .map(|listener| {
            let here = |namespace: &&NamespaceSummary| Some(namespace.netns) == listener.netns;
            let [expired, reset, dead, overdue, cookies] =
                [listener.expired, listener.reset, listener.dead, listener.overdue, listener.cookies]
                    .map(|count| count.unwrap_or(0));
            Requests {
                listener,
                namespace: half_open.namespaces.iter().find(here),
                done: listener.completed.count.saturating_add(listener.unknown).saturating_add(cookies),
                undone: expired + reset + dead + overdue,
                overflow: 0,
            }
        })
        .collect();
    for namespace in &half_open.namespaces {
        let fullest = all
            .iter_mut()
            .filter(|requests| requests.listener.netns == Some(namespace.netns))
            .filter(|requests| {
                requests.listener.syn_queue.is_some_and(|queue| queue.length * 2 > queue.limit)
            })
            .max_by_key(|requests| requests.listener.live);
        if let Some(requests) = fullest {
            requests.overflow = overflow(namespace);
        }
    }
    all
}

/// SYNs beyond full queues that came to nothing: the kernel forgets them, and only counts.
pub(super) fn overflow(namespace: &NamespaceSummary) -> u64 {
    let unanswered = namespace.request_queue_full_cookies.saturating_sub(namespace.syncookies_received);
    // Saturating, because the counters of a recording may say anything.
    unanswered.saturating_add(namespace.request_queue_full_drops)
}

impl Requests<'_> {
    pub(super) fn subject(&self) -> Subject {
        let Listener { local, netns, process, .. } = self.listener;
        Subject::Listener { local: *local, netns: *netns, process: boxed(process.as_ref()) }
    }

    /// Requests that were not completed.
    pub(super) fn open(&self) -> u64 {
        self.undone.saturating_add(self.overflow)
    }

    /// The share that completes.
    pub(super) fn completed_share(&self) -> f64 {
        self.done as f64 / self.done.saturating_add(self.open()).max(1) as f64
    }

    /// Connections that its namespace turned away at full accept queues.
    pub(super) fn overflows(&self) -> u64 {
        self.namespace.map_or(0, |namespace| namespace.listen_overflows)
    }

    /// Whether its accept queue is full now; the kernel lets one more in than the limit (`sk_acceptq_is_full`,
    /// `include/net/sock.h`).
    fn is_full(&self) -> bool {
        self.listener.accept_queue.is_some_and(|Queue { length, limit }| length > 0 && length >= limit)
    }

    /// What is wrong with it.
    pub(super) fn trouble(&self, case: &Case<'_>) -> Option<Trouble> {
        let subject = self.subject();
        let reaches = |measure: u64, threshold: NonZeroU64| {
            case.reaches(&subject, measure as f64, threshold.get() as f64)
        };
        // A program that is slow to accept leaves requests half-open that their clients have answered.
        let turned_away = self.listener.cause == Some(HalfOpenCause::AcceptQueueFull);
        if self.is_full()
            && (turned_away || reaches(self.overflows(), case.thresholds.accept_queue_overflow.min_overflows))
        {
            return Some(Trouble::SlowAccept);
        }
        let flood = case.thresholds.syn_flood;
        let completes = self.completed_share() > flood.max_completed_share.get();
        if !turned_away && !completes && reaches(self.open(), flood.min_requests) {
            return Some(Trouble::Flood);
        }
        let loss = case.thresholds.handshake_loss;
        let resent = self.listener.resent.unwrap_or(0);
        let share = resent as f64 / self.done.max(1) as f64;
        let lossy =
            reaches(resent, loss.min_handshakes) && case.reaches(&subject, share, loss.min_share.get());
        (lossy && !turned_away && self.overflows() == 0).then_some(Trouble::Loss)
    }

    /// What all of the rules rest on.
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        let Listener { live, overdue, expired, reset, dead, syn_queue, sources, prefixes, .. } =
            self.listener;
        let mut evidence = vec![
            Evidence::new(
                "completed",
                self.done,
                "handshakes",
                "half_open.listeners[]: completed, unknown, cookies",
            ),
            Evidence::new("half-open", *live, "requests", "half_open.listeners[].live"),
        ];
        for (name, count, source) in [
            ("half-open for 1 s or more", overdue, "half_open.listeners[].overdue"),
            ("expired", expired, "half_open.listeners[].expired"),
            ("reset", reset, "half_open.listeners[].reset"),
            ("dead", dead, "half_open.listeners[].dead"),
        ] {
            let count = count.filter(|count| *count > 0);
            evidence.extend(count.map(|count| Evidence::new(name, count, "requests", source)));
        }
        if self.overflow > 0 {
            let source = "inferred: half_open.namespaces[], put down to the listener with the fullest queue";
            evidence.push(Evidence::new("beyond a full queue", self.overflow, "SYNs", source));
        }
        let share = "half_open.listeners[]: completed / all requests";
        evidence.push(Evidence::new("completes", self.completed_share(), "share", share));
        if let Some(Queue { length, limit }) = syn_queue {
            let queue = format!("{length} of {limit}");
            evidence.push(Evidence::new("SYN queue", queue, "", "half_open.listeners[].syn_queue"));
        }
        evidence.push(Evidence::new(
            "sources",
            *sources,
            "addresses",
            "half_open.listeners[].sources: estimated",
        ));
        if let Some(most) = worst(prefixes) {
            let completed = match most.completed {
                0 => String::new(),
                all if all == most.requests => String::new(),
                completed => format!(", {completed} completed"),
            };
            let text = format!("{} ({} requests{completed})", most.prefix, most.requests);
            evidence.push(Evidence::new("most from", text, "", "half_open.listeners[].prefixes"));
        }
        evidence
    }
}
/// Where most requests came from that did not complete: who asks most may be the best customer.
pub(super) fn worst(prefixes: &[PrefixCount]) -> Option<&PrefixCount> {
    // Of equals the first, which is the one with more requests.
    prefixes.iter().rev().max_by_key(|prefix| prefix.requests.saturating_sub(prefix.completed))
}

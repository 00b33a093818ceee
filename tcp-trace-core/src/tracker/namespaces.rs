//! What the kernel counts per network namespace, over a window.

use std::collections::BTreeMap;

use super::gauge::Gauge;
use crate::{
    report::NamespaceSummary,
    survey::{NamespaceFacts, SocketCounters},
};

/// Namespaces kept; a host with more is not reported on per namespace.
pub(super) const MAX: usize = 4096;

/// The namespaces that surveys have shown.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    known: BTreeMap<u32, Namespace>,
    /// Those that were there at the start are known: one that shows up later has counted from 0.
    begun: bool,
    pub(super) gauge: Gauge,
}

#[derive(Debug)]
struct Namespace {
    facts: NamespaceFacts,
    /// As of the start of the window, or of the first survey that showed it.
    before: Option<SocketCounters>,
}

impl Namespaces {
    /// Takes what somebody found, all at once.
    pub(super) fn learn(&mut self, facts: &[NamespaceFacts]) {
        for facts in facts {
            let room = self.known.len() < MAX;
            let zero = self.begun.then(SocketCounters::default);
            match self.known.get_mut(&facts.inum) {
                // The kernel gives the number of a namespace that is gone to the next one.
                Some(known) if is_younger(facts.counters, known.facts.counters) => {
                    *known = Namespace { facts: facts.clone(), before: zero };
                }
                Some(known) => {
                    known.before = known.before.or(facts.counters);
                    known.facts = facts.clone();
                }
                None if room => {
                    let before = zero.or(facts.counters);
                    self.known.insert(facts.inum, Namespace { facts: facts.clone(), before });
                }
                None => self.gauge.drops(1),
            }
        }
        self.gauge.holds(self.known.len());
        self.begun |= !facts.is_empty();
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Starts the next window.
    pub(super) fn next_window(&mut self) {
        for namespace in self.known.values_mut() {
            namespace.before = namespace.facts.counters;
        }
    }

    /// What is known of one.
    pub(super) fn get(&self, inum: u32) -> Option<&NamespaceFacts> {
        self.known.get(&inum).map(|namespace| &namespace.facts)
    }

    /// What was counted in the window.
    pub(super) fn summary(&self) -> Vec<NamespaceSummary> {
        self.known.values().filter_map(Namespace::summary).collect()
    }
}

/// Whether counters have gone back, which those of one namespace never do.
fn is_younger(now: Option<SocketCounters>, before: Option<SocketCounters>) -> bool {
    let (Some(now), Some(before)) = (now, before) else { return false };
    now.passive_opens < before.passive_opens
        || now.active_opens < before.active_opens
        || now.listen_drops < before.listen_drops
        || now.syncookies_sent < before.syncookies_sent
}

impl Namespace {
    fn summary(&self) -> Option<NamespaceSummary> {
        let (now, before) = (self.facts.counters?, self.before?);
        macro_rules! differences {
            ($($name:ident),*) => {
                NamespaceSummary {
                    netns: self.facts.inum,
                    name: self.facts.name.clone(),
                    syncookies: self.facts.syncookies,
                    somaxconn: self.facts.somaxconn,
                    $($name: now.$name.saturating_sub(before.$name)),*
                }
            };
        }
        Some(differences!(
            listen_overflows,
            listen_drops,
            syncookies_sent,
            syncookies_received,
            syncookies_failed,
            request_queue_full_cookies,
            request_queue_full_drops,
            embryonic_resets,
            time_wait_overflows,
            passive_opens,
            active_opens,
            attempt_fails
        ))
    }
}

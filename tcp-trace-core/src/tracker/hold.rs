//! Events that the filter cannot judge yet.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{
    connection::{Key, Step},
    gauge::Gauge,
};
use crate::state::TcpState;

/// The events held back, by connection. When there is no room for another, the connection that has been
/// held back the longest is given up: the kernel's filter may have turned away its later events, and then
/// nothing would ever decide it.
#[derive(Debug)]
pub(super) struct Held {
    max: usize,
    steps: FxHashMap<Key, (u64, Vec<Step>)>,
    /// The connections in the order in which they came.
    order: BTreeMap<u64, Key>,
    next: u64,
    total: usize,
    pub(super) gauge: Gauge,
}

impl Held {
    /// Room for `max` events.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            steps: FxHashMap::default(),
            order: BTreeMap::new(),
            next: 0,
            total: 0,
            gauge: Gauge::default(),
        }
    }

    /// Room for so many events.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Events that are held back.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// Holds an event back. Returns the connection that was given up for it, if any.
    #[must_use]
    pub(super) fn push(&mut self, key: Key, step: Step) -> Option<Key> {
        let (_, steps) = self.steps.entry(key).or_insert_with(|| {
            self.order.insert(self.next, key);
            self.next += 1;
            (self.next - 1, Vec::new())
        });
        steps.push(step);
        self.total += 1;
        self.gauge.holds(self.total);
        if self.total <= self.max {
            return None;
        }
        let oldest = self.order.first_key_value().map(|(_, key)| *key)?;
        let given_up = self.take(oldest).len();
        self.gauge.drops(given_up);
        Some(oldest)
    }

    /// The events of one connection, which are judged now.
    pub(super) fn take(&mut self, key: Key) -> Vec<Step> {
        if self.total == 0 {
            return Vec::new();
        }
        let Some((place, steps)) = self.steps.remove(&key) else { return Vec::new() };
        self.order.remove(&place);
        self.total -= steps.len();
        steps
    }

    /// The last transition of a connection that is held back.
    pub(super) fn last(&self, key: Key) -> Option<(TcpState, TcpState)> {
        let (_, steps) = self.steps.get(&key)?;
        steps.last().map(|step| (step.change.old, step.change.new))
    }

    /// A connection's key has become known.
    pub(super) fn rename(&mut self, from: Key, to: Key) {
        let Some((place, mut steps)) = self.steps.remove(&from) else { return };
        if let Some((later_place, later)) = self.steps.remove(&to) {
            self.order.remove(&later_place);
            steps.extend(later);
        }
        self.order.insert(place, to);
        self.steps.insert(to, (place, steps));
    }
}

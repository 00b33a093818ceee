//! Connections that have ended while somebody still held their sockets: whoever closes one was its last holder.

use std::{collections::VecDeque, num::NonZeroU64};

use rustc_hash::FxHashMap;

use super::{connection::Connection, endings::End, gauge::Gauge};
use crate::{report::Obituary, time::Timestamp};

/// Connections that wait at the same time; as many as the kernel program remembers.
pub(super) const MAX: usize = 65_536;
/// How long one waits to be closed, nanoseconds. A program that was told of the reset closes at once; one that never
/// looks again leaks the descriptor, and its owner stays who it was known to be.
const PATIENCE_NS: u64 = 1_000_000_000;

/// A connection whose owner may become known yet.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) connection: Connection,
    /// If one is wanted.
    pub(super) obituary: Option<Box<Obituary>>,
    pub(super) end: Option<End>,
    pub(super) at: Timestamp,
}

/// The connections that wait, in the order of their ends.
#[derive(Debug, Default)]
pub(super) struct Wake {
    ended: FxHashMap<NonZeroU64, Ended>,
    order: VecDeque<(Timestamp, NonZeroU64)>,
    pub(super) gauge: Gauge,
}

impl Wake {
    /// A connection has ended.
    pub(super) fn add(
        &mut self,
        cookie: NonZeroU64,
        connection: Connection,
        obituary: Option<Box<Obituary>>,
        end: Option<End>,
        at: Timestamp,
    ) {
        self.ended.insert(cookie, Ended { connection, obituary, end, at });
        self.order.push_back((at, cookie));
        self.gauge.holds(self.ended.len());
    }

    /// Whether a connection waits.
    pub(super) fn has(&self, cookie: NonZeroU64) -> bool {
        self.ended.contains_key(&cookie)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.ended.len()
    }

    /// The connection whose socket was closed, or begins anew.
    pub(super) fn take(&mut self, cookie: NonZeroU64) -> Option<Ended> {
        if self.ended.is_empty() { None } else { self.ended.remove(&cookie) }
    }

    /// One that has waited for long enough.
    pub(super) fn overdue(&mut self, now: Timestamp) -> Option<Ended> {
        loop {
            let (at, cookie) = *self.order.front()?;
            if now.since(at) < PATIENCE_NS && self.ended.len() <= MAX && self.order.len() <= 4 * MAX {
                return None;
            }
            self.order.pop_front();
            if self.ended.get(&cookie).is_some_and(|ended| ended.at == at) {
                self.gauge.drops(usize::from(now.since(at) < PATIENCE_NS));
                return self.ended.remove(&cookie);
            }
        }
    }

    /// Those that wait.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Ended> {
        self.ended.values_mut()
    }

    /// All that are left, in order.
    pub(super) fn drain(&mut self) -> Vec<Ended> {
        let order = std::mem::take(&mut self.order);
        order.into_iter().filter_map(|(_, cookie)| self.ended.remove(&cookie)).collect()
    }
}

//! The connections by key: slots that never move, and an open-addressed index of their numbers.
//!
//! Growing moves four bytes per connection and not its record, so that a table of a million costs what its
//! connections take, also in the moment when it grows.

use std::hash::Hasher as _;

use hashbrown::{HashTable, hash_table::Entry};
use rustc_hash::FxHasher;

use super::{
    connection::{Connection, Key},
    gauge::Gauge,
};
use crate::state::TcpState;

/// Slots that are allocated together.
const CHUNK: usize = 512;
/// Slots that are looked at to find one that can be given up.
const SEARCH: usize = 64;

/// How many connections and listeners there have been in the table, and what has become of them:
/// `opened = live + closed + evicted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Entered: seen to begin, seen for the first time, or found by a survey.
    pub opened: u64,
    /// In it now.
    pub live: u64,
    /// Taken out because they have ended, or because no filter wants them.
    pub closed: u64,
    /// Given up to make room.
    pub evicted: u64,
}

/// A slot's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

#[derive(Debug)]
enum Slot {
    Taken(Connection),
    /// With the next vacant one.
    Vacant(Option<Place>),
}

/// All connections and listeners.
#[derive(Debug, Default)]
pub(super) struct Table {
    index: HashTable<Place>,
    chunks: Vec<Vec<Slot>>,
    /// The first vacant slot.
    vacant: Option<Place>,
    /// How many are kept under their address.
    unnamed: usize,
    pub(super) gauge: Gauge,
    /// How often one was added, taken out, put back under another key, and given up.
    added: u64,
    removed: u64,
    moved: u64,
    evicted: u64,
    /// Where the search for one to give up goes on.
    hand: usize,
}

impl Table {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether any connection is kept under its address for want of a cookie.
    pub(super) fn has_unnamed(&self) -> bool {
        self.unnamed > 0
    }

    /// Where a connection is.
    pub(super) fn find(&self, key: Key) -> Option<Place> {
        self.index.find(hash(key), |place| self.has_key(*place, key)).copied()
    }

    /// Whether there is such a connection.
    pub(super) fn contains_key(&self, key: Key) -> bool {
        self.find(key).is_some()
    }

    /// The connection at a place.
    pub(super) fn at(&self, place: Place) -> Option<&Connection> {
        connection(&self.chunks, place)
    }

    /// The connection at a place.
    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut Connection> {
        match slot_mut(&mut self.chunks, place)? {
            Slot::Taken(connection) => Some(connection),
            Slot::Vacant(_) => None,
        }
    }

    /// A connection.
    pub(super) fn get(&self, key: Key) -> Option<&Connection> {
        self.at(self.find(key)?)
    }

    /// A connection.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Connection> {
        self.at_mut(self.find(key)?)
    }

    /// What was put into the table and taken out of it. Those that are in it are counted slot by slot.
    pub(super) fn account(&self) -> Account {
        Account {
            opened: self.added.saturating_sub(self.moved),
            live: self.values().count() as u64,
            closed: self.removed.saturating_sub(self.moved).saturating_sub(self.evicted),
            evicted: self.evicted,
        }
    }

    /// Puts a connection that was taken out back, and returns the one that it replaces.
    pub(super) fn insert(&mut self, key: Key, connection: Connection) -> Option<Connection> {
        let replaced = self.remove(key);
        self.moved += 1;
        self.add(key, connection);
        replaced
    }

    /// Adds a connection whose key is not in the table.
    pub(super) fn add(&mut self, key: Key, mut connection: Connection) -> Place {
        connection.set_key(key);
        self.added += 1;
        self.unnamed += usize::from(matches!(key, Key::Address(_)));
        let place = self.settle(connection);
        let Self { index, chunks, .. } = self;
        index.insert_unique(hash(key), place, |place| hash_at(chunks, *place));
        self.gauge.holds(self.index.len());
        place
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, key: Key) -> Option<Connection> {
        let Self { index, chunks, .. } = self;
        let same = |place: &Place| connection(chunks, *place).is_some_and(|c| c.key() == key);
        let Entry::Occupied(entry) = index.entry(hash(key), same, |place| hash_at(chunks, *place)) else {
            return None;
        };
        let (place, _) = entry.remove();
        self.removed += 1;
        self.unnamed -= usize::from(matches!(key, Key::Address(_)));
        let slot = slot_mut(&mut self.chunks, place)?;
        let Slot::Taken(connection) = std::mem::replace(slot, Slot::Vacant(self.vacant)) else { return None };
        self.vacant = Some(place);
        Some(connection)
    }

    /// All of them, in no order that means anything.
    pub(super) fn values(&self) -> impl Iterator<Item = &Connection> {
        self.chunks.iter().flatten().filter_map(|slot| match slot {
            Slot::Taken(connection) => Some(connection),
            Slot::Vacant(_) => None,
        })
    }

    /// All of them, in no order that means anything.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.chunks.iter_mut().flatten().filter_map(|slot| match slot {
            Slot::Taken(connection) => Some(connection),
            Slot::Vacant(_) => None,
        })
    }

    /// Takes out one that a full table can do without: it is established, so that nothing is going on that a report asks
    /// for, and stands first where the last search has ended, so that each has its turn, oldest first as a rule. `None`
    /// if there is none nearby.
    pub(super) fn give_up(&mut self) -> Option<Connection> {
        let given_up = self.dispensable().and_then(|key| self.remove(key))?;
        self.gauge.drops(1);
        self.evicted += 1;
        Some(given_up)
    }

    fn dispensable(&mut self) -> Option<Key> {
        let slots = self.slots();
        for _ in 0..SEARCH.min(slots) {
            let at = self.hand % slots;
            self.hand = at + 1;
            let slot = self.chunks.get(at / CHUNK).and_then(|chunk| chunk.get(at % CHUNK));
            if let Some(Slot::Taken(connection)) = slot
                && connection.state == TcpState::Established
            {
                return Some(connection.key());
            }
        }
        None
    }

    fn has_key(&self, place: Place, key: Key) -> bool {
        self.at(place).is_some_and(|connection| connection.key() == key)
    }

    /// Puts a connection into a slot.
    fn settle(&mut self, connection: Connection) -> Place {
        if let Some(place) = self.vacant
            && let Some(slot) = slot_mut(&mut self.chunks, place)
        {
            if let Slot::Vacant(next) = slot {
                self.vacant = *next;
            }
            *slot = Slot::Taken(connection);
            return place;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let place = Place(u32::try_from(self.slots()).unwrap_or(u32::MAX));
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Slot::Taken(connection));
        }
        place
    }

    /// Slots that there are, vacant or not; far fewer than 2^32, which the limit sees to.
    fn slots(&self) -> usize {
        self.chunks.len().saturating_sub(1) * CHUNK + self.chunks.last().map_or(0, Vec::len)
    }
}

fn connection(chunks: &[Vec<Slot>], Place(place): Place) -> Option<&Connection> {
    match chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)? {
        Slot::Taken(connection) => Some(connection),
        Slot::Vacant(_) => None,
    }
}

fn slot_mut(chunks: &mut [Vec<Slot>], Place(place): Place) -> Option<&mut Slot> {
    chunks.get_mut(place as usize / CHUNK)?.get_mut(place as usize % CHUNK)
}

fn hash_at(chunks: &[Vec<Slot>], place: Place) -> u64 {
    connection(chunks, place).map_or(0, |connection| hash(connection.key()))
}

fn hash(key: Key) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(match key {
        Key::Cookie(cookie) => cookie.get(),
        Key::Address(address) => address,
    });
    hasher.finish()
}

// A million connections fit into 256 MiB with everything else that there is.
const _: () = assert!(size_of::<Slot>() <= 176);

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, num::NonZeroU64};

    use super::*;
    use crate::{endpoint::Endpoint, input::Event, record, time::Timestamp};

    fn connection(time: u64, state: TcpState) -> Connection {
        let end = Endpoint { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 80 };
        let mut event = zeroed();
        (event.time, event.old, event.local, event.peer) = (Timestamp(time), state, end, end);
        Connection::unseen(&event)
    }

    fn zeroed() -> Event {
        let wire: tcp_trace_common::event::StateChange = zerocopy::FromZeros::new_zeroed();
        let kind = tcp_trace_common::event::kind::STATE_CHANGE;
        let wire = tcp_trace_common::event::StateChange { kind, ..wire };
        let bytes = zerocopy::IntoBytes::as_bytes(&wire);
        match crate::decode::decode(record::Record { kind: record::kind::EVENT, bytes }) {
            Ok(crate::input::Input::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    fn cookie(number: u64) -> Key {
        Key::Cookie(NonZeroU64::new(number).unwrap())
    }

    #[test]
    fn it_is_a_map() {
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        let mut random = 1_u64;
        for time in 0..40_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = 1 + (random >> 33) % 3_000;
            let key = if random >> 63 == 0 { cookie(number) } else { Key::Address(number) };
            if random >> 62 & 1 == 0 {
                let replaced = table.insert(key, connection(time, TcpState::Established));
                assert_eq!(replaced.map(|c| c.last.0), model.insert(key, time));
            } else {
                assert_eq!(table.remove(key).map(|c| c.last.0), model.remove(&key));
            }
            assert_eq!(table.get(key).map(|c| c.last.0), model.get(&key).copied());
        }
        assert_eq!(table.len(), model.len());
        let named: BTreeMap<_, _> = table.values().map(|c| (c.key(), c.last.0)).collect();
        assert_eq!(named, model);
        assert!(table.slots() < 6_000 + CHUNK, "vacant slots are used again");
        let unnamed = model.keys().filter(|key| matches!(key, Key::Address(_))).count();
        assert_eq!(table.unnamed, unnamed);
    }

    #[test]
    fn only_what_is_established_is_given_up_and_the_oldest_first() {
        let mut table = Table::default();
        for number in 1..=6 {
            let state = if number % 2 == 0 { TcpState::Established } else { TcpState::CloseWait };
            table.add(cookie(number), connection(number, state));
        }
        let given_up: Vec<_> =
            std::iter::from_fn(|| table.give_up()).map(|connection| connection.last.0).collect();
        assert_eq!(given_up, [2, 4, 6]);
        assert_eq!(table.len(), 3);
    }
}

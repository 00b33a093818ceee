//! Time-wait sockets: how many there are, between which ends, and whose they were.

use std::{collections::BTreeMap, hash::Hasher as _, net::IpAddr, num::NonZeroU64};

use hashbrown::{HashTable, hash_table::Entry};
use rustc_hash::{FxHashMap, FxHasher};

use super::{
    connection::{Afterlife, PackedOwner},
    gauge::Gauge,
};
use crate::{
    endpoint::Endpoint,
    process::{Comm, Owner, ProcessId},
    state::TcpState,
    survey::{SocketRow, Timer},
    time::Timestamp,
};

/// How long the kernel keeps a time-wait socket (`TCP_TIMEWAIT_LEN`, `include/net/tcp.h`), in nanoseconds.
const LIFETIME_NS: u64 = 60_000_000_000;
/// Those that came less than this ago, and those that go before this is over, tell how fast they become more.
pub(super) const SPAN_MS: u32 = 10_000;
/// Owners remembered: as many as the kernel keeps time-wait sockets by default (`tcp_max_tw_buckets`), in two
/// generations. When the younger one is full the older one is forgotten.
pub(super) const OWNERS: usize = 262_144;

/// Orphans in FIN_WAIT2 that are looked at one by one; of more, only the number is known.
const ORPHANS: usize = 65_536;

/// Local address, peer and namespace: what a connection from an ephemeral port shares with its like.
pub(super) type Destination = (u32, IpAddr, Endpoint);

/// Time-wait sockets of one destination.
#[derive(Clone, Debug, Default)]
pub(super) struct Population {
    pub(super) count: u64,
    /// They entered less than [`SPAN_MS`] ago.
    pub(super) arrived: u64,
    /// They go before that is over.
    pub(super) leaving: u64,
    /// Whose they were: of most destinations one process's, so that the others have a place of their own.
    first: Closer,
    others: Vec<Closer>,
}

/// Who closed first; `None`: their entry was not seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closer {
    pub(super) process: Option<ProcessId>,
    pub(super) comm: Option<Comm>,
    pub(super) count: u64,
}

/// Processes told of a destination.
const CLOSERS: usize = 64;

/// The time-wait sockets of the last survey.
#[derive(Debug, Default)]
pub(super) struct TimeWaits {
    /// Whose a socket was that went into TIME_WAIT, in the order of their ends. Only a survey asks, and most connections
    /// have their end between two of them: an index of all would cost each end more than all the rest of it.
    owners: Vec<Entered>,
    elders: Vec<Entered>,
    /// When the last of the elders entered.
    eldest: Timestamp,
    /// What the last survey found; `None` before the first one.
    pub(super) found: Option<Found>,
    pub(super) gauge: Gauge,
}

/// Whose a socket was, and when it closed; by its cookie, which its time-wait socket inherits.
#[derive(Clone, Copy, Debug)]
struct Entered {
    cookie: NonZeroU64,
    owner: PackedOwner,
    at: Timestamp,
    /// In FIN_WAIT2: it may enter TIME_WAIT later.
    orphan: bool,
}

/// A time-wait socket in FIN_WAIT2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orphan {
    pub(super) cookie: NonZeroU64,
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
    /// Whose it was, and when the kernel put it away; `None` where that was not seen.
    pub(super) seen: Option<(Option<Owner>, Timestamp)>,
}

/// The population at a survey.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In TIME_WAIT.
    pub(super) live: u64,
    /// Orphans in FIN_WAIT2.
    pub(super) orphans: u64,
    /// The first of them.
    pub(super) orphan_rows: Vec<Orphan>,
    /// By owner when it entered; key `None` where that was not seen.
    pub(super) by_owner: FxHashMap<Option<ProcessId>, (u64, Option<Comm>)>,
    /// By destination.
    pub(super) destinations: BTreeMap<Destination, Population>,
}

/// A time-wait socket of a survey: what is used of its row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) cookie: NonZeroU64,
    netns: u32,
    local: Endpoint,
    peer: Endpoint,
    phase: Phase,
}

/// How far a time-wait socket has come, by its timer, of 60 s in TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In FIN_WAIT2.
    Orphan,
    /// It entered less than [`SPAN_MS`] ago.
    Arrived,
    /// Neither.
    Waits,
    /// It goes before that is over.
    Leaving,
}

impl From<&SocketRow> for Waiting {
    fn from(row: &SocketRow) -> Self {
        let SocketRow { cookie, netns, state, local, peer, expires_ms, .. } = *row;
        let phase = if state == TcpState::FinWait2 {
            Phase::Orphan
        } else if u64::from(expires_ms) + u64::from(SPAN_MS) > LIFETIME_NS / 1_000_000 {
            Phase::Arrived
        } else if expires_ms < SPAN_MS {
            Phase::Leaving
        } else {
            Phase::Waits
        };
        Self { cookie, netns, local, peer, phase }
    }
}

impl TimeWaits {
    /// A socket has closed and left a time-wait socket.
    pub(super) fn entered(
        &mut self,
        cookie: Option<NonZeroU64>,
        owner: Option<Owner>,
        afterlife: Afterlife,
        now: Timestamp,
    ) {
        let Some(cookie) = cookie else { return };
        if self.owners.len() >= OWNERS / 2 {
            // What is older than that the kernel has forgotten, too.
            if now.since(self.eldest) < LIFETIME_NS {
                self.gauge.drops(self.elders.len());
            }
            std::mem::swap(&mut self.elders, &mut self.owners);
            self.owners.clear();
            self.eldest = now;
        }
        let orphan = afterlife == Afterlife::Orphan;
        self.owners.push(Entered { cookie, owner: PackedOwner::pack(owner), at: now, orphan });
        self.gauge.holds(self.len());
    }

    /// Whose they were that entered TIME_WAIT less than its length ago and that no survey has found gone.
    pub(super) fn within_lifetime(&self, now: Timestamp) -> impl Iterator<Item = Option<Owner>> {
        let all = self.owners.iter().chain(&self.elders);
        let waits = move |entered: &&Entered| !entered.orphan && now.since(entered.at) < LIFETIME_NS;
        all.filter(waits).map(|entered| entered.owner.unpack())
    }

    /// Sockets whose owners are remembered.
    pub(super) fn len(&self) -> usize {
        self.owners.len() + self.elders.len()
    }

    /// A survey that began at `begin` has listed all of them.
    pub(super) fn listed(&mut self, sockets: &[Waiting], begin: Timestamp) {
        let mut found = Found::default();
        let mut known = Known::of(std::mem::take(&mut self.elders), &self.owners);
        let mut kept = Vec::new();
        for row in sockets {
            let owner = known.take(row.cookie);
            kept.extend(owner);
            if row.phase == Phase::Orphan {
                found.orphans += 1;
                if found.orphan_rows.len() < ORPHANS {
                    let Waiting { cookie, local, peer, .. } = *row;
                    let seen = owner.map(|entered| (entered.owner.unpack(), entered.at));
                    found.orphan_rows.push(Orphan { cookie, local, peer, seen });
                }
                continue;
            }
            found.live += 1;
            let owner = owner.and_then(|entered| entered.owner.unpack());
            let (count, comm) = found.by_owner.entry(owner.map(|owner| owner.process)).or_default();
            *count += 1;
            // The order of the list is nobody's business: of several names the greatest.
            *comm = (*comm).max(owner.and_then(|owner| owner.comm));
            let destination = (row.netns, row.local.address, row.peer);
            found.destinations.entry(destination).or_default().add(row.phase, owner);
        }
        // Those that are not listed any more are gone, unless they entered while the list was made.
        kept.extend(known.rest().filter(|entered| entered.at >= begin));
        self.elders = kept.split_off(kept.len().min(OWNERS / 2));
        (self.owners, self.eldest) = (kept, Timestamp(u64::MAX));
        self.found = Some(found);
    }
}

/// All that have entered, to be looked up.
struct Known {
    all: Vec<Entered>,
    /// Places of the last ones of each cookie: a socket may connect anew, and end again.
    index: HashTable<u32>,
}

impl Known {
    fn of(mut all: Vec<Entered>, younger: &[Entered]) -> Self {
        all.extend_from_slice(younger);
        let mut index: HashTable<u32> = HashTable::with_capacity(all.len());
        for (place, entered) in (0_u32..).zip(&all) {
            let same = |other: &u32| all.get(*other as usize).is_some_and(|one| one.cookie == entered.cookie);
            let rehash = |other: &u32| all.get(*other as usize).map_or(0, |one| hash(one.cookie));
            match index.entry(hash(entered.cookie), same, rehash) {
                Entry::Occupied(mut entry) => *entry.get_mut() = place,
                Entry::Vacant(entry) => drop(entry.insert(place)),
            }
        }
        Self { all, index }
    }

    /// Takes one out.
    fn take(&mut self, cookie: NonZeroU64) -> Option<Entered> {
        let Self { all, index } = self;
        let same = |place: &u32| all.get(*place as usize).is_some_and(|entered| entered.cookie == cookie);
        let (place, _) = index.find_entry(hash(cookie), same).ok()?.remove();
        all.get(place as usize).copied()
    }

    /// Those that were not taken out.
    fn rest(&self) -> impl Iterator<Item = Entered> {
        let mut places: Vec<u32> = self.index.iter().copied().collect();
        places.sort_unstable();
        places.into_iter().filter_map(|place| self.all.get(place as usize).copied())
    }
}

fn hash(cookie: NonZeroU64) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(cookie.get());
    hasher.finish()
}

impl Population {
    fn add(&mut self, phase: Phase, owner: Option<Owner>) {
        let process = owner.map(|owner| owner.process);
        if self.count == 0 {
            self.first.process = process;
        }
        self.count += 1;
        self.arrived += u64::from(phase == Phase::Arrived);
        self.leaving += u64::from(phase == Phase::Leaving);
        let closer = if self.first.process == process {
            &mut self.first
        } else {
            let known = self.others.iter().position(|closer| closer.process == process);
            let at = known.unwrap_or(self.others.len());
            if known.is_none() && at < CLOSERS {
                self.others.push(Closer { process, ..Closer::default() });
            }
            match self.others.get_mut(at) {
                Some(closer) => closer,
                None => return,
            }
        };
        closer.count += 1;
        // The order of the list is nobody's business: of several names the greatest.
        closer.comm = closer.comm.max(owner.and_then(|owner| owner.comm));
    }

    /// Who closed them, most first.
    pub(super) fn closers(&self) -> Vec<Closer> {
        let mut closers: Vec<_> = std::iter::once(self.first).chain(self.others.iter().copied()).collect();
        closers.retain(|closer| closer.count > 0);
        closers.sort_by_key(|closer| (std::cmp::Reverse(closer.count), closer.process));
        closers
    }
}

/// Whether a row is a time-wait socket rather than a full one (`tw_timer`, `net/ipv4/inet_diag.c`).
pub(super) fn is_time_wait(row: &SocketRow) -> bool {
    row.timer == Timer::TimeWait && matches!(row.state, TcpState::TimeWait | TcpState::FinWait2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::OwnerSource;

    #[test]
    fn those_that_entered_last_are_remembered() {
        let second = 1_000_000_000;
        let enter = |time_waits: &mut TimeWaits, from: u64, second_of: u64| {
            for cookie in from..from + OWNERS as u64 / 2 {
                let at = Timestamp(second_of * second);
                time_waits.entered(NonZeroU64::new(cookie), None, Afterlife::TimeWait, at);
            }
        };
        let mut time_waits = TimeWaits::default();
        (1..=4).for_each(|round| enter(&mut time_waits, round * OWNERS as u64, 100 + round));
        assert_eq!(time_waits.len(), OWNERS);
        let last = NonZeroU64::new(4 * OWNERS as u64 + 1).unwrap();
        assert!(time_waits.owners.iter().any(|entered| entered.cookie == last));
        assert_eq!(time_waits.gauge.dropped(), OWNERS as u64);
        // Those of the second minute before are no loss.
        enter(&mut time_waits, 5 * OWNERS as u64, 300);
        assert_eq!(time_waits.len(), OWNERS);
        assert_eq!(time_waits.gauge.dropped(), OWNERS as u64);
    }

    #[test]
    fn a_survey_leaves_those_that_it_has_listed_and_those_that_came_meanwhile() {
        let cookie = |number| NonZeroU64::new(number).unwrap();
        let owner = |pid| {
            Some(Owner { process: ProcessId { pid, start_ns: None }, comm: None, source: OwnerSource::Task })
        };
        let end = Endpoint { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 1 };
        let row =
            |number| Waiting { cookie: cookie(number), netns: 1, local: end, peer: end, phase: Phase::Waits };
        let mut time_waits = TimeWaits::default();
        // The fourth socket connects anew, as another process's.
        for (number, pid, at) in [(1, 10, 1), (4, 10, 2), (2, 10, 3), (4, 20, 4), (3, 10, 100)] {
            time_waits.entered(Some(cookie(number)), owner(pid), Afterlife::TimeWait, Timestamp(at));
        }
        time_waits.listed(&[row(4), row(1), row(9)], Timestamp(50));
        let found = time_waits.found.take().unwrap();
        let count = |pid: Option<u32>| {
            let id = pid.map(|pid| ProcessId { pid, start_ns: None });
            found.by_owner.get(&id).map(|(count, _)| *count)
        };
        assert_eq!((count(Some(10)), count(Some(20)), count(None)), (Some(1), Some(1), Some(1)));
        let left: Vec<_> = time_waits.owners.iter().map(|entered| entered.cookie.get()).collect();
        assert_eq!(left, [4, 1, 3], "the second one is gone");
    }
}

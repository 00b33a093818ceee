//! TIME_WAIT: who closed first, how many sockets wait, and how many ports that leaves.

use std::{cmp::Reverse, collections::BTreeSet};

use rustc_hash::FxHashMap;

use super::{accepted, identity};
use crate::{
    report::{TimeWait, TimeWaitCloser, TimeWaitDestination, TimeWaitProcess},
    session::Attach,
    state::TcpState,
    tracker::{
        Tracker,
        tally::ProcessTally,
        time_wait::{Closer, Destination, Found, Population},
    },
};

pub(super) fn time_wait(tracker: &Tracker) -> TimeWait {
    let exact = tracker.session.programs.iter().any(|name| name == "time_wait");
    let known = tracker.session.attach == Attach::TpBtf && !tracker.modes.only_counts();
    let found = tracker.time_waits.found.as_ref();
    TimeWait {
        live: found.map(|found| found.live),
        live_orphans: found.map(|found| found.orphans),
        entered: known.then_some(tracker.tally.time_wait),
        orphaned: known.then_some(tracker.tally.orphaned),
        inferred: !exact,
        processes: processes(tracker, found),
        destinations: found.map(|found| destinations(tracker, found)),
    }
}

fn processes(tracker: &Tracker, found: Option<&Found>) -> Vec<TimeWaitProcess> {
    let idle = ProcessTally::default();
    let tallies = &tracker.tally.processes;
    let waiting_of = |id| found.map(|found| found.by_owner.get(id).copied().unwrap_or_default());
    // Those whose entry was not seen have no owner to be put down to.
    let waiting = found.into_iter().flat_map(|found| found.by_owner.keys()).filter(|id| id.is_some());
    let ids: BTreeSet<_> =
        tallies.iter().filter(|(_, tally)| tally.time_wait > 0).map(|(id, _)| id).chain(waiting).collect();
    let mut rows: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let tally = tallies.get(id).unwrap_or(&idle);
            let waiting = waiting_of(id);
            let name = tally.comm.or_else(|| waiting?.1);
            TimeWaitProcess {
                process: id.map(|id| identity(tracker, id, name)),
                entered: tally.time_wait,
                live: waiting.filter(|_| id.is_some()).map(|(count, _)| count),
            }
        })
        .collect();
    rows.sort_by_key(|row| {
        (Reverse(row.entered), Reverse(row.live), row.process.as_ref().map(|process| process.pid))
    });
    rows.truncate(tracker.settings.max_rows);
    rows
}

/// Connections to one destination that make it worth a line although none of its sockets is in TIME_WAIT.
const MANY: u64 = 500;
/// Destinations of which live connections are counted.
const DESTINATIONS: usize = 4096;
/// Processes told of a destination.
const CLOSERS: usize = 5;

fn destinations(tracker: &Tracker, found: &Found) -> Vec<TimeWaitDestination> {
    let known = tracker.session.attach == Attach::TpBtf;
    let opened = if known { opened(tracker) } else { FxHashMap::default() };
    let none = Population::default();
    let many = opened.iter().filter(|(_, count)| **count >= MANY).map(|(key, _)| key);
    let keys: BTreeSet<_> = found.destinations.keys().chain(many).copied().collect();
    let mut keys: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let population = found.destinations.get(&key).unwrap_or(&none);
            (key, population, known.then(|| opened.get(&key).copied().unwrap_or(0)))
        })
        .collect();
    keys.sort_by_key(|(_, population, live)| Reverse(population.count + live.unwrap_or(0)));
    keys.truncate(tracker.settings.max_sockets);
    keys.into_iter().map(|(key, population, live)| row(tracker, key, population, live)).collect()
}

fn row(
    tracker: &Tracker,
    (netns, local, peer): Destination,
    population: &Population,
    live: Option<u64>,
) -> TimeWaitDestination {
    let Population { count, arrived, leaving, .. } = *population;
    let facts = tracker.namespaces.get(netns);
    let range = facts.and_then(|facts| facts.port_range);
    let ports = range.map(|(first, last)| u64::from(last.saturating_sub(first)) + 1);
    let closer = |closer: Closer| TimeWaitCloser {
        process: closer.process.map(|id| identity(tracker, id, closer.comm)),
        count: closer.count,
    };
    TimeWaitDestination {
        netns,
        local,
        peer,
        count,
        arrived,
        leaving,
        live,
        ports,
        share: ports.map(|ports| count as f64 / ports as f64),
        reuse: facts.and_then(|facts| facts.time_wait_reuse).map(|reuse| match reuse {
            0 => false,
            // `tcp_twsk_unique`, `net/ipv4/tcp_ipv4.c`.
            2 => local.is_loopback() || peer.address.is_loopback(),
            _ => true,
        }),
        closers: population.closers().into_iter().take(CLOSERS).map(closer).collect(),
    }
}

/// Live connections that were opened from here, by destination. With more destinations than room, of those seen first: one
/// that takes many ports is among them.
fn opened(tracker: &Tracker) -> FxHashMap<Destination, u64> {
    let mut opened: FxHashMap<Destination, u64> = FxHashMap::default();
    for connection in accepted(tracker).filter(|connection| connection.listener.is_none()) {
        if connection.state == TcpState::Listen || !connection.local.is_known() {
            continue;
        }
        let key = (connection.netns().unwrap_or(0), connection.local.address, connection.peer);
        if let Some(count) = opened.get_mut(&key) {
            *count += 1;
        } else if opened.len() < DESTINATIONS {
            opened.insert(key, 1);
        }
    }
    opened
}

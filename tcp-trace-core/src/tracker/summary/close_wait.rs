//! Lingering CLOSE_WAIT sockets: whose they are, since when, from whom, and whose fault.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use rustc_hash::FxHashMap;

use super::identity;
use crate::{
    process::{OwnerSource, ProcessId},
    report::{
        CloseWait, CloseWaitKinds, CloseWaitProcess, OpenedAt, OwnerState, PeerCount, Socket, SocketHolder,
        StackCount,
    },
    state::TcpState,
    survey::{Age, CloseWaitKind},
    tracker::{
        Tracker,
        connection::{Connection, Key},
        survey::Sample,
    },
};

/// Groups the lingering sockets by owner.
pub(super) fn close_wait(tracker: &Tracker) -> CloseWait {
    let after_ns = tracker.settings.close_wait_after_ns;
    let mut live = 0;
    let mut by_owner: FxHashMap<Option<ProcessId>, Vec<(Key, &Connection)>> = FxHashMap::default();
    for connection in tracker.table.values() {
        if connection.accepted && connection.state == TcpState::CloseWait {
            live += 1;
            if lingers(tracker, connection) {
                let owner = connection.owner().map(|owner| owner.process);
                by_owner.entry(owner).or_default().push((connection.key(), connection));
            }
        }
    }
    let lingering = by_owner.values().map(Vec::len).sum::<usize>() as u64;
    let mut processes: Vec<_> = by_owner.into_values().map(|sockets| leak(tracker, sockets)).collect();
    processes.sort_by_key(|leak| {
        let pid = leak.process.as_ref().map(|process| process.pid);
        (Reverse(leak.count), Reverse(leak.oldest_ns), pid)
    });
    CloseWait { live, lingering, after_ns, processes }
}

/// Whether a socket has been in CLOSE_WAIT for longer than allowed, as far as anybody knows.
pub(super) fn lingers(tracker: &Tracker, connection: &Connection) -> bool {
    let age = connection.age(tracker.now);
    connection.state == TcpState::CloseWait
        && age.is_none_or(|age| age.ns > tracker.settings.close_wait_after_ns || !age.exact)
}

/// The lingering sockets of one owner, oldest first.
fn leak(tracker: &Tracker, mut sockets: Vec<(Key, &Connection)>) -> CloseWaitProcess {
    let age = |connection: &Connection| connection.age(tracker.now);
    sockets.sort_by_key(|(key, connection)| (Reverse(age(connection)), *key));
    let owner = sockets.iter().find_map(|(_, connection)| connection.owner());
    let max = tracker.settings.max_sockets;
    let peers = sockets.iter().map(|(_, c)| (c.peer.address, None));
    let listeners = sockets.iter().filter_map(|(_, c)| c.listener).map(|l| (l.address, Some(l.port)));
    let stacks = stacks(tracker, &sockets);
    let oldest = sockets.first().and_then(|(_, connection)| age(connection));
    CloseWaitProcess {
        process: owner.map(|owner| identity(tracker, owner.process, owner.comm)),
        count: sockets.len() as u64,
        oldest_ns: oldest.map(|age| age.ns),
        oldest_exact: oldest.map(|age| age.exact),
        kinds: kinds(tracker, &sockets),
        peers: most_frequent(peers, max),
        listeners: most_frequent(listeners, max),
        sockets: sockets
            .iter()
            .take(max)
            .map(|(_, c)| Socket {
                stack: place(stacks.as_deref(), tracker.stacks.of(c.cookie).as_ref()),
                ..socket(tracker, c, age(c))
            })
            .collect(),
        stacks,
    }
}

/// Where they were opened, most frequent first; those of which that is not known come last.
fn stacks(tracker: &Tracker, sockets: &[(Key, &Connection)]) -> Option<Vec<StackCount>> {
    tracker.session.takes_stacks().then(|| {
        let mut counts: FxHashMap<Option<OpenedAt>, (usize, u64)> = FxHashMap::default();
        for (index, (_, connection)) in sockets.iter().enumerate() {
            counts.entry(tracker.stacks.of(connection.cookie)).or_insert((index, 0)).1 += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(opened_at, (first, count))| (opened_at.is_none(), Reverse(*count), *first));
        counts.into_iter().map(|(opened_at, (_, count))| StackCount { count, opened_at }).collect()
    })
}

/// Which of the stacks it is.
fn place(stacks: Option<&[StackCount]>, opened_at: Option<&OpenedAt>) -> Option<u64> {
    opened_at?;
    let place = stacks?.iter().position(|stack| stack.opened_at.as_ref() == opened_at);
    place.map(|place| place as u64)
}

fn kinds(tracker: &Tracker, sockets: &[(Key, &Connection)]) -> Option<CloseWaitKinds> {
    let mut kinds = CloseWaitKinds::default();
    let mut sampled = false;
    for (_, connection) in sockets {
        let sample = tracker.samples.get(connection.cookie);
        let Some(kind) = sample.and_then(|sample| sample.kind) else { continue };
        sampled = true;
        *match kind {
            CloseWaitKind::ForgotClose => &mut kinds.forgot_close,
            CloseWaitKind::NeverLooked => &mut kinds.never_looked,
            CloseWaitKind::UnreadData => &mut kinds.unread_data,
            CloseWaitKind::NeverAccepted => &mut kinds.never_accepted,
        } += 1;
    }
    sampled.then_some(kinds)
}

pub(super) fn socket(tracker: &Tracker, connection: &Connection, age: Option<Age>) -> Socket {
    let sample = tracker.samples.get(connection.cookie);
    let holders = sample.and_then(|sample| tracker.samples.holders(sample));
    let owner = connection.owner().map(|owner| owner.process.pid);
    let held = |holder: &&crate::survey::Holder| Some(holder.pid) == owner;
    Socket {
        cookie: connection.cookie.map(std::num::NonZeroU64::get),
        local: connection.local,
        peer: connection.peer,
        state: connection.state,
        age_ns: age.map(|age| age.ns),
        age_exact: age.map(|age| age.exact),
        fds: holders.map(|holders| holders.iter().filter(held).map(|holder| holder.fd).collect()),
        holders: holders.map(|holders| {
            holders.iter().map(|holder| SocketHolder { pid: holder.pid, fd: holder.fd }).collect()
        }),
        // The FIN counts as one.
        unread_bytes: sample.map(|sample| u64::from(sample.receive_queue.saturating_sub(1))),
        kind: sample.and_then(|sample| sample.kind),
        owner_state: sample.and_then(|sample| owner_state(tracker, sample)),
        owner_source: connection.owner().map_or(OwnerSource::Unknown, |owner| owner.source),
        stack: None,
    }
}

fn owner_state(tracker: &Tracker, sample: &Sample) -> Option<OwnerState> {
    if sample.inode.is_none() {
        return Some(OwnerState::NeverAccepted);
    }
    let holders = tracker.samples.holders(sample)?;
    let mut pids = holders.iter().map(|holder| holder.pid);
    Some(match pids.next() {
        None if !tracker.samples.complete => return None,
        None => OwnerState::InFlight,
        Some(first) if pids.all(|pid| pid == first) => OwnerState::Held,
        Some(_) => OwnerState::Shared,
    })
}

pub(super) fn most_frequent(ends: impl Iterator<Item = (IpAddr, Option<u16>)>, max: usize) -> Vec<PeerCount> {
    let mut counts: BTreeMap<(IpAddr, Option<u16>), u64> = BTreeMap::new();
    for end in ends {
        *counts.entry(end).or_default() += 1;
    }
    let mut counts: Vec<_> =
        counts.into_iter().map(|((address, port), count)| PeerCount { address, port, count }).collect();
    counts.sort_by_key(|peer| Reverse(peer.count));
    counts.truncate(max);
    counts
}

//! How connections ended, where listeners came and went, and what only a process holds that never used it.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use super::{close_wait::most_frequent, identity};
use crate::{
    process::{Owner, ProcessId},
    report::{EndingCount, Inherited, InheritedSocket, ListenerChange, PeerCount},
    session::Attach,
    tracker::{
        Tracker,
        connection::{Connection, Key},
        endings::Ends,
    },
};

/// Ends listed per row.
const ENDS: usize = 10;

pub(super) fn endings(tracker: &Tracker) -> Option<Vec<EndingCount>> {
    let known = tracker.session.attach == Attach::TpBtf && !tracker.modes.only_counts();
    let mut rows: Vec<_> = tracker.tally.endings.rows.iter().collect();
    rows.sort_by_key(|(kind, row)| (Reverse(row.count), **kind));
    let row = |(kind, row): (&crate::tracker::endings::Kind, &crate::tracker::endings::Row)| EndingCount {
        process: kind.process.map(|id| identity(tracker, id, row.comm)),
        role: kind.role,
        ending: kind.ending,
        state: kind.state,
        count: row.count,
        without_data: row.without_data,
        seconds: row.seconds,
        listeners: listed(&row.listeners),
        peers: listed(&row.peers),
    };
    known.then(|| rows.into_iter().map(row).collect())
}

fn listed(ends: &Ends) -> Vec<PeerCount> {
    let mut counts: Vec<_> =
        ends.iter().map(|((address, port), count)| PeerCount { address, port, count }).collect();
    counts.sort_by_key(|peer| (Reverse(peer.count), peer.address, peer.port));
    counts.truncate(ENDS);
    counts
}

pub(super) fn listeners(tracker: &Tracker) -> Vec<ListenerChange> {
    let mut rows: Vec<_> = tracker.tally.restarts.rows.iter().collect();
    // One that was only opened is none of these.
    rows.retain(|(_, row)| row.closed > 0 || row.restarts > 0 || row.queued_resets > 0);
    rows.sort_by_key(|(key, row)| (Reverse(row.queued_resets), Reverse(row.closed), **key));
    let row = |(key, row): (&crate::tracker::tally::ListenerKey, &crate::tracker::restarts::Row)| {
        let (netns, local) = *key;
        let mut there = tracker.listeners.at_port(netns, local.port);
        ListenerChange {
            local,
            netns,
            process: row.owner.map(|owner| identity(tracker, owner.process, owner.comm)),
            opened: row.opened,
            closed: row.closed,
            restarts: row.restarts,
            longest_gap_ns: row.longest_gap_ns,
            listening: there.any(|parent| parent.local == local),
            last_closed: row.last_closed.map(|at| tracker.session.anchor.wall(at)),
            queued_resets: row.queued_resets,
            peers: listed(&row.peers),
        }
    };
    rows.into_iter().map(row).collect()
}

pub(super) fn inherited(tracker: &Tracker) -> Option<Vec<Inherited>> {
    type Held<'a> = (&'a Connection, u64, u64);
    let mut groups: BTreeMap<(ProcessId, ProcessId), (Owner, Owner, Vec<Held<'_>>)> = BTreeMap::new();
    for (cookie, heirloom) in tracker.inherited.unused()? {
        let Some(connection) = tracker.table.get(Key::Cookie(cookie)).filter(|known| known.accepted) else {
            continue;
        };
        let Some(holder) = connection.owner() else { continue };
        let user = heirloom.user;
        let group = groups.entry((holder.process, user.process)).or_insert((holder, user, Vec::new()));
        group.2.push((connection, cookie.get(), tracker.now.since(heirloom.since)));
    }
    let mut rows: Vec<_> = groups
        .into_values()
        .map(|(holder, user, mut held)| {
            held.sort_by_key(|(_, cookie, idle_ns)| (Reverse(*idle_ns), *cookie));
            let max = tracker.settings.max_sockets;
            let listeners = held.iter().filter_map(|(c, ..)| c.listener).map(|l| (l.address, Some(l.port)));
            let peers = held.iter().map(|(c, ..)| -> (IpAddr, Option<u16>) { (c.peer.address, None) });
            Inherited {
                process: identity(tracker, holder.process, holder.comm),
                user: identity(tracker, user.process, user.comm),
                count: held.len() as u64,
                oldest_ns: held.first().map_or(0, |(_, _, idle_ns)| *idle_ns),
                listeners: most_frequent(listeners, max),
                peers: most_frequent(peers, max),
                sockets: held.iter().take(max).map(|held| socket(*held)).collect(),
            }
        })
        .collect();
    rows.sort_by_key(|row| (Reverse(row.count), row.process.pid, row.user.pid));
    rows.truncate(tracker.settings.max_rows);
    Some(rows)
}

fn socket((connection, cookie, idle_ns): (&Connection, u64, u64)) -> InheritedSocket {
    let Connection { local, peer, state, .. } = *connection;
    InheritedSocket { cookie, local, peer, state, idle_ns }
}

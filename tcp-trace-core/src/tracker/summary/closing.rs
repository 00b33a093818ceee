//! Sockets that wait for their peer to let them close: whose they are or were, since when, and what the peer lacks.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::{close_wait::most_frequent, identity};
use crate::{
    process::{Owner, ProcessId},
    report::{Closing, ClosingGroup, ClosingSocket},
    state::TcpState,
    survey::Age,
    tracker::{Tracker, connection::Connection, survey::Sample, time_wait::Orphan},
};

/// A socket, and whose it is or was.
struct Waiting {
    owner: Option<Owner>,
    socket: ClosingSocket,
    zero_window: Option<bool>,
}

/// Groups the waiting sockets by owner and state.
pub(super) fn closing(tracker: &Tracker) -> Closing {
    let mut groups: FxHashMap<(Option<ProcessId>, TcpState), Vec<Waiting>> = FxHashMap::default();
    let mut add = |waiting: Waiting| {
        let key = (waiting.owner.map(|owner| owner.process), waiting.socket_state());
        groups.entry(key).or_default().push(waiting);
    };
    let mut live = 0;
    for connection in tracker.table.values().filter(|connection| connection.accepted && waits(connection)) {
        live += 1;
        add(full(tracker, connection));
    }
    let found = tracker.time_waits.found.as_ref();
    // Nobody can say whether a filter wants those whose end was not seen.
    let wanted = |orphan: &&Orphan| orphan.seen.is_some() || tracker.filters.is_empty();
    for orphan in found.into_iter().flat_map(|found| &found.orphan_rows).filter(wanted) {
        add(put_away(tracker, orphan));
    }
    let mut groups: Vec<_> =
        groups.into_iter().map(|((_, state), sockets)| group(tracker, state, sockets)).collect();
    groups.sort_by_key(|group| {
        (Reverse(group.count), group.state, group.process.as_ref().map(|process| process.pid))
    });
    groups.truncate(tracker.settings.max_rows);
    Closing { live, groups }
}

fn waits(connection: &Connection) -> bool {
    use TcpState::{Closing, FinWait1, FinWait2, LastAck};
    matches!(connection.state, FinWait1 | FinWait2 | Closing | LastAck)
}

/// A socket that events tell of.
fn full(tracker: &Tracker, connection: &Connection) -> Waiting {
    let sample = tracker.samples.get(connection.cookie);
    let age = connection.age(tracker.now);
    let socket = ClosingSocket {
        cookie: connection.cookie.map(std::num::NonZeroU64::get),
        local: connection.local,
        peer: connection.peer,
        state: connection.state,
        age_ns: age.map(|age| age.ns),
        age_exact: age.map(|age| age.exact),
        held: sample.map(|sample| sample.inode.is_some()),
        unacknowledged: sample.map(|sample| u64::from(sample.send_queue)),
    };
    Waiting {
        owner: connection.owner(),
        socket,
        zero_window: sample.map(|Sample { zero_window, .. }| *zero_window),
    }
}

/// One that the kernel has put away in FIN_WAIT2.
fn put_away(tracker: &Tracker, orphan: &Orphan) -> Waiting {
    let Orphan { cookie, local, peer, seen } = *orphan;
    // It entered the state microseconds before.
    let age = seen.map(|(_, at)| Age { ns: tracker.now.since(at), exact: true });
    let socket = ClosingSocket {
        cookie: Some(cookie.get()),
        local,
        peer,
        state: TcpState::FinWait2,
        age_ns: age.map(|age| age.ns),
        age_exact: age.map(|age| age.exact),
        held: Some(false),
        unacknowledged: Some(0),
    };
    Waiting { owner: seen.and_then(|(owner, _)| owner), socket, zero_window: Some(false) }
}

impl Waiting {
    fn socket_state(&self) -> TcpState {
        self.socket.state
    }
}

/// The sockets of one owner in one state, oldest first.
fn group(tracker: &Tracker, state: TcpState, mut sockets: Vec<Waiting>) -> ClosingGroup {
    sockets
        .sort_by_key(|waiting| (Reverse(waiting.socket.age_ns), waiting.socket.cookie, waiting.socket.local));
    let max = tracker.settings.max_sockets;
    // The order of the table is nobody's business: of several names the greatest.
    let comm = sockets.iter().filter_map(|waiting| waiting.owner?.comm).max();
    let owner = sockets.iter().find_map(|waiting| waiting.owner);
    let looked = sockets.iter().any(|waiting| waiting.socket.held.is_some());
    let orphans = sockets.iter().filter(|waiting| waiting.socket.held == Some(false)).count() as u64;
    let windows = sockets.iter().filter(|waiting| waiting.zero_window == Some(true)).count() as u64;
    let peers = sockets.iter().map(|waiting| (waiting.socket.peer.address, None));
    ClosingGroup {
        process: owner.map(|owner| identity(tracker, owner.process, comm)),
        state,
        count: sockets.len() as u64,
        orphans: looked.then_some(orphans),
        zero_window: looked.then_some(windows),
        peers: most_frequent(peers, max),
        sockets: sockets.iter().take(max).map(|waiting| waiting.socket).collect(),
    }
}

//! Every socket of one process, for whoever looks at it.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{accepted, close_wait::socket};
use crate::{report::ProcessSockets, time::WallTime, tracker::Tracker};

/// Those that have been in their state for longest first, at most so many; and how many there are in each state.
pub(super) fn of(tracker: &Tracker, pid: u32, start: Option<WallTime>, most: usize) -> ProcessSockets {
    let anchor = tracker.session.anchor;
    let mut own: Vec<_> = accepted(tracker)
        .filter(|connection| {
            connection.owner().is_some_and(|owner| {
                owner.process.pid == pid
                    && owner.process.start_ns.map(|ns| anchor.wall_of_boottime(ns)) == start
            })
        })
        .map(|connection| (connection.age(tracker.now), connection))
        .collect();
    let mut states = BTreeMap::new();
    for (_, connection) in &own {
        *states.entry(connection.state).or_insert(0) += 1;
    }
    own.sort_by_key(|(age, connection)| (Reverse(*age), connection.key()));
    let sockets = own.iter().take(most).map(|(age, connection)| socket(tracker, connection, *age)).collect();
    ProcessSockets { states, sockets }
}

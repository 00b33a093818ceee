//! Attempts to connect: per destination, and of those that failed per process.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::identity;
use crate::{
    endpoint::Endpoint,
    report::{Connect, ConnectFailures},
    tracker::{
        Tracker,
        tally::{ConnectTally, Failures},
    },
};

pub(super) fn connects(tracker: &Tracker) -> Vec<Connect> {
    let mut failing: FxHashMap<Option<Endpoint>, Vec<&Failures>> = FxHashMap::default();
    for ((_, peer), row) in &tracker.tally.failing.rows {
        failing.entry(*peer).or_default().push(row);
    }
    let mut rows: Vec<_> = tracker.tally.connects.iter().collect();
    rows.sort_by_key(|(peer, row)| (peer.is_none(), Reverse(row.total()), **peer));
    rows.into_iter()
        .map(|(peer, row)| {
            let ConnectTally { completed, refused, timed_out, unreachable, reset, aborted, failed } = row;
            let mut failing = failing.remove(peer).unwrap_or_default();
            failing.sort_by_key(|row| (Reverse(row.total()), row.owner.map(|owner| owner.process)));
            Connect {
                peer: *peer,
                completed: completed.into(),
                refused: *refused,
                timed_out: *timed_out,
                unreachable: *unreachable,
                reset: *reset,
                aborted: *aborted,
                failed: *failed,
                failing: failing.into_iter().map(|row| failures(tracker, row)).collect(),
            }
        })
        .collect()
}

fn failures(tracker: &Tracker, row: &Failures) -> ConnectFailures {
    let Failures {
        owner,
        answered,
        refused,
        timed_out,
        unreachable,
        reset,
        given_up,
        no_port,
        failed,
        first,
        last,
    } = *row;
    let anchor = &tracker.session.anchor;
    ConnectFailures {
        process: owner.map(|owner| identity(tracker, owner.process, owner.comm)),
        answered,
        refused,
        timed_out,
        unreachable,
        reset,
        given_up,
        no_port,
        failed,
        first: anchor.wall(first),
        last: anchor.wall(last),
    }
}

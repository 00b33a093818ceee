//! TIME_WAIT: who closed first, how many sockets wait, and how many ports that leaves.

use std::cmp::Reverse;

use super::identity;
use crate::{
    report::{TimeWait, TimeWaitDestination, TimeWaitProcess},
    session::Attach,
    tracker::{Tracker, tally::ProcessTally, time_wait::Found},
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
    let ids: std::collections::BTreeSet<_> =
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

fn destinations(tracker: &Tracker, found: &Found) -> Vec<TimeWaitDestination> {
    let row = |(&(netns, local, peer), &count): (&(u32, std::net::IpAddr, _), &u64)| {
        let range = tracker.namespaces.get(netns).and_then(|facts| facts.port_range);
        let ports = range.map(|(first, last)| u64::from(last.saturating_sub(first)) + 1);
        let share = ports.map(|ports| count as f64 / ports as f64);
        TimeWaitDestination { netns, local, peer, count, ports, share }
    };
    let mut rows: Vec<_> = found.destinations.iter().map(row).collect();
    rows.sort_by_key(|row| Reverse(row.count));
    rows.truncate(tracker.settings.max_sockets);
    rows
}

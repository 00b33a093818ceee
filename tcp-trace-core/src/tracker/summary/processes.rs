//! Processes and containers by their part in the window.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use rustc_hash::FxHashMap;

use super::{accepted, cell, close_wait::lingers, identity};
use crate::{
    process::{Comm, ProcessId},
    report::{ContainerSummary, ProcessSummary},
    survey::ContainerFacts,
    tracker::{Tracker, tally::ProcessTally},
};

/// The live connections by owner and cgroup: what a look at each of them tells. There may be millions of connections, and
/// there are few groups.
#[derive(Debug, Default)]
pub(super) struct Census(FxHashMap<Group, Count>);

/// An owner, and the cgroup of the socket's creator.
type Group = (Option<ProcessId>, Option<u64>);

#[derive(Debug, Default)]
struct Count {
    live: u64,
    /// Of these, lingering in CLOSE_WAIT.
    close_wait: u64,
    /// The order of the table is nobody's business: of several names the greatest.
    comm: Option<Comm>,
}

/// Counts the connections that the filter has accepted.
pub(super) fn census(tracker: &Tracker) -> Census {
    let mut groups: FxHashMap<Group, Count> = FxHashMap::default();
    for connection in accepted(tracker) {
        let owner = connection.owner();
        let group = (owner.map(|owner| owner.process), connection.cgroup_id());
        let count = groups.entry(group).or_default();
        count.live += 1;
        count.close_wait += u64::from(lingers(tracker, connection));
        count.comm = count.comm.max(owner.and_then(|owner| owner.comm));
    }
    Census(groups)
}

pub(super) fn processes(tracker: &Tracker, Census(groups): &Census) -> Vec<ProcessSummary> {
    let mut live: FxHashMap<Option<ProcessId>, (u64, Option<Comm>)> = FxHashMap::default();
    for ((process, _), group) in groups {
        let (count, comm) = live.entry(*process).or_default();
        *count += group.live;
        *comm = (*comm).max(group.comm);
    }
    let idle = ProcessTally::default();
    let ids: BTreeSet<_> = tracker.tally.processes.keys().chain(live.keys()).copied().collect();
    let mut processes: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let tally = tracker.tally.processes.get(&id).unwrap_or(&idle);
            let (live, comm) = live.get(&id).copied().unwrap_or_default();
            ProcessSummary {
                process: id
                    .map(|id| identity(tracker, id, tally.comm.or(comm).or_else(|| name(tracker, id)))),
                inferred: tally.inferred,
                total: tally.transitions.total(),
                transitions: tally.transitions.iter().map(|(slot, count)| cell(slot, count)).collect(),
                live,
            }
        })
        .collect();
    // One that has only told its name so far.
    processes.retain(|row| row.total > 0 || row.live > 0);
    processes.sort_by_key(|row| (Reverse(row.total), Reverse(row.live)));
    processes.truncate(tracker.settings.max_rows);
    processes
}

/// Its name as somebody found it, where no event has told.
fn name(tracker: &Tracker, id: ProcessId) -> Option<Comm> {
    Comm::from_text(&tracker.people.get(id)?.facts.as_deref()?.comm)
}

/// The same by container; `None` as long as nobody has looked at any process.
pub(super) fn containers(tracker: &Tracker, Census(groups): &Census) -> Option<Vec<ContainerSummary>> {
    #[derive(Default)]
    struct Part {
        processes: BTreeSet<ProcessId>,
        total: u64,
        live: u64,
        close_wait: u64,
        time_wait: u64,
    }
    if tracker.people.is_empty() {
        return None;
    }
    let mut parts: BTreeMap<Option<ContainerFacts>, Part> = BTreeMap::new();
    let container =
        |id: ProcessId| tracker.people.get(id).and_then(|person| person.container.as_deref().cloned());
    for (id, tally) in &tracker.tally.processes {
        let Some(id) = *id else { continue };
        let part = parts.entry(container(id)).or_default();
        part.processes.insert(id);
        part.total += tally.transitions.total();
        part.time_wait += tally.time_wait;
    }
    for (cgroup, count) in &tracker.tally.cgroups {
        let inside = tracker.people.container(None, Some(*cgroup));
        parts.entry(inside.as_deref().cloned()).or_default().total += count;
    }
    for ((process, cgroup), count) in groups {
        let inside = tracker.people.container_of(*process, *cgroup);
        let part = parts.entry(inside.as_deref().cloned()).or_default();
        part.processes.extend(process);
        part.live += count.live;
        part.close_wait += count.close_wait;
    }
    let row = |(container, part): (Option<ContainerFacts>, Part)| {
        let Part { processes, total, live, close_wait, time_wait } = part;
        ContainerSummary { container, processes: processes.len() as u64, total, live, close_wait, time_wait }
    };
    let mut rows: Vec<_> = parts.into_iter().map(row).collect();
    rows.sort_by_key(|row| (Reverse(row.total), Reverse(row.live)));
    rows.truncate(tracker.settings.max_rows);
    Some(rows)
}

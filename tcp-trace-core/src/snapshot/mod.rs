//! The sockets of one moment: rows, holders and facts in, one document out.

mod document;
mod owners;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

pub use document::{
    ContainerSource, Group, Kinds, Listener, OwnerState, Process, Queue, SCHEMA, Snapshot, Socket,
    SocketHolder, StateCount,
};
use owners::{Contained, Owned, Owners};

use crate::{
    endpoint::{Endpoint, Family},
    filter::FilterSpec,
    session::{Degradation, Host},
    state::TcpState,
    survey::{Age, CloseWaitKind, ContainerFacts, Facts, Holder, ProcessFacts, SocketRow, age},
    time::{ClockAnchor, Timestamp},
};

/// What was found on a host.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The host.
    pub host: Host,
    /// Its clocks.
    pub anchor: ClockAnchor,
    /// When the sockets were listed.
    pub time: Timestamp,
    /// The sockets: listeners in any case, others in the states asked for.
    pub sockets: Vec<SocketRow>,
    /// Descriptors of them.
    pub holders: Vec<Holder>,
    /// Whether the descriptors of every process were looked at.
    pub holders_complete: bool,
    /// Whether half-open requests are among the sockets.
    pub has_requests: bool,
    /// The holders, and what else is known.
    pub facts: Facts,
    /// What could not be looked at.
    pub degradations: Vec<Degradation>,
}

/// What of it is wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Which sockets.
    pub filter: FilterSpec,
    /// In which states; empty for any.
    pub states: Vec<TcpState>,
    /// Of which container, by its whole id.
    pub container: Option<String>,
    /// Whether each socket is wanted.
    pub sockets: bool,
}

impl Selection {
    fn is_of_container(&self, container: Option<&ContainerFacts>) -> bool {
        self.container.as_ref().is_none_or(|id| container.is_some_and(|container| container.id == *id))
    }

    fn wants(&self, row: &SocketRow, owned: &Owned<'_>) -> bool {
        let FilterSpec { pid, netns, cgroup_ids, ip_version, local_ports, peer_ports } = &self.filter;
        let cgroup = if row.state == TcpState::NewSynReceived {
            owned.listener.and_then(|listener| listener.cgroup_id)
        } else {
            row.cgroup_id
        };
        pid.is_none_or(|pid| owned.holders.iter().any(|holder| holder.pid == pid))
            && netns.is_none_or(|netns| row.netns == netns)
            && (cgroup_ids.is_empty() || cgroup.is_some_and(|id| cgroup_ids.contains(&id)))
            && ip_version.is_none_or(|version| speaks(row, version))
            && (local_ports.is_empty() || local_ports.contains(&row.local.port))
            && (peer_ports.is_empty() || peer_ports.contains(&row.peer.port))
    }

    fn wants_state(&self, state: TcpState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }
}

/// A dual-stack listener speaks both.
fn speaks(row: &SocketRow, version: u8) -> bool {
    let dual =
        row.state == TcpState::Listen && row.local.address.is_unspecified() && row.local.address.is_ipv6();
    let is_v4 = family(row) == Family::Ipv4;
    dual || (version == 4) == is_v4
}

fn family(row: &SocketRow) -> Family {
    if row.local.address.is_ipv4() || row.peer.address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// The document.
#[must_use]
pub fn snapshot(gathered: &Gathered, selection: &Selection) -> Snapshot {
    let Gathered {
        host,
        anchor,
        time,
        sockets: rows,
        holders,
        holders_complete,
        has_requests,
        facts,
        degradations,
    } = gathered;
    let owners = Owners::new(rows, holders, *holders_complete, facts);
    let mut maker = Maker { owners: &owners, anchor, groups: FxHashMap::default(), ends: BTreeMap::new() };
    let mut states: BTreeMap<TcpState, u64> = BTreeMap::new();
    let mut sockets = Vec::new();
    for row in rows {
        let owned = owners.of(row);
        let pids = owned.pids();
        let contained = owners.container(row, &pids);
        if !selection.wants(row, &owned) || !selection.is_of_container(contained.0) {
            continue;
        }
        maker.end(row, &owned, &pids, contained);
        if !selection.wants_state(row.state) {
            continue;
        }
        *states.entry(row.state).or_default() += 1;
        if selection.sockets {
            sockets.push(maker.socket(row, &owned, contained));
        }
        maker.group(row, &owned, pids, contained);
    }
    sockets
        .sort_by_key(|socket| (socket.netns, socket.state, std::cmp::Reverse(socket.age_ns), socket.cookie));
    let (groups, listeners) = maker.finish(*has_requests);
    let count = |(state, count)| StateCount { state, count };
    Snapshot {
        schema: SCHEMA,
        host: host.clone(),
        time: anchor.wall(*time),
        degradations: degradations.clone(),
        states: states.into_iter().map(count).collect(),
        groups,
        listeners,
        namespaces: facts.namespaces.clone(),
        sockets: selection.sockets.then_some(sockets),
    }
}

/// What makes two sockets of one group.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    pids: Vec<u32>,
    owner_state: OwnerState,
    state: TcpState,
    netns: u32,
    contained: Contained<'a>,
}

/// A group being counted.
struct Tally {
    count: u64,
    oldest: Option<Age>,
    all_exact: bool,
    queues: Option<(u64, u64)>,
    kinds: Kinds,
}

/// A listening address being counted.
#[derive(Default)]
struct End<'a> {
    sockets: u64,
    queue: (u64, u64),
    requests: u64,
    pids: Vec<u32>,
    contained: Contained<'a>,
}

struct Maker<'o, 'a> {
    owners: &'o Owners<'a>,
    anchor: &'a ClockAnchor,
    groups: FxHashMap<Key<'a>, Tally>,
    ends: BTreeMap<(u32, Endpoint), End<'a>>,
}

impl<'a> Maker<'_, 'a> {
    /// A listener, or a request of one.
    fn end(&mut self, row: &SocketRow, owned: &Owned<'_>, pids: &[u32], contained: Contained<'a>) {
        if row.state == TcpState::Listen {
            let end = self.ends.entry((row.netns, row.local)).or_default();
            end.sockets += 1;
            end.queue.0 += u64::from(row.receive_queue);
            end.queue.1 += u64::from(row.send_queue);
            end.pids.extend(pids);
            end.contained = contained;
        } else if let (TcpState::NewSynReceived, Some(listener)) = (row.state, owned.listener) {
            self.ends.entry((listener.netns, listener.local)).or_default().requests += 1;
        }
    }

    fn group(&mut self, row: &SocketRow, owned: &Owned<'_>, pids: Vec<u32>, contained: Contained<'a>) {
        let key = Key { pids, owner_state: owned.state, state: row.state, netns: row.netns, contained };
        let new = || Tally { count: 0, oldest: None, all_exact: true, queues: None, kinds: Kinds::default() };
        let tally = self.groups.entry(key).or_insert_with(new);
        tally.count += 1;
        let age = age(row);
        tally.all_exact &= age.is_some_and(|age| age.exact);
        if age.map(|age| age.ns) > tally.oldest.map(|age| age.ns) {
            tally.oldest = age;
        }
        if has_queues(row) && row.state != TcpState::Listen {
            let (receive, send) = tally.queues.get_or_insert((0, 0));
            *receive += u64::from(row.receive_queue);
            *send += u64::from(row.send_queue);
        }
        if let Some(kind) = CloseWaitKind::of(row) {
            tally.kinds.add(kind);
        }
    }

    fn socket(
        &self,
        row: &SocketRow,
        owned: &Owned<'_>,
        (container, container_source): Contained<'_>,
    ) -> Socket {
        let age = age(row);
        let holder = |pid| SocketHolder {
            pid,
            comm: self.owners.process(pid).map(|facts| facts.comm.clone()),
            fds: owned.holders.iter().filter(|holder| holder.pid == pid).map(|holder| holder.fd).collect(),
        };
        Socket {
            cookie: row.cookie.get(),
            state: row.state,
            local: row.local,
            peer: row.peer,
            family: family(row),
            netns: row.netns,
            inode: row.inode,
            owner_state: owned.state,
            holders: owned.pids().into_iter().map(holder).collect(),
            age_ns: age.map(|age| age.ns),
            age_exact: age.map(|age| age.exact),
            receive_queue: has_queues(row).then_some(row.receive_queue),
            send_queue: has_queues(row).then_some(row.send_queue),
            kind: CloseWaitKind::of(row),
            cgroup_id: row.cgroup_id,
            container: container.cloned(),
            container_source,
            srtt_ns: row.info.filter(|info| info.srtt_us > 0).map(|info| u64::from(info.srtt_us) * 1_000),
            retransmits: row.info.map(|info| info.total_retrans),
        }
    }

    fn finish(self, has_requests: bool) -> (Vec<Group>, Vec<Listener>) {
        let processes = |pids: Vec<u32>| -> Vec<Process> {
            pids.into_iter().map(|pid| process(pid, self.owners.process(pid), self.anchor)).collect()
        };
        let group = |(key, tally): (Key<'_>, Tally)| Group {
            processes: processes(key.pids),
            owner_state: key.owner_state,
            state: key.state,
            count: tally.count,
            oldest_ns: tally.oldest.map(|age| age.ns),
            oldest_exact: tally.oldest.map(|_| tally.all_exact),
            receive_queue: tally.queues.map(|(receive, _)| receive),
            send_queue: tally.queues.map(|(_, send)| send),
            kinds: (key.state == TcpState::CloseWait).then_some(tally.kinds),
            netns: key.netns,
            container: key.contained.0.cloned(),
            container_source: key.contained.1,
        };
        let mut groups: Vec<_> = self.groups.into_iter().map(group).collect();
        let pids = |group: &Group| group.processes.iter().map(|process| process.pid).collect::<Vec<_>>();
        groups.sort_by_cached_key(|group| {
            let count = std::cmp::Reverse(group.count);
            (count, group.state, group.owner_state, group.netns, pids(group), group.container.clone())
        });
        // A request whose listener is not wanted leaves an end without a socket.
        let ends = self.ends.into_iter().filter(|(_, end)| end.sockets > 0);
        let listener = |((netns, local), mut end): ((u32, Endpoint), End<'_>)| {
            end.pids.sort_unstable();
            end.pids.dedup();
            Listener {
                local,
                netns,
                sockets: end.sockets,
                processes: processes(end.pids),
                accept_queue: Queue { length: end.queue.0, limit: end.queue.1 },
                syn_queue: has_requests.then_some(end.requests),
                container: end.contained.0.cloned(),
                container_source: end.contained.1,
            }
        };
        let mut listeners: Vec<_> = ends.map(listener).collect();
        // The sort keeps the order of addresses among equals.
        listeners.sort_by_key(|end| std::cmp::Reverse((end.accept_queue.length, end.syn_queue)));
        (groups, listeners)
    }
}

/// Requests and time-wait sockets have none: the kernel shows zeros.
fn has_queues(row: &SocketRow) -> bool {
    !matches!(row.state, TcpState::NewSynReceived | TcpState::TimeWait)
        && row.timer != crate::survey::Timer::TimeWait
}

fn process(pid: u32, facts: Option<&ProcessFacts>, anchor: &ClockAnchor) -> Process {
    Process {
        pid,
        comm: facts.map(|facts| facts.comm.clone()),
        exe: facts.and_then(|facts| facts.exe.clone()),
        cmdline: facts.map(|facts| facts.cmdline.clone()),
        user: facts.map(|facts| facts.user.clone().unwrap_or_else(|| facts.uid.to_string())),
        start_time: facts.and_then(|facts| facts.id.start_ns).map(|start| anchor.wall_of_boottime(start)),
        fds: facts.and_then(|facts| facts.fds),
        nofile: facts.and_then(|facts| facts.nofile),
        cgroup: facts.and_then(|facts| facts.cgroup.clone()),
        container: facts.and_then(|facts| facts.container.clone()),
    }
}

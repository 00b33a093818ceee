//! Who owns what: sockets, their holders, their listeners, their containers, brought together.

use rustc_hash::FxHashMap;

use super::document::{ContainerSource, OwnerState};
use crate::{
    endpoint::Endpoint,
    state::TcpState,
    survey::{ContainerFacts, Facts, Holder, ProcessFacts, Runtime, SocketRow},
};

/// What is known, ready to be asked.
pub(super) struct Owners<'a> {
    /// By inode number, pid, descriptor.
    holders: Vec<Holder>,
    by_inode: FxHashMap<u32, std::ops::Range<usize>>,
    holders_complete: bool,
    processes: FxHashMap<u32, &'a ProcessFacts>,
    cgroups: FxHashMap<u64, Option<&'a ContainerFacts>>,
    namespaces: FxHashMap<u32, Option<&'a ContainerFacts>>,
    listeners: FxHashMap<(u32, u16), Vec<&'a SocketRow>>,
}

/// Whose a socket is.
pub(super) struct Owned<'a> {
    pub(super) state: OwnerState,
    /// Descriptors of it, or of its listener.
    pub(super) holders: Vec<Holder>,
    /// The listener that it came in on, where that has it to answer for.
    pub(super) listener: Option<&'a SocketRow>,
}

/// A container, if any, and where it is known from.
pub(super) type Contained<'a> = (Option<&'a ContainerFacts>, Option<ContainerSource>);

impl Owned<'_> {
    /// The processes, each once.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self.holders.iter().map(|holder| holder.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

impl<'a> Owners<'a> {
    pub(super) fn new(rows: &'a [SocketRow], holders: &[Holder], complete: bool, facts: &'a Facts) -> Self {
        let mut holders = holders.to_vec();
        holders.sort_unstable();
        holders.dedup();
        let mut by_inode: FxHashMap<u32, std::ops::Range<usize>> = FxHashMap::default();
        for (at, holder) in holders.iter().enumerate() {
            by_inode.entry(holder.inode).or_insert(at..at).end = at + 1;
        }
        let mut listeners: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for row in rows.iter().filter(|row| row.state == TcpState::Listen) {
            listeners.entry((row.netns, row.local.port)).or_default().push(row);
        }
        Self {
            holders,
            by_inode,
            holders_complete: complete,
            processes: facts.processes.iter().map(|facts| (facts.id.pid, facts)).collect(),
            cgroups: facts.cgroups.iter().map(|(id, _, container)| (*id, container.as_ref())).collect(),
            namespaces: namespaces(&facts.processes),
            listeners,
        }
    }

    pub(super) fn process(&self, pid: u32) -> Option<&'a ProcessFacts> {
        self.processes.get(&pid).copied()
    }

    /// Whose the socket is.
    pub(super) fn of(&self, row: &SocketRow) -> Owned<'a> {
        let state = self.owner_state(row);
        if !matches!(state, OwnerState::NeverAccepted | OwnerState::HalfOpen) {
            return Owned { state, holders: self.holders_of(row).to_vec(), listener: None };
        }
        let listeners = self.listeners_of(row);
        let holders = listeners.iter().flat_map(|listener| self.holders_of(listener)).copied().collect();
        Owned { state, holders, listener: listeners.first().copied() }
    }

    fn owner_state(&self, row: &SocketRow) -> OwnerState {
        let holders = self.holders_of(row);
        match (row.state, row.inode) {
            (TcpState::NewSynReceived, _) => OwnerState::HalfOpen,
            // Only an accepted socket can have been closed by its program: these were not accepted.
            (TcpState::Established | TcpState::CloseWait | TcpState::SynReceived, None) => {
                OwnerState::NeverAccepted
            }
            (_, None) => OwnerState::Orphaned,
            (_, Some(_)) if holders.is_empty() && self.holders_complete => OwnerState::InFlight,
            (_, Some(_)) if holders.is_empty() => OwnerState::NotPermitted,
            (_, Some(_)) => {
                let one = holders.windows(2).all(|pair| matches!(pair, [a, b] if a.pid == b.pid));
                if one { OwnerState::Held } else { OwnerState::Shared }
            }
        }
    }

    fn holders_of(&self, row: &SocketRow) -> &[Holder] {
        let range = row.inode.and_then(|inode| self.by_inode.get(&inode));
        range.and_then(|range| self.holders.get(range.clone())).unwrap_or_default()
    }

    /// The listeners that a connection to this local end comes in on: of the same port and namespace, those bound to
    /// the address itself, or else to all addresses.
    fn listeners_of(&self, row: &SocketRow) -> Vec<&'a SocketRow> {
        let of_port = self.listeners.get(&(row.netns, row.local.port)).map(Vec::as_slice).unwrap_or_default();
        let own = |listener: &&&SocketRow| listener.local == row.local;
        let any = |listener: &&&SocketRow| serves_all(listener.local, row.local);
        let exact: Vec<_> = of_port.iter().filter(own).copied().collect();
        if exact.is_empty() { of_port.iter().filter(any).copied().collect() } else { exact }
    }

    /// The container of a socket that these processes have to answer for.
    pub(super) fn container(&self, row: &SocketRow, pids: &[u32]) -> Contained<'a> {
        let known: Vec<_> = pids.iter().filter_map(|pid| self.process(*pid)).collect();
        if let Some(container) = known.iter().find_map(|facts| facts.container.as_ref()) {
            return (Some(container), Some(ContainerSource::Process));
        }
        if !known.is_empty() {
            return (None, Some(ContainerSource::Process));
        }
        if let Some(container) = row.cgroup_id.and_then(|id| self.cgroups.get(&id).copied().flatten()) {
            return (Some(container), Some(ContainerSource::Cgroup));
        }
        match self.namespaces.get(&row.netns).copied().flatten() {
            Some(container) => (Some(container), Some(ContainerSource::Netns)),
            None => (None, None),
        }
    }
}

/// Whether a listener on all addresses serves this one; a dual-stack listener serves both families.
fn serves_all(listener: Endpoint, local: Endpoint) -> bool {
    listener.address.is_unspecified() && (listener.address.is_ipv6() || local.address.is_ipv4())
}

/// Namespaces whose known processes are all in one container.
fn namespaces(processes: &[ProcessFacts]) -> FxHashMap<u32, Option<&ContainerFacts>> {
    let mut found: FxHashMap<u32, Option<&ContainerFacts>> = FxHashMap::default();
    for process in processes {
        let Some(netns) = process.netns else { continue };
        // A unit of the host's is no container that a namespace could be of.
        let container = process.container.as_ref().filter(|container| container.runtime != Runtime::Systemd);
        found
            .entry(netns)
            .and_modify(|one| *one = one.filter(|one| Some(*one) == container))
            .or_insert(container);
    }
    found
}

//! Which listener a child came in on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustc_hash::FxHashMap;
use tcp_trace_common::address::{AF_INET, AF_INET6};

use super::connection::{Connection, Key};
use crate::{endpoint::Endpoint, process::Owner};

/// A child's listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) local: Endpoint,
    /// `None` also where several processes listen there (SO_REUSEPORT) and it cannot be told which.
    pub(super) owner: Option<Owner>,
}

/// The listeners whose `listen()` was seen, by namespace and port.
#[derive(Debug, Default)]
pub(super) struct Listeners(FxHashMap<(Option<u32>, u16), Entries>);

type Entries = Vec<(Key, Parent)>;

impl Listeners {
    pub(super) fn insert(&mut self, key: Key, listener: &Connection) {
        let entries = self.0.entry((listener.netns(), listener.local.port)).or_default();
        entries.retain(|(other, _)| *other != key);
        entries.push((key, Parent { local: listener.local, owner: listener.owner() }));
    }

    pub(super) fn remove(&mut self, key: Key, listener: &Connection) {
        let at = (listener.netns(), listener.local.port);
        if let Some(entries) = self.0.get_mut(&at) {
            entries.retain(|(other, _)| *other != key);
            if entries.is_empty() {
                self.0.remove(&at);
            }
        }
    }

    /// The listener of a child whose namespace is not known, if there is only one that it could be.
    pub(super) fn find_anywhere(&self, child: Endpoint, family: u16) -> Option<(Option<u32>, Parent)> {
        let mut found = self
            .0
            .keys()
            .filter(|(_, port)| *port == child.port)
            .filter_map(|(netns, _)| Some((*netns, self.find(*netns, child, family)?)));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The listeners at a port of a namespace.
    pub(super) fn at_port(&self, netns: Option<u32>, port: u16) -> impl Iterator<Item = Parent> + '_ {
        self.0.get(&(netns, port)).into_iter().flatten().map(|(_, parent)| *parent)
    }

    /// The listener at an address of a namespace, whatever its family.
    pub(super) fn find_at(&self, netns: Option<u32>, local: Endpoint) -> Option<Parent> {
        self.find(netns, local, AF_INET).or_else(|| self.find(netns, local, AF_INET6))
    }

    /// The listener of a child with this local end, as the kernel picks it (`compute_score`,
    /// `net/ipv4/inet_hashtables.c`): one bound to the address itself, or else to any of the child's family,
    /// which is its listener's: an IPv4 peer of a dual-stack listener makes an IPv6 socket.
    pub(super) fn find(&self, netns: Option<u32>, child: Endpoint, family: u16) -> Option<Parent> {
        let entries = self.0.get(&(netns, child.port))?;
        let bound_to = |address: IpAddr| {
            let mut matching =
                entries.iter().map(|(_, parent)| *parent).filter(|p| p.local.address == address);
            let first = matching.next()?;
            let same = |parent: Parent| {
                parent.owner.map(|owner| owner.process) == first.owner.map(|owner| owner.process)
            };
            Some(if matching.all(same) { first } else { Parent { owner: None, ..first } })
        };
        let any = if family == AF_INET {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        bound_to(child.address).or_else(|| bound_to(any))
    }
}

//! A socket that a survey has listed: whose it is, and which listener it came in on.

use std::num::{NonZeroU32, NonZeroU64};

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{
    connection::{Connection, Key},
    listeners::Listeners,
};
use crate::{
    process::{Comm, Owner, OwnerSource},
    state::TcpState,
    survey::{Holder, ProcessFacts, SocketRow},
};

/// A socket that a survey has listed and that is in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    /// Of its key.
    id: u64,
    pub(super) inode: Option<NonZeroU32>,
    by_address: bool,
    /// No event has shown it.
    pub(super) found: bool,
    pub(super) listens: bool,
}

impl Listed {
    pub(super) fn new(key: Key, row: &SocketRow, found: bool) -> Self {
        let (id, by_address) = match key {
            Key::Cookie(cookie) => (cookie.get(), false),
            Key::Address(address) => (address, true),
        };
        let (inode, listens) = (row.inode.and_then(NonZeroU32::new), row.state == TcpState::Listen);
        Self { id, inode, by_address, found, listens }
    }

    pub(super) fn key(self) -> Key {
        match NonZeroU64::new(self.id) {
            Some(cookie) if !self.by_address => Key::Cookie(cookie),
            _ => Key::Address(self.id),
        }
    }
}

/// A socket that was found, not born in sight: a listener is entered, a connection may have come in on one.
pub(super) fn find_parent(listeners: &mut Listeners, key: Key, connection: &mut Connection, has_file: bool) {
    if connection.state == TcpState::Listen {
        listeners.insert(key, connection);
        return;
    }
    let parent = listeners.find(connection.netns(), connection.local, connection.family_number());
    let Some(parent) = parent else { return };
    if !has_file && matches!(connection.state, TcpState::Established | TcpState::CloseWait) {
        // No file and not closed: it waits to be accepted.
        connection.came_in_on(parent);
    } else {
        connection.listener = Some(parent.local);
    }
}

/// Puts a socket down to one of its holders.
pub(super) fn hold(listeners: &mut Listeners, key: Key, connection: &mut Connection, owner: Owner) {
    connection.held_by(owner);
    if connection.state == TcpState::Listen {
        listeners.remove(key, connection);
        listeners.insert(key, connection);
    }
}

/// Where the holders of each socket begin in a sorted list: to search it for each of a million sockets takes longer.
pub(super) fn index(holders: &[Holder]) -> FxHashMap<u32, u32> {
    let mut index = FxHashMap::with_capacity_and_hasher(holders.len(), FxBuildHasher);
    for (holder, place) in holders.iter().zip(0..) {
        index.entry(holder.inode).or_insert(place);
    }
    index
}

/// The holders of one socket, of a sorted list.
pub(super) fn holders_of(holders: &[Holder], inode: u32) -> &[Holder] {
    let begin = holders.partition_point(|holder| holder.inode < inode);
    first_of(holders.get(begin..).filter(|rest| rest.first().is_some_and(|holder| holder.inode == inode)))
}

/// The holders of the first socket of a sorted list.
pub(super) fn first_of(holders: Option<&[Holder]>) -> &[Holder] {
    let holders = holders.unwrap_or_default();
    let same = |holder: &&Holder| holders.first().is_some_and(|first| first.inode == holder.inode);
    holders.get(..holders.iter().take_while(same).count()).unwrap_or_default()
}

/// The one among a socket's holders that it is put down to: whoever was its owner before if it still holds it, or
/// whoever has lived longest, who is likelier to have opened it than its children are.
pub(super) fn choose(
    holders: &[Holder],
    processes: &FxHashMap<u32, ProcessFacts>,
    connection: &Connection,
) -> Option<Owner> {
    let held_by = |pid: u32| holders.iter().any(|holder| holder.pid == pid);
    if let Some(owner) = connection.owner()
        && held_by(owner.process.pid)
        && processes
            .get(&owner.process.pid)
            .is_none_or(|process| owner.process.start_ns.is_none() || process.id == owner.process)
    {
        let source = if connection.is_provisional() { OwnerSource::Fd } else { owner.source };
        return Some(Owner { source, ..owner });
    }
    let eldest = holders
        .iter()
        .filter_map(|holder| processes.get(&holder.pid))
        .min_by_key(|process| (process.id.start_ns, process.id.pid))?;
    Some(Owner { process: eldest.id, comm: Comm::from_text(&eldest.comm), source: OwnerSource::Fd })
}

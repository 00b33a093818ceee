//! Time-wait sockets: how many there are, between which ends, and whose they were.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU64};

use rustc_hash::FxHashMap;

use super::{
    connection::{Afterlife, PackedOwner},
    gauge::Gauge,
};
use crate::{
    endpoint::Endpoint,
    process::{Comm, Owner, ProcessId},
    state::TcpState,
    survey::{SocketRow, Timer},
};

/// Owners remembered: as many as the kernel keeps time-wait sockets by default (`tcp_max_tw_buckets`).
pub(super) const OWNERS: usize = 262_144;

/// Local address, peer and namespace: what a connection from an ephemeral port shares with its like.
type Destination = (u32, IpAddr, Endpoint);

/// The time-wait sockets of the last survey.
#[derive(Debug, Default)]
pub(super) struct TimeWaits {
    /// Whose a socket was that went into TIME_WAIT, by cookie, which its time-wait socket inherits.
    owners: FxHashMap<NonZeroU64, PackedOwner>,
    /// What the last survey found; `None` before the first one.
    pub(super) found: Option<Found>,
    pub(super) gauge: Gauge,
}

/// The population at a survey.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In TIME_WAIT.
    pub(super) live: u64,
    /// Orphans in FIN_WAIT2.
    pub(super) orphans: u64,
    /// By owner when it entered; key `None` where that was not seen.
    pub(super) by_owner: FxHashMap<Option<ProcessId>, (u64, Option<Comm>)>,
    /// By destination.
    pub(super) destinations: BTreeMap<Destination, u64>,
}

impl TimeWaits {
    /// A socket has closed and left a time-wait socket.
    pub(super) fn entered(&mut self, cookie: Option<NonZeroU64>, _kind: Afterlife, owner: Option<Owner>) {
        let Some(cookie) = cookie else { return };
        if self.owners.len() < OWNERS {
            self.owners.insert(cookie, PackedOwner::pack(owner));
            self.gauge.holds(self.owners.len());
        } else {
            self.gauge.drops(1);
        }
    }

    /// Sockets whose owners are remembered.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// A survey has listed all of them.
    pub(super) fn listed<'a>(&mut self, rows: impl Iterator<Item = &'a SocketRow>) {
        let mut found = Found::default();
        let mut owners = FxHashMap::default();
        for row in rows.filter(|row| is_time_wait(row)) {
            let owner = self.owners.remove(&row.cookie);
            if let Some(owner) = owner {
                owners.insert(row.cookie, owner);
            }
            if row.state == TcpState::FinWait2 {
                found.orphans += 1;
                continue;
            }
            found.live += 1;
            let owner = owner.and_then(PackedOwner::unpack);
            let (count, comm) = found.by_owner.entry(owner.map(|owner| owner.process)).or_default();
            *count += 1;
            // The order of the list is nobody's business: of several names the greatest.
            *comm = (*comm).max(owner.and_then(|owner| owner.comm));
            *found.destinations.entry((row.netns, row.local.address, row.peer)).or_default() += 1;
        }
        // Those that are not listed any more are gone; those that entered since the list was made come again.
        self.owners = owners;
        self.found = Some(found);
    }
}

/// Whether a row is a time-wait socket rather than a full one (`tw_timer`, `net/ipv4/inet_diag.c`).
pub(super) fn is_time_wait(row: &SocketRow) -> bool {
    row.timer == Timer::TimeWait && matches!(row.state, TcpState::TimeWait | TcpState::FinWait2)
}

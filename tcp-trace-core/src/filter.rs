//! The filter as a run was asked for it; the predicate itself is `tcp_trace_common::filter`.

use serde::{Deserialize, Serialize};
use tcp_trace_common::filter::{Filter, MAX_CGROUPS, MAX_PORTS};

/// What to let through; `None` or empty does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSpec {
    /// Process id of the socket's owner.
    pub pid: Option<u32>,
    /// Network namespace, by inode number.
    pub netns: Option<u32>,
    /// Cgroup ids of the socket, any of them.
    pub cgroup_ids: Vec<u64>,
    /// 4 or 6.
    pub ip_version: Option<u8>,
    /// Local ports.
    pub local_ports: Vec<u16>,
    /// Peer ports.
    pub peer_ports: Vec<u16>,
}

/// A list longer than the kernel program can walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Of ports.
    #[error("{0} ports given, at most {MAX_PORTS} can be filtered by")]
    Ports(usize),
    /// Of cgroups.
    #[error("{0} cgroups given, at most {MAX_CGROUPS} can be filtered by")]
    Cgroups(usize),
}

impl FilterSpec {
    /// Whether anything is restricted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the kernel program alone decides: a namespace and a cgroup are known at every event, while a
    /// port, a family or an owner may only become known later.
    #[must_use]
    pub fn is_decided_in_kernel(&self) -> bool {
        let Self { pid, netns: _, cgroup_ids: _, ip_version, local_ports, peer_ports } = self;
        pid.is_none() && ip_version.is_none() && local_ports.is_empty() && peer_ports.is_empty()
    }

    /// The predicate.
    ///
    /// # Errors
    ///
    /// If a list is too long.
    pub fn compile(&self) -> Result<Filter, TooMany> {
        let (local_count, local_ports) = ports(&self.local_ports)?;
        let (peer_count, peer_ports) = ports(&self.peer_ports)?;
        Ok(Filter {
            cgroup_ids: cgroups(&self.cgroup_ids)?,
            pid: self.pid.unwrap_or(0),
            netns: self.netns.unwrap_or(0),
            families: match self.ip_version {
                Some(4) => tcp_trace_common::filter::family::V4,
                Some(_) => tcp_trace_common::filter::family::V6,
                None => 0,
            },
            local_count,
            peer_count,
            local_ports,
            peer_ports,
        })
    }
}

fn ports(list: &[u16]) -> Result<(u16, [u16; MAX_PORTS]), TooMany> {
    let mut ports = [0; MAX_PORTS];
    let slots = ports.get_mut(..list.len()).ok_or(TooMany::Ports(list.len()))?;
    slots.copy_from_slice(list);
    Ok((u16::try_from(list.len()).unwrap_or(u16::MAX), ports))
}

fn cgroups(list: &[u64]) -> Result<[u64; MAX_CGROUPS], TooMany> {
    let mut ids = [0; MAX_CGROUPS];
    let slots = ids.get_mut(..list.len()).ok_or(TooMany::Cgroups(list.len()))?;
    slots.copy_from_slice(list);
    Ok(ids)
}

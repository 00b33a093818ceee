//! The filter as a run was asked for it; the predicate itself is `tcp_trace_common::filter`.

use serde::{Deserialize, Serialize};
use tcp_trace_common::filter::{Filter, MAX_PORTS};

/// What to let through; `None` or empty does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSpec {
    /// Process id of the socket's owner.
    pub pid: Option<u32>,
    /// Network namespace, by inode number.
    pub netns: Option<u32>,
    /// Cgroup id of the socket.
    pub cgroup_id: Option<u64>,
    /// 4 or 6.
    pub ip_version: Option<u8>,
    /// Local ports.
    pub local_ports: Vec<u16>,
    /// Peer ports.
    pub peer_ports: Vec<u16>,
}

/// A port list longer than the kernel program can walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} ports given, at most {MAX_PORTS} can be filtered by")]
pub struct TooManyPorts(usize);

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
        let Self { pid, netns: _, cgroup_id: _, ip_version, local_ports, peer_ports } = self;
        pid.is_none() && ip_version.is_none() && local_ports.is_empty() && peer_ports.is_empty()
    }

    /// The predicate.
    ///
    /// # Errors
    ///
    /// If a port list is too long.
    pub fn compile(&self) -> Result<Filter, TooManyPorts> {
        let (local_count, local_ports) = ports(&self.local_ports)?;
        let (peer_count, peer_ports) = ports(&self.peer_ports)?;
        Ok(Filter {
            cgroup_id: self.cgroup_id.unwrap_or(0),
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

fn ports(list: &[u16]) -> Result<(u16, [u16; MAX_PORTS]), TooManyPorts> {
    let mut ports = [0; MAX_PORTS];
    let slots = ports.get_mut(..list.len()).ok_or(TooManyPorts(list.len()))?;
    slots.copy_from_slice(list);
    Ok((u16::try_from(list.len()).unwrap_or(u16::MAX), ports))
}

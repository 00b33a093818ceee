//! The one filter predicate: it runs in the kernel for live tracing and in user space for recordings.
//!
//! Its answer has three values. Ports are matched on the connection's *final* tuple, and the first events
//! of a connection do not know it yet (`CLOSE → SYN_SENT` has no local port); a process is matched on the
//! socket's *owner*, which a softirq does not know at all. Such an event is [`Verdict::Defer`]red: the kernel
//! passes it on, and the tracker holds it back until the connection's later events decide.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address, state};

/// Ports that one list may hold. Bounded, because the kernel program walks the list without a loop.
pub const MAX_PORTS: usize = 16;

/// Cgroups that a filter may hold: a container's own, and those in it.
pub const MAX_CGROUPS: usize = 16;

/// Bits of [`Filter::families`].
pub mod family {
    /// IPv4, v4-mapped addresses of dual-stack sockets included.
    pub const V4: u32 = 1 << 0;
    /// IPv6.
    pub const V6: u32 = 1 << 1;
}

/// What to let through. Zero in a field means that it does not restrict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Filter {
    /// Cgroup ids of the socket, any of them; unused places hold 0.
    pub cgroup_ids: [u64; MAX_CGROUPS],
    /// Process id (tgid) of the owner.
    pub pid: u32,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Bits of [`family`].
    pub families: u32,
    /// How many of `local_ports` are set.
    pub local_count: u16,
    /// How many of `peer_ports` are set.
    pub peer_count: u16,
    /// Local ports, host order.
    pub local_ports: [u16; MAX_PORTS],
    /// Peer ports, host order.
    pub peer_ports: [u16; MAX_PORTS],
}

/// What the predicate needs to know of an event. Unknown values are 0.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// State left.
    pub old: u8,
    /// State entered.
    pub new: u8,
    /// Local port in host order.
    pub local_port: u16,
    /// Peer port in host order.
    pub peer_port: u16,
    /// The socket's own family.
    pub family: u16,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Cgroup id.
    pub cgroup_id: u64,
    /// Local address.
    pub local_addr: &'a [u8; 16],
    /// Peer address.
    pub peer_addr: &'a [u8; 16],
    /// The owner's process id, 0 when not known *for certain*.
    pub pid: u32,
}

impl Subject<'_> {
    /// Whether this is a listener's own beginning or end.
    #[inline(always)]
    const fn is_listener(&self) -> bool {
        self.new == state::LISTEN || (self.old == state::LISTEN && self.new == state::CLOSE)
    }
}

/// The predicate's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wanted.
    Accept,
    /// Not wanted, whatever comes later.
    Reject,
    /// Not known yet.
    Defer,
}

impl Verdict {
    /// Both must hold.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Reject, _) | (_, Self::Reject) => Self::Reject,
            (Self::Defer, _) | (_, Self::Defer) => Self::Defer,
            (Self::Accept, Self::Accept) => Self::Accept,
        }
    }
}

impl Filter {
    /// Lets everything through.
    pub const NONE: Self = Self {
        cgroup_ids: [0; MAX_CGROUPS],
        pid: 0,
        netns: 0,
        families: 0,
        local_count: 0,
        peer_count: 0,
        local_ports: [0; MAX_PORTS],
        peer_ports: [0; MAX_PORTS],
    };

    /// Judges one event.
    #[inline(always)]
    #[must_use]
    pub fn judge(&self, subject: &Subject<'_>) -> Verdict {
        self.judge_cgroup(subject)
            .and(exact(u64::from(self.netns), u64::from(subject.netns)))
            .and(exact(u64::from(self.pid), u64::from(subject.pid)))
            .and(self.judge_family(subject))
            .and(port(self.local_count, &self.local_ports, subject.local_port))
            .and(self.judge_peer_port(subject))
    }

    #[inline(always)]
    fn judge_cgroup(&self, subject: &Subject<'_>) -> Verdict {
        let [first, ..] = self.cgroup_ids;
        if first == 0 {
            return Verdict::Accept;
        }
        if subject.cgroup_id == 0 {
            return Verdict::Defer;
        }
        let mut found = false;
        for id in &self.cgroup_ids {
            found |= *id == subject.cgroup_id;
        }
        if found { Verdict::Accept } else { Verdict::Reject }
    }

    #[inline(always)]
    fn judge_family(&self, subject: &Subject<'_>) -> Verdict {
        let v4 = subject.family == address::AF_INET
            || address::is_v4(subject.peer_addr)
            || address::is_v4(subject.local_addr);
        let unbound = address::is_unspecified_v6(subject.local_addr);
        // Up to 6.12 a dual-stack listener's child is born without its addresses.
        let addressless = subject.old == state::LISTEN && subject.new == state::SYN_RECV && unbound;
        match self.families {
            family::V4 if v4 => Verdict::Accept,
            // The listener may be dual-stack: its IPv4 children need to know whose it is.
            family::V4 if addressless || (subject.is_listener() && unbound) => Verdict::Defer,
            family::V4 => Verdict::Reject,
            family::V6 if addressless && !v4 => Verdict::Defer,
            family::V6 if v4 => Verdict::Reject,
            _ => Verdict::Accept,
        }
    }

    #[inline(always)]
    fn judge_peer_port(&self, subject: &Subject<'_>) -> Verdict {
        // A listener never has a peer, so it stays deferred: its children need to know whose it is.
        port(self.peer_count, &self.peer_ports, subject.peer_port)
    }
}

#[inline(always)]
const fn exact(wanted: u64, actual: u64) -> Verdict {
    if wanted == 0 || wanted == actual {
        Verdict::Accept
    } else if actual == 0 {
        Verdict::Defer
    } else {
        Verdict::Reject
    }
}

#[inline(always)]
fn port(count: u16, ports: &[u16; MAX_PORTS], actual: u16) -> Verdict {
    if count == 0 {
        return Verdict::Accept;
    }
    if actual == 0 {
        return Verdict::Defer;
    }
    // Unused slots hold 0, which no actual port equals: no bound to compare with.
    let mut found = false;
    for port in ports {
        found |= *port == actual;
    }
    if found { Verdict::Accept } else { Verdict::Reject }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    const SUBJECT: Subject<'static> = Subject {
        old: state::SYN_SENT,
        new: state::ESTABLISHED,
        local_port: 40_000,
        peer_port: 443,
        family: address::AF_INET,
        netns: 7,
        cgroup_id: 9,
        local_addr: &MAPPED,
        peer_addr: &MAPPED,
        pid: 0,
    };

    fn ports(list: &[u16]) -> ([u16; MAX_PORTS], u16) {
        let mut ports = [0; MAX_PORTS];
        ports[..list.len()].copy_from_slice(list);
        (ports, list.len() as u16)
    }

    #[test]
    fn no_filter_accepts() {
        assert_eq!(Filter::NONE.judge(&SUBJECT), Verdict::Accept);
    }

    #[test]
    fn ports_match_the_final_tuple() {
        let (peer_ports, peer_count) = ports(&[80, 443]);
        let filter = Filter { peer_ports, peer_count, ..Filter::NONE };
        assert_eq!(filter.judge(&SUBJECT), Verdict::Accept);
        assert_eq!(filter.judge(&Subject { peer_port: 8443, ..SUBJECT }), Verdict::Reject);
        let unborn = Subject { old: state::LISTEN, new: state::SYN_RECV, peer_port: 0, ..SUBJECT };
        assert_eq!(filter.judge(&unborn), Verdict::Defer);
        let listener = Subject { old: state::CLOSE, new: state::LISTEN, peer_port: 0, ..SUBJECT };
        assert_eq!(filter.judge(&listener), Verdict::Defer, "its children need to know whose it is");
    }

    #[test]
    fn an_unchosen_local_port_is_deferred() {
        let (local_ports, local_count) = ports(&[40_000]);
        let filter = Filter { local_ports, local_count, ..Filter::NONE };
        let unbound = Subject { old: state::CLOSE, new: state::SYN_SENT, local_port: 0, ..SUBJECT };
        assert_eq!(filter.judge(&unbound), Verdict::Defer);
        assert_eq!(filter.judge(&SUBJECT), Verdict::Accept);
    }

    #[test]
    fn the_pid_of_a_softirq_is_deferred() {
        let filter = Filter { pid: 12, ..Filter::NONE };
        assert_eq!(filter.judge(&SUBJECT), Verdict::Defer);
        assert_eq!(filter.judge(&Subject { pid: 12, ..SUBJECT }), Verdict::Accept);
        assert_eq!(filter.judge(&Subject { pid: 13, ..SUBJECT }), Verdict::Reject);
    }

    #[test]
    fn a_mapped_peer_is_ipv4() {
        let v4 = Filter { families: family::V4, ..Filter::NONE };
        let v6 = Filter { families: family::V6, ..Filter::NONE };
        let dual = Subject { family: address::AF_INET6, ..SUBJECT };
        assert_eq!(v4.judge(&dual), Verdict::Accept);
        assert_eq!(v6.judge(&dual), Verdict::Reject);
        let native = Subject { family: address::AF_INET6, local_addr: &V6, peer_addr: &V6, ..SUBJECT };
        assert_eq!(v4.judge(&native), Verdict::Reject);
        assert_eq!(v6.judge(&native), Verdict::Accept);
    }

    #[test]
    fn the_addressless_child_of_a_dual_stack_listener_is_deferred() {
        let v4 = Filter { families: family::V4, ..Filter::NONE };
        let child = Subject {
            old: state::LISTEN,
            new: state::SYN_RECV,
            family: address::AF_INET6,
            local_addr: &[0; 16],
            peer_addr: &[0; 16],
            ..SUBJECT
        };
        assert_eq!(v4.judge(&child), Verdict::Defer);
    }

    #[test]
    fn namespace_and_cgroup_are_exact() {
        assert_eq!(Filter { netns: 8, ..Filter::NONE }.judge(&SUBJECT), Verdict::Reject);
        let mut cgroup_ids = [0; MAX_CGROUPS];
        (cgroup_ids[0], cgroup_ids[1]) = (1, 9);
        assert_eq!(Filter { netns: 7, cgroup_ids, ..Filter::NONE }.judge(&SUBJECT), Verdict::Accept);
        cgroup_ids[1] = 8;
        assert_eq!(Filter { cgroup_ids, ..Filter::NONE }.judge(&SUBJECT), Verdict::Reject);
    }
}

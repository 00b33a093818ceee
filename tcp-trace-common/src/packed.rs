//! A [`StateChange`] as the main programs write it: only as long as it has to be.
//!
//! A socket's state changes ten times in its life, and most times little is new: who uses it is known at the ends of its
//! life, what it has carried at its last transition, and an IPv4 address has four bytes. A record in the ring buffer
//! costs the memory that it touches.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use crate::{
    address::{AF_INET, AF_INET6, is_mapped, mapped},
    event::{StateChange, flags, kind},
};

/// What every record has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Head {
    /// [`kind::PACKED_CHANGE`].
    pub kind: u16,
    /// As in [`StateChange`].
    pub old: u8,
    /// As in [`StateChange`].
    pub new: u8,
    /// Those of a [`StateChange`], and those that say which parts follow.
    pub flags: u32,
    /// As in [`StateChange`].
    pub time_ns: u64,
    /// As in [`StateChange`].
    pub cookie: u64,
    /// As in [`StateChange`].
    pub skaddr: u64,
    /// The lower half of `cgroup_id`.
    pub cgroup_low: u32,
    /// As in [`StateChange`].
    pub netns: u32,
    /// Local IPv4 address in network order; meaningless with [`flags::LONG_ADDRESSES`].
    pub local_v4: u32,
    /// Peer IPv4 address.
    pub peer_v4: u32,
    /// As in [`StateChange`].
    pub local_port: u16,
    /// As in [`StateChange`].
    pub peer_port: u16,
    /// As in [`StateChange`].
    pub srtt_us: u32,
}

/// The socket's user; zeros without [`flags::TASK`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct User {
    /// As in [`StateChange`].
    pub process_start_ns: u64,
    /// As in [`StateChange`].
    pub tgid: u32,
    /// As in [`StateChange`].
    pub tid: u32,
    /// As in [`StateChange`], in its two halves.
    pub comm: [u64; 2],
}

/// What only the ends of a connection's life have, and connections in trouble; zeros without [`flags::REST`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Rest {
    /// As in [`StateChange`].
    pub request_ns: u64,
    /// As in [`StateChange`].
    pub bytes_received: u64,
    /// As in [`StateChange`].
    pub bytes_acked: u64,
    /// As in [`StateChange`].
    pub unread: u32,
    /// As in [`StateChange`].
    pub total_retrans: u32,
    /// As in [`StateChange`].
    pub total_rto_time_ms: u32,
    /// As in [`StateChange`].
    pub total_rto: u16,
    /// As in [`StateChange`].
    pub sk_err: u16,
    /// The upper half of `cgroup_id`.
    pub cgroup_high: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Addresses that are not IPv4 ones; zeros without [`flags::LONG_ADDRESSES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Addresses {
    /// As in [`StateChange`], in its two halves.
    pub local: [u64; 2],
    /// As in [`StateChange`], in its two halves.
    pub peer: [u64; 2],
}

/// A [`StateChange`] in four parts. Those behind the last one that says something are left out; [`Parts::of`] tells which
/// these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PackedChange {
    /// Always there.
    pub head: Head,
    /// The second part.
    pub user: User,
    /// The third part.
    pub rest: Rest,
    /// The fourth part.
    pub addresses: Addresses,
}

/// Two parts, one after the other: as a tuple, but in this order.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Then<A, B>(pub A, pub B);

/// How many of its parts a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// The head only.
    Head,
    /// As far as [`User`].
    User,
    /// As far as [`Rest`].
    Rest,
    /// All.
    All,
}

impl Parts {
    /// Those that a record with these flags has.
    #[inline(always)]
    #[must_use]
    pub const fn of(bits: u32) -> Self {
        if bits & flags::LONG_ADDRESSES != 0 {
            Self::All
        } else if bits & flags::REST != 0 {
            Self::Rest
        } else if bits & flags::TASK != 0 {
            Self::User
        } else {
            Self::Head
        }
    }

    /// Bytes of a record that has these parts.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Head => size_of::<Head>(),
            Self::User => Self::Head.length() + size_of::<User>(),
            Self::Rest => Self::User.length() + size_of::<Rest>(),
            Self::All => size_of::<PackedChange>(),
        }
    }
}

/// The flags of a socket with this family and these addresses.
#[inline(always)]
#[must_use]
pub const fn address_flags(family: u16, addresses: &Addresses) -> u32 {
    let short = is_mapped(addresses.local) && is_mapped(addresses.peer);
    let family = if family == AF_INET6 { flags::INET6 } else { 0 };
    family | if short { 0 } else { flags::LONG_ADDRESSES }
}

/// The IPv4 address that these halves hold, if they do.
#[inline(always)]
#[must_use]
pub const fn short(halves: [u64; 2]) -> u32 {
    (halves[1] >> 32) as u32
}

impl PackedChange {
    /// The record, with zeros for what is left out.
    ///
    /// # Errors
    ///
    /// The length that the record should have.
    #[inline(always)]
    pub fn read(bytes: &[u8]) -> Result<Self, usize> {
        let least = Parts::Head.length();
        let (head, tail) = Head::read_from_prefix(bytes).map_err(|_short| least)?;
        let parts = Parts::of(head.flags);
        let wrong = parts.length();
        if bytes.len() != wrong {
            return Err(wrong);
        }
        // Part by part, each of a length that the compiler knows: the whole need never be in memory.
        let mut packed = Self { head, ..Self::default() };
        if parts == Parts::Head {
            return Ok(packed);
        }
        let (user, tail) = User::read_from_prefix(tail).map_err(|_short| wrong)?;
        packed.user = user;
        if parts == Parts::User {
            return Ok(packed);
        }
        let (rest, tail) = Rest::read_from_prefix(tail).map_err(|_short| wrong)?;
        packed.rest = rest;
        if parts == Parts::All {
            packed.addresses = Addresses::read_from_bytes(tail).map_err(|_short| wrong)?;
        }
        Ok(packed)
    }

    /// As it would have been written at full length.
    #[inline(always)]
    #[must_use]
    pub fn unpack(&self) -> StateChange {
        let Self { head, user, rest, addresses } = self;
        let Addresses { local, peer } = match Parts::of(head.flags) {
            Parts::All => *addresses,
            _ => Addresses { local: mapped(head.local_v4), peer: mapped(head.peer_v4) },
        };
        StateChange {
            kind: kind::STATE_CHANGE,
            old: head.old,
            new: head.new,
            flags: head.flags & !(flags::INET6 | flags::REST | flags::LONG_ADDRESSES),
            time_ns: head.time_ns,
            cookie: head.cookie,
            skaddr: head.skaddr,
            cgroup_id: u64::from(head.cgroup_low) | u64::from(rest.cgroup_high) << 32,
            process_start_ns: user.process_start_ns,
            request_ns: rest.request_ns,
            local_addr: transmute!(local),
            peer_addr: transmute!(peer),
            local_port: head.local_port,
            peer_port: head.peer_port,
            family: if head.flags & flags::INET6 != 0 { AF_INET6 } else { AF_INET },
            sk_err: rest.sk_err,
            netns: head.netns,
            tgid: user.tgid,
            tid: user.tid,
            srtt_us: head.srtt_us,
            total_retrans: rest.total_retrans,
            total_rto_time_ms: rest.total_rto_time_ms,
            comm: transmute!(user.comm),
            total_rto: rest.total_rto,
            reserved: 0,
            unread: rest.unread,
            bytes_received: rest.bytes_received,
            bytes_acked: rest.bytes_acked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change in which every byte has a value of its own, so that no field can be forgotten or taken for another.
    fn full(bits: u32) -> PackedChange {
        let mut bytes = [0; size_of::<PackedChange>()];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = index as u8 + 1;
        }
        let mut full = PackedChange::read_from_bytes(&bytes).unwrap();
        full.head.kind = kind::PACKED_CHANGE;
        full.head.flags = bits;
        full
    }

    #[test]
    fn records_have_these_lengths() {
        for (bits, length) in [
            (0, 56),
            (flags::TASK, 88),
            (flags::REST, 136),
            (flags::REST | flags::TASK, 136),
            (flags::LONG_ADDRESSES, 168),
        ] {
            assert_eq!(Parts::of(bits).length(), length, "{bits:#x}");
        }
    }

    #[test]
    fn parts_follow_each_other_as_in_the_whole() {
        assert_eq!(size_of::<Then<Head, User>>(), Parts::User.length());
        assert_eq!(size_of::<Then<Then<Head, User>, Rest>>(), Parts::Rest.length());
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let change = full(flags::LONG_ADDRESSES);
        assert_eq!(PackedChange::read(change.as_bytes()), Ok(change));
    }

    #[test]
    fn what_is_left_out_is_zero() {
        let change = full(flags::TASK);
        let read = PackedChange::read(&change.as_bytes()[..88]).unwrap();
        assert_eq!((read.head, read.user), (change.head, change.user));
        assert_eq!((read.rest, read.addresses), (Rest::default(), Addresses::default()));
    }

    #[test]
    fn another_length_than_its_flags_ask_for_is_refused() {
        let change = full(flags::REST);
        for wrong in [0, 1, 55, 56, 88, 135, 137, 168] {
            assert!(PackedChange::read(&change.as_bytes()[..wrong]).is_err(), "{wrong}");
        }
        assert_eq!(PackedChange::read(&change.as_bytes()[..55]), Err(56));
        assert_eq!(PackedChange::read(&change.as_bytes()[..88]), Err(136));
    }

    #[test]
    fn only_ipv4_addresses_are_short() {
        let (v4, v6) = (mapped(0x0403_0201), [1, 2]);
        for (family, local, peer, expected) in [
            (AF_INET, v4, v4, 0),
            (AF_INET6, v4, v4, flags::INET6),
            (AF_INET6, v6, v4, flags::INET6 | flags::LONG_ADDRESSES),
            (AF_INET6, v4, v6, flags::INET6 | flags::LONG_ADDRESSES),
            (AF_INET6, [0; 2], [0; 2], flags::INET6 | flags::LONG_ADDRESSES),
        ] {
            let addresses = Addresses { local, peer };
            let bits = address_flags(family, &addresses);
            assert_eq!(bits, expected);
            let head = Head { flags: bits, local_v4: short(local), peer_v4: short(peer), ..Head::default() };
            let change = PackedChange { head, addresses, ..PackedChange::default() }.unpack();
            let halves = |address: [u8; 16]| -> [u64; 2] { transmute!(address) };
            assert_eq!((halves(change.local_addr), halves(change.peer_addr)), (local, peer));
            assert_eq!((change.family, change.flags), (family, 0));
        }
    }

    #[test]
    fn every_field_is_unpacked() {
        let change = full(flags::HAS_SOCK | flags::TASK | flags::REST);
        let PackedChange { head, user, rest, .. } = change;
        let whole = change.unpack();
        assert_eq!((whole.family, whole.flags), (AF_INET, flags::HAS_SOCK | flags::TASK));
        assert_eq!(whole.local_addr[12..], head.local_v4.to_ne_bytes());
        assert_eq!(whole.peer_addr[12..], head.peer_v4.to_ne_bytes());
        assert_eq!(whole.cgroup_id, u64::from(rest.cgroup_high) << 32 | u64::from(head.cgroup_low));
        assert_eq!(
            (whole.old, whole.new, whole.time_ns, whole.cookie, whole.skaddr, whole.netns),
            (head.old, head.new, head.time_ns, head.cookie, head.skaddr, head.netns)
        );
        assert_eq!(
            (whole.srtt_us, whole.local_port, whole.peer_port, whole.comm),
            (head.srtt_us, head.local_port, head.peer_port, transmute!(user.comm))
        );
        assert_eq!(
            (whole.process_start_ns, whole.tgid, whole.tid),
            (user.process_start_ns, user.tgid, user.tid)
        );
        assert_eq!(
            (whole.request_ns, whole.bytes_received, whole.bytes_acked, whole.unread, whole.sk_err),
            (rest.request_ns, rest.bytes_received, rest.bytes_acked, rest.unread, rest.sk_err)
        );
        assert_eq!(
            (whole.total_retrans, whole.total_rto, whole.total_rto_time_ms),
            (rest.total_retrans, rest.total_rto, rest.total_rto_time_ms)
        );
    }
}

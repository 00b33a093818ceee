//! In-kernel aggregation: what the programs count instead of sending, when the stream cannot keep up.
//!
//! Each transition is in exactly one row; which transitions the stream still shows beside them, so that live tables
//! stay right, says [`is_shown`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    counters::{TRANSITIONS, pair},
    state,
};

/// Values of [`AggregateKey::what`]: what `bucket` is the time of, and what else is known of the transition.
pub mod what {
    /// Time in the state that was left.
    pub const TIME: u8 = 0;
    /// A handshake, from its request on, which sock_ops saw.
    pub const SOCK_OPS: u8 = 1;
    /// The same, seen by fentry.
    pub const FENTRY: u8 = 2;
    /// A handshake of TCP Fast Open, from its SYN on.
    pub const FAST_OPEN: u8 = 3;
    /// The kernel's first round-trip sample, of a handshake whose request nobody saw.
    pub const SRTT: u8 = 4;
    /// A handshake without request, round-trip sample or retransmission: a SYN cookie's.
    pub const COOKIE: u8 = 5;
    /// Another handshake that nobody has measured.
    pub const UNMEASURED: u8 = 6;
    /// Time in the state that was left; the kernel keeps the ends in TIME_WAIT.
    pub const TIME_WAIT: u8 = 7;
    /// The same, in FIN_WAIT2.
    pub const ORPHAN: u8 = 8;
}

/// Bits of [`CLASSES`]: what aggregation needs to know of a kind of transition.
pub mod class {
    /// `LISTEN → SYN_RECV`
    pub const CHILD: u64 = 1 << 0;
    /// `… → CLOSE`
    pub const END: u64 = 1 << 1;
    /// `SYN_RECV → …`
    pub const HANDSHAKE: u64 = 1 << 2;
    /// The end of a socket of which the kernel may keep the ends.
    pub const LAST: u64 = 1 << 3;
    /// It leaves a state in which the time counts.
    pub const TIMED: u64 = 1 << 4;
    /// `SYN_SENT → CLOSE`
    pub const FAILED: u64 = 1 << 5;
    /// `LISTEN → CLOSE`
    pub const LISTENER: u64 = 1 << 6;
    /// See [`super::is_shown`].
    pub const SHOWN: u64 = 1 << 7;
    /// It leaves a state for another.
    pub const MOVES: u64 = 1 << 8;
    /// `FIN_WAIT2 → …`
    pub const FIN_WAIT2: u64 = 1 << 9;
}

/// Bits of [`class`] by `crate::counters::slot`.
pub const CLASSES: [u16; TRANSITIONS] = {
    let mut classes = [0; TRANSITIONS];
    let mut index = 0;
    while index < TRANSITIONS {
        let (old, new) = pair(index);
        classes[index] = classify(old, new) as u16;
        index += 1;
    }
    classes
};

const fn classify(old: u8, new: u8) -> u64 {
    let end = new == state::CLOSE;
    let bits = [
        (old == state::LISTEN && new == state::SYN_RECV, class::CHILD),
        (end, class::END),
        (old == state::SYN_RECV && new != state::SYN_RECV, class::HANDSHAKE),
        (end && (old == state::FIN_WAIT2 || old == state::CLOSING), class::LAST),
        (old != new && old != state::CLOSE, class::TIMED),
        (end && old == state::SYN_SENT, class::FAILED),
        (end && old == state::LISTEN, class::LISTENER),
        (is_shown(old, new), class::SHOWN),
        (old != new, class::MOVES),
        (old == state::FIN_WAIT2, class::FIN_WAIT2),
    ];
    let (mut sum, mut index) = (0, 0);
    while index < bits.len() {
        if bits[index].0 {
            sum |= bits[index].1;
        }
        index += 1;
    }
    sum
}

/// [`AggregateKey::bucket`] of a time that is not known, or does not exist: that of 292 years and more.
pub const NO_TIME: u8 = 64;

/// [`AggregateKey::error`] of an attempt to connect that never had a port.
pub const NO_PORT: u16 = u16::MAX;

/// What the transitions of one row have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AggregateKey {
    /// Start of the owner's process, nanoseconds since boot; 0 unknown.
    pub process_start_ns: u64,
    /// Cgroup of the sockets' creator; 0 unknown.
    pub cgroup_id: u64,
    /// The owner's process: the task in whose own call it happened, or an earlier transition of the socket; 0 unknown.
    pub tgid: u32,
    /// Network namespace, by inode number; 0 unknown.
    pub netns: u32,
    /// Local port of sockets that came in on a listener, else 0.
    pub listener_port: u16,
    /// `sk_err` of `SYN_SENT → CLOSE`, or [`NO_PORT`]; else 0.
    pub error: u16,
    /// State left.
    pub old: u8,
    /// State entered.
    pub new: u8,
    /// [`bucket`] of the time, or [`NO_TIME`].
    pub bucket: u8,
    /// A value of [`what`], and the bits [`ODD`] and [`HELD`].
    pub what: u8,
}

/// The bit of [`AggregateKey::what`] of rows of the odd generation (`crate::nesting::live::ODD_ROWS`).
pub const ODD: u8 = 1 << 7;

/// The bit of [`AggregateKey::what`] of sockets that have ended while somebody still held them.
pub const HELD: u8 = 1 << 6;

/// A row as user space passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AggregateRow {
    /// Which transitions.
    pub key: AggregateKey,
    /// How many, since the last row of this key.
    pub count: u64,
}

/// Whether a transition that is aggregated is sent too: births, because live tables need what a socket is and whose;
/// entries into CLOSE_WAIT, because what lingers there needs its age; ends.
#[inline(always)]
#[must_use]
pub const fn is_shown(old: u8, new: u8) -> bool {
    new == state::CLOSE
        || new == state::CLOSE_WAIT
        || (old == state::CLOSE && (new == state::SYN_SENT || new == state::LISTEN))
        || (old == state::SYN_RECV && new == state::ESTABLISHED)
}

/// The power of two that a time falls under: bucket `n` holds `2^(n-1) ≤ ns < 2^n`, bucket 0 only 0.
#[inline(always)]
#[must_use]
pub const fn bucket(ns: u64) -> u8 {
    (64 - ns.leading_zeros()) as u8
}

/// The shortest and the longest time of a bucket, the inverse of [`bucket`]; `None` of what is no bucket.
#[must_use]
pub const fn bounds(bucket: u8) -> Option<(u64, u64)> {
    match bucket {
        0 => Some((0, 0)),
        1..NO_TIME => Some((1 << (bucket - 1), u64::MAX >> (64 - bucket))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_within_the_bounds_of_its_bucket() {
        for ns in (0..63).flat_map(|bit| [1_u64 << bit, (1 << bit) | 1, (1 << bit) - 1, (2 << bit) - 1]) {
            let (least, most) = bounds(bucket(ns)).unwrap();
            assert!((least..=most).contains(&ns), "{ns}: {least} to {most}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for index in 0..NO_TIME - 1 {
            assert_eq!(bounds(index).unwrap().1 + 1, bounds(index + 1).unwrap().0);
        }
        assert_eq!((bucket(u64::MAX), bounds(NO_TIME), bounds(u8::MAX)), (NO_TIME, None, None));
    }

    #[test]
    fn half_of_a_connection_is_shown() {
        use state::{
            CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT,
        };
        let client = [(CLOSE, SYN_SENT), (FIN_WAIT2, CLOSE)];
        let server = [(SYN_RECV, ESTABLISHED), (ESTABLISHED, CLOSE_WAIT), (LAST_ACK, CLOSE)];
        assert!(client.into_iter().chain(server).all(|(old, new)| is_shown(old, new)));
        let others = [
            (SYN_SENT, ESTABLISHED),
            (ESTABLISHED, FIN_WAIT1),
            (FIN_WAIT1, FIN_WAIT2),
            (LISTEN, SYN_RECV),
            (CLOSE_WAIT, LAST_ACK),
        ];
        assert!(!others.into_iter().any(|(old, new)| is_shown(old, new)));
    }
}

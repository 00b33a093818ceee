//! Record → Input. Total: whatever the bytes are, the answer is an input or a typed error.

use std::num::NonZeroU64;

use tcp_trace_common::{
    counters::Counters,
    event::{self, StateChange, flags},
};
use zerocopy::FromBytes;

use crate::{
    endpoint::Endpoint,
    input::{Event, Input, Request, Task, TcpFacts},
    process::{Comm, ProcessId},
    record::{COUNTER_ENTRY, CounterReading, Record, kind},
    state::TcpState,
    time::Timestamp,
};

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A kind of record that this version does not know.
    #[error("record of unknown kind {kind}, {length} bytes long")]
    UnknownKind {
        /// The kind.
        kind: u16,
        /// Its length in bytes.
        length: usize,
    },
    /// A record of the wrong length for its kind.
    #[error("record of kind {kind} is {length} bytes long, expected {expected}")]
    Length {
        /// The kind.
        kind: u16,
        /// Its length in bytes.
        length: usize,
        /// What the kind asks for (at least).
        expected: usize,
    },
    /// A ring-buffer record that says it is something else.
    #[error("event of unknown kind {0}")]
    UnknownEvent(u16),
}

/// Decodes one record.
///
/// # Errors
///
/// If the record is of an unknown kind or has the wrong length.
pub fn decode(record: Record<'_>) -> Result<Input, DecodeError> {
    let Record { kind: record_kind, bytes } = record;
    let length = |expected| DecodeError::Length { kind: record_kind, length: bytes.len(), expected };
    match record_kind {
        kind::EVENT => {
            let wire = StateChange::read_from_bytes(bytes)
                .map_err(|_wrong_size| length(size_of::<StateChange>()))?;
            if wire.kind != event::kind::STATE_CHANGE {
                return Err(DecodeError::UnknownEvent(wire.kind));
            }
            Ok(Input::Event(state_change(&wire)))
        }
        kind::COUNTERS => counters(bytes).map(Input::Counters).ok_or_else(|| length(16)),
        kind::END => match words(bytes).as_deref() {
            Some([time]) => Ok(Input::End(Timestamp(*time))),
            _ => Err(length(8)),
        },
        unknown => Err(DecodeError::UnknownKind { kind: unknown, length: bytes.len() }),
    }
}

/// A kernel event with its sentinels turned into `None`.
fn state_change(wire: &StateChange) -> Event {
    let has = |bit: u32| wire.flags & bit != 0;
    Event {
        time: Timestamp(wire.time_ns),
        old: TcpState::from_number(wire.old),
        new: TcpState::from_number(wire.new),
        cookie: NonZeroU64::new(wire.cookie),
        skaddr: wire.skaddr,
        local: Endpoint::from_wire(wire.local_addr, wire.local_port),
        peer: Endpoint::from_wire(wire.peer_addr, wire.peer_port),
        family: wire.family,
        netns: (has(flags::HAS_SOCK) && wire.netns != 0).then_some(wire.netns),
        cgroup_id: (has(flags::HAS_SOCK) && wire.cgroup_id != 0).then_some(wire.cgroup_id),
        task: has(flags::TASK).then(|| Task {
            process: ProcessId {
                pid: wire.tgid,
                start_ns: (wire.process_start_ns != 0).then_some(wire.process_start_ns),
            },
            tid: wire.tid,
            comm: if has(flags::THREAD_COMM) { None } else { Comm::new(wire.comm) },
        }),
        error: has(flags::HAS_SOCK).then_some(wire.sk_err),
        done: has(flags::HAS_SOCK).then(|| has(flags::DONE)),
        request: has(flags::HAS_REQUEST)
            .then(|| Request { queued: Timestamp(wire.request_ns), fast_open: has(flags::FAST_OPEN) }),
        tcp: has(flags::HAS_TCP).then(|| TcpFacts {
            srtt_us: wire.srtt_us,
            total_retrans: wire.total_retrans,
            rto: has(flags::HAS_RTO).then_some((wire.total_rto, wire.total_rto_time_ms)),
        }),
    }
}

/// The inverse of `encode_counters`; `None` if the bytes cannot have come from there.
fn counters(bytes: &[u8]) -> Option<CounterReading> {
    let (head, entries) = bytes.split_at_checked(16)?;
    let head = words(head)?;
    let [time, missed] = head.as_slice() else { return None };
    if entries.len() % COUNTER_ENTRY != 0 {
        return None;
    }
    let mut counters = Box::new(Counters::ZERO);
    for entry in entries.chunks_exact(COUNTER_ENTRY) {
        let entry = words(entry)?;
        let [slot, seen, filtered, lost] = entry.as_slice() else { return None };
        let slot = usize::try_from(*slot).ok()?;
        *counters.seen.get_mut(slot)? = *seen;
        *counters.filtered.get_mut(slot)? = *filtered;
        *counters.lost.get_mut(slot)? = *lost;
    }
    Some(CounterReading { time: Timestamp(*time), missed: *missed, counters })
}

fn words(bytes: &[u8]) -> Option<Vec<u64>> {
    let (words, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode_counters;

    #[test]
    fn counters_go_there_and_back() {
        let mut counters = Box::new(Counters::ZERO);
        counters.seen[0x72] = 12;
        counters.filtered[0x72] = 3;
        counters.lost[0x72] = 4;
        counters.seen[0x15] = u64::MAX;
        let reading = CounterReading { time: Timestamp(99), missed: 2, counters };
        let bytes = encode_counters(&reading);
        let record = Record { kind: kind::COUNTERS, bytes: &bytes };
        assert_eq!(decode(record), Ok(Input::Counters(reading)));
    }

    #[test]
    fn wrong_lengths_and_kinds_are_named() {
        let short = Record { kind: kind::EVENT, bytes: &[1, 0, 3] };
        assert_eq!(decode(short).unwrap_err().to_string(), "record of kind 1 is 3 bytes long, expected 144");
        let unknown = Record { kind: 77, bytes: &[] };
        assert_eq!(decode(unknown).unwrap_err().to_string(), "record of unknown kind 77, 0 bytes long");
        let event = Record { kind: kind::EVENT, bytes: &[0; size_of::<StateChange>()] };
        assert_eq!(decode(event), Err(DecodeError::UnknownEvent(0)));
    }

    #[test]
    fn no_bytes_panic() {
        for kind in 0..5 {
            for len in 0..200 {
                let _ = decode(Record { kind, bytes: &vec![0xff; len] });
            }
        }
    }
}

//! Record → Input. Total: whatever the bytes are, the answer is an input or a typed error.

use std::num::NonZeroU64;

use tcp_trace_common::{
    aggregate::{AggregateRow, HELD, NO_PORT, ODD, bounds, what},
    counters::Counters,
    event::{self, StateChange, flags, request_change, socket_use},
    packed::PackedChange,
};
use zerocopy::FromBytes;

use crate::{
    endpoint::Endpoint,
    input::{
        Aggregate, Bytes, Event, Input, Request, RequestChange, RequestEvent, RequestSource, SocketUse, Task,
        TcpFacts, Time, TimeWait, UseKind,
    },
    process::{Comm, ProcessId},
    record::{COUNTER_ENTRY, CounterReading, Record, kind},
    state::TcpState,
    survey,
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
    /// Rows that no survey wrote.
    #[error("record of kind {0} holds no valid rows")]
    Rows(u16),
    /// Facts that no survey wrote.
    #[error("record of kind {kind} is malformed at line {line} column {column}")]
    Json {
        /// The kind.
        kind: u16,
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
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
        kind::EVENT => event_record(bytes),
        kind::COUNTERS => counters(bytes).map(Input::Counters).ok_or_else(|| length(24)),
        kind::END => match words(bytes).as_deref() {
            Some([time]) => Ok(Input::End(Timestamp(*time))),
            _ => Err(length(8)),
        },
        kind::SURVEY_BEGIN => json(record_kind, bytes).map(Input::SurveyBegin),
        kind::SOCKETS => {
            rows(record_kind, survey::decode_sockets(bytes)).map(|(time, rows)| Input::Sockets(time, rows))
        }
        kind::HOLDERS => rows(record_kind, survey::decode_holders(bytes)).map(Input::Holders),
        kind::REQUESTS => rows(record_kind, survey::decode_requests(bytes)).map(Input::Requests),
        kind::FACTS => json(record_kind, bytes).map(Input::Facts),
        kind::SURVEY_END => json(record_kind, bytes).map(Input::SurveyEnd),
        kind::MODE => json(record_kind, bytes).map(Input::Mode),
        kind::DEGRADATION => json(record_kind, bytes).map(Input::Degradation),
        kind::STACKS => json(record_kind, bytes).map(Input::Stacks),
        kind::AGGREGATES => rows(record_kind, aggregates(bytes)).map(Input::Aggregates),
        unknown => Err(DecodeError::UnknownKind { kind: unknown, length: bytes.len() }),
    }
}

fn json<T: serde::de::DeserializeOwned>(kind: u16, bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| DecodeError::Json {
        kind,
        line: error.line(),
        column: error.column(),
    })
}

fn rows<T>(kind: u16, rows: Option<T>) -> Result<T, DecodeError> {
    rows.ok_or(DecodeError::Rows(kind))
}

/// A record of the ring buffer.
fn event_record(bytes: &[u8]) -> Result<Input, DecodeError> {
    let short = DecodeError::Length { kind: kind::EVENT, length: bytes.len(), expected: 2 };
    let event_kind = bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or(short)?;
    match event_kind {
        event::kind::PACKED_CHANGE => match PackedChange::read(bytes) {
            Ok(packed) => Ok(Input::Event(state_change(&packed.unpack()))),
            Err(expected) => Err(DecodeError::Length { kind: kind::EVENT, length: bytes.len(), expected }),
        },
        event::kind::STATE_CHANGE => Ok(Input::Event(state_change(&wire(bytes)?))),
        event::kind::SOCKET_USE => {
            let used: event::SocketUse = wire(bytes)?;
            socket_use(&used).map(Input::SocketUse).ok_or(DecodeError::UnknownEvent(event_kind))
        }
        event::kind::REQUEST_CHANGE => {
            let change: event::RequestChange = wire(bytes)?;
            request_change(&change).map(Input::Request).ok_or(DecodeError::UnknownEvent(event_kind))
        }
        unknown => Err(DecodeError::UnknownEvent(unknown)),
    }
}

/// Recordings place records at any address, so the types are copied out.
fn wire<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_bytes(bytes).map_err(|_wrong_size| DecodeError::Length {
        kind: kind::EVENT,
        length: bytes.len(),
        expected: size_of::<T>(),
    })
}

fn socket_use(wire: &event::SocketUse) -> Option<SocketUse> {
    Some(SocketUse {
        time: Timestamp(wire.time_ns),
        cookie: NonZeroU64::new(wire.cookie)?,
        skaddr: wire.skaddr,
        how: match wire.how {
            socket_use::ACCEPT => UseKind::Accept,
            socket_use::READ => UseKind::Read,
            socket_use::CLOSE => UseKind::Close,
            _ => return None,
        },
        task: task(wire.tgid, wire.tid, wire.process_start_ns, wire.comm, wire.flags),
    })
}

fn request_change(wire: &event::RequestChange) -> Option<RequestChange> {
    Some(RequestChange {
        time: Timestamp(wire.time_ns),
        what: match wire.what {
            request_change::RETRANSMIT => RequestEvent::Retransmit,
            request_change::EXPIRED => RequestEvent::Expired,
            request_change::DROPPED => RequestEvent::Dropped,
            _ => return None,
        },
        cookie: NonZeroU64::new(wire.cookie),
        listener_cookie: NonZeroU64::new(wire.listener_cookie),
        netns: (wire.netns != 0).then_some(wire.netns),
        sent: (wire.sent_ns != 0).then_some(Timestamp(wire.sent_ns)),
        local: Endpoint::from_wire(wire.local_addr, wire.local_port),
        peer: Endpoint::from_wire(wire.peer_addr, wire.peer_port),
        family: wire.family,
        timeouts: wire.timeouts,
        accept_queue: (wire.accept_limit != 0).then_some((wire.accept_queue, wire.accept_limit)),
        acked: wire.acked != 0,
    })
}

fn task(tgid: u32, tid: u32, start_ns: u64, comm: [u8; 16], bits: u32) -> Task {
    Task {
        process: ProcessId::new(tgid, (start_ns != 0).then_some(start_ns)),
        tid,
        comm: if bits & flags::THREAD_COMM != 0 { None } else { Comm::new(comm) },
    }
}

/// A kernel event with its sentinels turned into `None`.
#[inline(always)]
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
        task: has(flags::TASK)
            .then(|| task(wire.tgid, wire.tid, wire.process_start_ns, wire.comm, wire.flags)),
        error: has(flags::HAS_SOCK).then_some(wire.sk_err),
        done: has(flags::HAS_SOCK).then(|| has(flags::DONE)),
        request: has(flags::HAS_REQUEST)
            .then(|| Request { queued: Timestamp(wire.request_ns), source: request_source(wire.flags) }),
        tcp: has(flags::HAS_TCP).then(|| TcpFacts {
            srtt_us: wire.srtt_us,
            total_retrans: wire.total_retrans,
            rto: has(flags::HAS_RTO).then_some((wire.total_rto, wire.total_rto_time_ms)),
        }),
        file: has(flags::HAS_SOCK).then(|| !has(flags::NO_FILE)),
        linger_zero: has(flags::LINGER_ZERO),
        time_wait: has(flags::TIME_WAIT_KNOWN).then(|| {
            if has(flags::TIME_WAIT) {
                TimeWait::TimeWait
            } else if has(flags::TIME_WAIT_ORPHAN) {
                TimeWait::Orphan
            } else {
                TimeWait::None
            }
        }),
        aggregated: has(flags::AGGREGATED),
        bytes: has(flags::HAS_BYTES).then_some(Bytes {
            received: wire.bytes_received,
            acked: wire.bytes_acked,
            unread: wire.unread,
        }),
    }
}

fn request_source(bits: u32) -> RequestSource {
    if bits & flags::FAST_OPEN != 0 {
        RequestSource::FastOpen
    } else if bits & flags::REQUEST_BY_FENTRY != 0 {
        RequestSource::Fentry
    } else {
        RequestSource::SockOps
    }
}

/// Rows of what the kernel has counted; `None` if the bytes are none.
fn aggregates(bytes: &[u8]) -> Option<Vec<Aggregate>> {
    let (rows, rest) = bytes.as_chunks::<{ size_of::<AggregateRow>() }>();
    if !rest.is_empty() {
        return None;
    }
    rows.iter().map(|row| aggregate(&AggregateRow::read_from_bytes(row).ok()?)).collect()
}

fn aggregate(row: &AggregateRow) -> Option<Aggregate> {
    let AggregateRow { key, count } = *row;
    // So that no sum of rows can overflow; whoever writes them splits a larger count.
    if count > u64::from(u32::MAX) {
        return None;
    }
    Some(Aggregate {
        old: TcpState::from_number(key.old),
        new: TcpState::from_number(key.new),
        process: (key.tgid != 0)
            .then(|| ProcessId::new(key.tgid, (key.process_start_ns != 0).then_some(key.process_start_ns))),
        netns: (key.netns != 0).then_some(key.netns),
        cgroup_id: (key.cgroup_id != 0).then_some(key.cgroup_id),
        // Of one that somebody has accepted and nobody has used, the listener's process is a guess too many at its end.
        listener_port: (key.listener_port != 0 && key.what & HELD == 0).then_some(key.listener_port),
        error: (key.error != NO_PORT).then_some(key.error),
        time: match key.what & !(ODD | HELD) {
            what::TIME => Time::State,
            what::SOCK_OPS => Time::SockOps,
            what::FENTRY => Time::Fentry,
            what::FAST_OPEN => Time::FastOpen,
            what::SRTT => Time::Srtt,
            what::COOKIE => Time::Cookie,
            what::UNMEASURED => Time::Unmeasured,
            what::TIME_WAIT => Time::TimeWait,
            what::ORPHAN => Time::Orphan,
            _ => return None,
        },
        bounds: bounds(key.bucket),
        count,
    })
}

/// The inverse of `encode_counters`; `None` if the bytes cannot have come from there.
fn counters(bytes: &[u8]) -> Option<CounterReading> {
    let (head, entries) = bytes.split_at_checked(24)?;
    let head = words(head)?;
    let [time, missed, side_lost] = head.as_slice() else { return None };
    if entries.len() % COUNTER_ENTRY != 0 {
        return None;
    }
    let mut counters = Box::new(Counters { side_lost: *side_lost, ..Counters::ZERO });
    for entry in entries.chunks_exact(COUNTER_ENTRY) {
        let entry = words(entry)?;
        let [slot, seen, filtered, lost, unaggregated] = entry.as_slice() else { return None };
        let slot = usize::try_from(*slot).ok()?;
        *counters.seen.get_mut(slot)? = *seen;
        *counters.filtered.get_mut(slot)? = *filtered;
        *counters.lost.get_mut(slot)? = *lost;
        *counters.unaggregated.get_mut(slot)? = *unaggregated;
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
        assert_eq!(decode(short).unwrap_err().to_string(), "record of kind 1 is 3 bytes long, expected 160");
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

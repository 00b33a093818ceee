//! Records: what sources yield and recordings store, unchanged.

use tcp_trace_common::counters::Counters;

use crate::time::Timestamp;

/// What kind of bytes a record holds. The numbers are part of the recording format.
pub mod kind {
    /// A record of the ring buffer as it left the kernel (`tcp_trace_common::event`).
    pub const EVENT: u16 = 1;
    /// [`super::encode_counters`]: the kernel's counters, read at this point of the stream.
    pub const COUNTERS: u16 = 2;
    /// The last record of a complete stream: eight bytes, CLOCK_MONOTONIC nanoseconds.
    pub const END: u16 = 3;
    /// A survey begins: [`crate::survey::SurveyBegin`] as JSON.
    pub const SURVEY_BEGIN: u16 = 4;
    /// Sockets: [`crate::survey::encode_sockets`].
    pub const SOCKETS: u16 = 5;
    /// Holders of sockets: [`crate::survey::encode_holders`].
    pub const HOLDERS: u16 = 6;
    /// Half-open requests whose handshake has not completed: [`crate::survey::encode_requests`].
    pub const REQUESTS: u16 = 7;
    /// [`crate::survey::Facts`] as JSON; inside a survey or on its own.
    pub const FACTS: u16 = 8;
    /// A survey is over: [`crate::survey::SurveyEnd`] as JSON.
    pub const SURVEY_END: u16 = 9;
    /// Another mode begins: [`crate::mode::ModeChange`] as JSON.
    pub const MODE: u16 = 10;
    /// Transitions that were counted in the kernel: rows of [`tcp_trace_common::aggregate::AggregateRow`].
    pub const AGGREGATES: u16 = 11;
    /// Where connections were opened: [`crate::stack::StackFacts`] as JSON.
    pub const STACKS: u16 = 12;
    /// Something turned out not to be had: [`crate::session::Degradation`] as JSON.
    pub const DEGRADATION: u16 = 13;
}

/// One undecoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// One of [`kind`].
    pub kind: u16,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// The kernel's counters as of a moment of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// When. Everything counted here and emitted stands before this record in the stream.
    pub time: Timestamp,
    /// Runs that the kernel skipped because the program was already running on that CPU
    /// (`recursion_misses`; the kernel counts them since 5.12).
    pub missed: u64,
    /// Sums over all CPUs.
    pub counters: Box<Counters>,
}

/// Bytes of one entry of [`encode_counters`]: slot, seen, filtered, lost, unaggregated.
pub(crate) const COUNTER_ENTRY: usize = 5 * 8;

/// Encodes counters as little-endian words: time, missed, lost records of other kinds, then slot, seen, filtered,
/// lost and unaggregated of every transition that was seen at all.
#[must_use]
pub fn encode_counters(reading: &CounterReading) -> Vec<u8> {
    let CounterReading { time, missed, counters } = reading;
    let mut words = vec![time.0, *missed, counters.side_lost];
    let rows = counters.seen.iter().zip(&counters.filtered).zip(&counters.lost).zip(&counters.unaggregated);
    for (slot, (((seen, filtered), lost), unaggregated)) in rows.enumerate() {
        if *seen != 0 {
            words.extend([slot as u64, *seen, *filtered, *lost, *unaggregated]);
        }
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

//! How long a passively opened connection was half-open.
//!
//! Never the child's `LISTEN → SYN_RECV → ESTABLISHED`, which fires back to back when the final ACK comes.

use crate::{input::Event, session::Session};

/// A request from before the program started may complete for this long: `tcp_synack_retries` = 6 gives it
/// 127 s, and the default of 5 gives it 63 s.
const REQUEST_LIFETIME_NS: u64 = 128_000_000_000;

/// A completed passive handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// Half-open for so long.
    Known { duration_ns: u64, source: DurationSource },
    /// Completed by a SYN cookie: no request ever was, so no duration exists.
    Cookie,
    /// Not known.
    Unknown,
}

/// What measured a half-open duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DurationSource {
    SockOps,
    FastOpen,
    Srtt,
    Rto,
}

impl Handshake {
    pub(super) fn duration_ns(self) -> Option<u64> {
        match self {
            Self::Known { duration_ns, .. } => Some(duration_ns),
            Self::Cookie | Self::Unknown => None,
        }
    }
}

/// Measures the handshake that `event` (`SYN_RECV → …`) completes, by the best source that there is.
pub(super) fn measure(event: &Event, session: &Session) -> Handshake {
    let known = |duration_ns, source| Handshake::Known { duration_ns, source };
    if let Some(request) = event.request {
        let source = if request.fast_open { DurationSource::FastOpen } else { DurationSource::SockOps };
        return known(event.time.since(request.queued), source);
    }
    let Some(tcp) = event.tcp else { return Handshake::Unknown };
    let cookie = tcp.srtt_us == 0 && tcp.total_retrans == 0;
    if session.half_open {
        // A request that was queued in this session's time would have left its record.
        let before = event.time.since(session.started) <= REQUEST_LIFETIME_NS;
        // What was retransmitted was kept, so a retransmission rules a cookie out.
        let unknown = tcp.total_retrans > 0 || (before && !cookie);
        return if unknown { Handshake::Unknown } else { Handshake::Cookie };
    }
    match tcp.rto {
        _ if cookie => Handshake::Cookie,
        // Without a retransmission the first sample is SYN-ACK → final ACK.
        _ if tcp.total_retrans == 0 => known(u64::from(tcp.srtt_us) * 1_000, DurationSource::Srtt),
        // The timer's time is the handshake's only if every retransmission was the timer's.
        Some((count, ms)) if u32::from(count) == tcp.total_retrans && ms > 0 => {
            known(u64::from(ms) * 1_000_000, DurationSource::Rto)
        }
        _ => Handshake::Unknown,
    }
}

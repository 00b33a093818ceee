//! How long a passively opened connection was half-open.
//!
//! Never the child's `LISTEN → SYN_RECV → ESTABLISHED`, which fires back to back when the final ACK comes.

use crate::{
    input::{Event, RequestSource},
    session::Session,
    time::Timestamp,
};

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
    Fentry,
    FastOpen,
    SynAck,
    Srtt,
    Rto,
}

impl DurationSource {
    /// The name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SockOps => "sock_ops",
            Self::Fentry => "fentry",
            Self::FastOpen => "fast_open",
            Self::SynAck => "synack",
            Self::Srtt => "srtt",
            Self::Rto => "rto",
        }
    }
}

impl Handshake {
    pub(super) fn duration_ns(self) -> Option<u64> {
        match self {
            Self::Known { duration_ns, .. } => Some(duration_ns),
            Self::Cookie | Self::Unknown => None,
        }
    }

    pub(super) fn source(self) -> Option<DurationSource> {
        match self {
            Self::Known { source, .. } => Some(source),
            Self::Cookie | Self::Unknown => None,
        }
    }
}

/// Measures the handshake that `event` (`SYN_RECV → …`) completes, by the best source that there is. `sent` is when its
/// first SYN-ACK went out, if that was retransmitted and the retransmission seen.
pub(super) fn measure(event: &Event, sent: Option<Timestamp>, session: &Session) -> Handshake {
    let known = |duration_ns, source| Handshake::Known { duration_ns, source };
    if let Some(request) = event.request {
        let source = match request.source {
            RequestSource::FastOpen => DurationSource::FastOpen,
            RequestSource::Fentry => DurationSource::Fentry,
            RequestSource::SockOps => DurationSource::SockOps,
        };
        return known(event.time.since(request.queued), source);
    }
    if let Some(sent) = sent {
        return known(event.time.since(sent), DurationSource::SynAck);
    }
    let Some(tcp) = event.tcp else { return Handshake::Unknown };
    let cookie = tcp.srtt_us == 0 && tcp.total_retrans == 0;
    match tcp.rto {
        _ if cookie => Handshake::Cookie,
        // A request would have left its record, unless it is older than the session. A cookie that borrows
        // the timestamp's bits looks the same, and spoils the sample.
        _ if session.watches_requests() => Handshake::Unknown,
        // Without a retransmission the first sample is SYN-ACK → final ACK.
        _ if tcp.total_retrans == 0 => known(u64::from(tcp.srtt_us) * 1_000, DurationSource::Srtt),
        // The timer's time is the handshake's only if every retransmission was the timer's.
        Some((count, ms)) if u32::from(count) == tcp.total_retrans && ms > 0 => {
            known(u64::from(ms) * 1_000_000, DurationSource::Rto)
        }
        _ => Handshake::Unknown,
    }
}

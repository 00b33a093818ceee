//! TCP states, and every spelling of their names.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Serialize, Serializer};
use tcp_trace_common::state as number;

/// A state of a TCP socket, as Linux knows it.
///
/// The kernel adds states from time to time, hence [`TcpState::Unknown`]; nothing indexes by a state. In memory each is the
/// kernel's number, so that neither way between the two is a jump that a processor has to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// Data flows.
    Established = number::ESTABLISHED,
    /// `connect()` sent its SYN.
    SynSent = number::SYN_SENT,
    /// The peer's SYN is answered; waiting for the last ACK of the handshake.
    SynReceived = number::SYN_RECV,
    /// Closed first; the FIN is not acknowledged yet.
    FinWait1 = number::FIN_WAIT1,
    /// Closed first; waiting for the peer's FIN.
    FinWait2 = number::FIN_WAIT2,
    /// Closed first; waiting for stray segments to die. No event ever enters it: the kernel replaces the
    /// socket by a smaller one and the tracepoint shows `… → CLOSE`.
    TimeWait = number::TIME_WAIT,
    /// Not connected.
    Close = number::CLOSE,
    /// The peer closed; the program has not.
    CloseWait = number::CLOSE_WAIT,
    /// The peer closed first, then the program; the last FIN is not acknowledged yet.
    LastAck = number::LAST_ACK,
    /// Waiting for connections.
    Listen = number::LISTEN,
    /// Both closed at once.
    Closing = number::CLOSING,
    /// Linux only: a half-open request, which is not a full socket yet.
    NewSynReceived = number::NEW_SYN_RECV,
    /// Linux only (6.8): bound, neither listening nor connected.
    BoundInactive = number::BOUND_INACTIVE,
    /// A number that no kernel used when this was written.
    Unknown(u8) = u8::MAX,
}

/// Kernel number, Linux name (what is shown), and the other spellings accepted on input: RFC 9293, `ss`,
/// OpenTelemetry. Case and the choice of `-` or `_` never matter.
const NAMES: [(TcpState, u8, &str, &[&str]); 13] = [
    (TcpState::Established, number::ESTABLISHED, "ESTABLISHED", &["ESTAB"]),
    (TcpState::SynSent, number::SYN_SENT, "SYN_SENT", &[]),
    (TcpState::SynReceived, number::SYN_RECV, "SYN_RECV", &["SYN_RECEIVED"]),
    (TcpState::FinWait1, number::FIN_WAIT1, "FIN_WAIT1", &["FIN_WAIT_1"]),
    (TcpState::FinWait2, number::FIN_WAIT2, "FIN_WAIT2", &["FIN_WAIT_2"]),
    (TcpState::TimeWait, number::TIME_WAIT, "TIME_WAIT", &[]),
    (TcpState::Close, number::CLOSE, "CLOSE", &["CLOSED", "UNCONN"]),
    (TcpState::CloseWait, number::CLOSE_WAIT, "CLOSE_WAIT", &[]),
    (TcpState::LastAck, number::LAST_ACK, "LAST_ACK", &[]),
    (TcpState::Listen, number::LISTEN, "LISTEN", &["LISTENING"]),
    (TcpState::Closing, number::CLOSING, "CLOSING", &[]),
    (TcpState::NewSynReceived, number::NEW_SYN_RECV, "NEW_SYN_RECV", &[]),
    (TcpState::BoundInactive, number::BOUND_INACTIVE, "BOUND_INACTIVE", &[]),
];

impl TcpState {
    /// The state that the kernel numbers so.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            number::ESTABLISHED => Self::Established,
            number::SYN_SENT => Self::SynSent,
            number::SYN_RECV => Self::SynReceived,
            number::FIN_WAIT1 => Self::FinWait1,
            number::FIN_WAIT2 => Self::FinWait2,
            number::TIME_WAIT => Self::TimeWait,
            number::CLOSE => Self::Close,
            number::CLOSE_WAIT => Self::CloseWait,
            number::LAST_ACK => Self::LastAck,
            number::LISTEN => Self::Listen,
            number::CLOSING => Self::Closing,
            number::NEW_SYN_RECV => Self::NewSynReceived,
            number::BOUND_INACTIVE => Self::BoundInactive,
            other => Self::Unknown(other),
        }
    }

    /// The kernel's number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Established => number::ESTABLISHED,
            Self::SynSent => number::SYN_SENT,
            Self::SynReceived => number::SYN_RECV,
            Self::FinWait1 => number::FIN_WAIT1,
            Self::FinWait2 => number::FIN_WAIT2,
            Self::TimeWait => number::TIME_WAIT,
            Self::Close => number::CLOSE,
            Self::CloseWait => number::CLOSE_WAIT,
            Self::LastAck => number::LAST_ACK,
            Self::Listen => number::LISTEN,
            Self::Closing => number::CLOSING,
            Self::NewSynReceived => number::NEW_SYN_RECV,
            Self::BoundInactive => number::BOUND_INACTIVE,
            Self::Unknown(number) => number,
        }
    }

    /// OpenTelemetry's value of `network.connection.state`, which has no word of its own for a half-open request
    /// (`syn_received`, like the socket that it becomes) nor for what only Linux has: that keeps Linux's name.
    #[must_use]
    pub fn otel_name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynReceived | Self::NewSynReceived => "syn_received",
            Self::FinWait1 => "fin_wait_1",
            Self::FinWait2 => "fin_wait_2",
            Self::TimeWait => "time_wait",
            Self::Close => "closed",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
            Self::BoundInactive => "bound_inactive",
            Self::Unknown(number) => return Cow::Owned(format!("state_{number}")),
        })
    }

    /// The Linux name; `None` for an unknown state.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(state, ..)| *state == self).map(|(_, _, name, _)| *name)
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self) {
            (Some(name), _) => f.pad(name),
            (None, state) => f.pad(&format!("STATE_{}", state.number())),
        }
    }
}

impl Serialize for TcpState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A word that names no TCP state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a TCP state; try ESTABLISHED, CLOSE_WAIT, SYN_RECV, …")]
pub struct UnknownState(String);

impl FromStr for TcpState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let word = text.trim().to_ascii_uppercase().replace('-', "_");
        NAMES
            .iter()
            .find(|(_, _, name, others)| *name == word || others.contains(&word.as_str()))
            .map(|(state, ..)| *state)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        for number in 0..=255 {
            assert_eq!(TcpState::from_number(number).number(), number);
        }
    }

    #[test]
    fn every_spelling_is_accepted() {
        for text in ["CLOSE_WAIT", "close-wait", "Close_Wait", "CLOSE-WAIT"] {
            assert_eq!(text.parse(), Ok(TcpState::CloseWait));
        }
        assert_eq!("syn-received".parse(), Ok(TcpState::SynReceived));
        assert_eq!("estab".parse(), Ok(TcpState::Established));
        assert_eq!("fin_wait_1".parse(), Ok(TcpState::FinWait1));
        assert!("SYN".parse::<TcpState>().is_err());
    }

    #[test]
    fn the_names_of_opentelemetry_are_accepted_and_mean_the_same() {
        for number in 1..=11 {
            let state = TcpState::from_number(number);
            assert_eq!(state.otel_name().parse(), Ok(state));
        }
        assert_eq!(TcpState::NewSynReceived.otel_name(), "syn_received");
        assert_eq!(TcpState::from_number(14).otel_name(), "state_14");
    }

    #[test]
    fn an_unknown_state_is_shown_by_number() {
        assert_eq!(TcpState::from_number(14).to_string(), "STATE_14");
    }
}

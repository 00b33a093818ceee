//! How long a socket has been in its state, from one look at it.
//!
//! The kernel keeps no such time. It follows from others that are next to it, and each rule here says why. What the
//! rules take for granted: an initial retransmission timeout of 1 s and a TIME_WAIT of 60 s, which are constants of
//! Linux (`TCP_TIMEOUT_INIT`, `TCP_TIMEWAIT_LEN`, `include/net/tcp.h`) that only a sock_ops program of somebody else
//! (`BPF_SOCK_OPS_TIMEOUT_INIT`) or a patched kernel changes.

use super::{SocketRow, TcpInfo, Timer};
use crate::state::TcpState;

/// How long a socket has been in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    /// Nanoseconds.
    pub ns: u64,
    /// Whether it is that long, to a tick or two of the kernel's clock; otherwise it is longer, or just as long.
    pub exact: bool,
}

/// The kernel counts in ticks of 1 to 10 ms (`CONFIG_HZ`): two readings are at most this far from the truth.
const TICK_MS: u64 = 10;
/// `TCP_TIMEOUT_INIT`
const INITIAL_TIMEOUT_MS: u64 = 1_000;
/// `TCP_RESOURCE_PROBE_INTERVAL`: the pause after a retransmission that this host itself had no room for.
const PROBE_INTERVAL_MS: u64 = 500;
/// `TCP_TIMEWAIT_LEN`
const TIME_WAIT_MS: u64 = 60_000;
/// `TCP_RTO_MAX` is 120 s, 2⁷ · 1 s the first pause above it.
const MAX_DOUBLINGS: u32 = 7;

impl Age {
    fn exact(ms: u64) -> Self {
        Self { ns: ms.saturating_mul(1_000_000), exact: true }
    }

    /// What was read may be a tick too much.
    fn at_least(ms: u64) -> Self {
        Self { ns: ms.saturating_sub(TICK_MS).saturating_mul(1_000_000), exact: false }
    }
}

/// How long the socket has been in its state, at the moment at which the row was read; `None` where nothing tells.
#[must_use]
pub fn age(row: &SocketRow) -> Option<Age> {
    match row.state {
        TcpState::NewSynReceived => request(row),
        TcpState::SynSent => syn_sent(row),
        TcpState::TimeWait => time_wait(row),
        TcpState::CloseWait => row.info.as_ref().map(close_wait),
        // Both times begin with the connection (`tcp_finish_connect`, `tcp_rcv_state_process`, `net/ipv4/tcp_input.c`)
        // and only move on. That of received data does not: a Fast Open child has it from its SYN.
        TcpState::Established => {
            row.info.map(|info| Age::at_least(info.last_data_sent_ms.max(info.last_ack_received_ms).into()))
        }
        // An ACK or FIN that passed `tcp_ack` led here, and what came since can only have moved the time on. The small
        // FIN_WAIT2 sockets of closed descriptors have no times, and the length of their timer is per socket
        // (`TCP_LINGER2`), which nobody shows.
        TcpState::FinWait2 | TcpState::Closing => {
            row.info.map(|info| Age::at_least(info.last_ack_received_ms.into()))
        }
        _ => None,
    }
}

/// CLOSE_WAIT begins with the peer's FIN. It came at or after the last data, as there is none behind it, and at or
/// before the last ACK, as it carried one itself: an interval, from the two times. Where it is a point, that is it.
///
/// Where it is not, the FIN is exact only if it was the last segment that came. Any later one moves the time: an ACK of
/// what the program still sends, an answer to a keep-alive, a window update of a peer that still reads, a repeated FIN.
/// Nothing counts those, but in a connection without any data in either direction the segments themselves can be
/// counted: SYN, ACK, FIN of one that came in, SYN-ACK, FIN of one that went out (which has its SYN acknowledged:
/// `bytes_acked`). A segment more, and it is a lower bound.
fn close_wait(info: &TcpInfo) -> Age {
    let (data, ack) = (u64::from(info.last_data_received_ms), u64::from(info.last_ack_received_ms));
    let is_point = data.abs_diff(ack) <= TICK_MS;
    let silent = info.data_segments_in == 0 && info.data_segments_out == 0;
    let fewest = if info.bytes_acked == 0 { 3 } else { 2 };
    let fin_was_last = silent && info.bytes_acked <= 1 && (1..=fewest).contains(&info.segments_in);
    if is_point || fin_was_last { Age::exact(ack) } else { Age::at_least(ack.min(data)) }
}

/// A half-open request: its timer ran for 1, 2, 4, … s, and was armed at the SYN (`reqsk_queue_hash_req`,
/// `net/ipv4/inet_connection_sock.c`).
///
/// That is no exact age, though, as the number of pauses is not shown: the client's own repetitions of its SYN count as
/// retransmissions too and start the pause anew (`tcp_check_req`, `net/ipv4/tcp_minisocks.c`), and with
/// `TCP_DEFER_ACCEPT` pauses go by without any (`syn_ack_recalc`). With `n` pauses over it is 2ⁿ⁺¹ − 1 s less what is
/// left, or older; and what is left shows the fewest that there were.
fn request(row: &SocketRow) -> Option<Age> {
    let left = u64::from(row.expires_ms);
    let pause = |doublings: u32| INITIAL_TIMEOUT_MS << doublings;
    let over = (0..=MAX_DOUBLINGS).find(|doublings| left <= pause(*doublings) + TICK_MS)?;
    (row.timer == Timer::Retransmit)
        .then(|| Age::at_least((pause(over + 1) - INITIAL_TIMEOUT_MS).saturating_sub(left)))
}

/// The timer was armed for 1 s at the SYN (`tcp_connect`, `net/ipv4/tcp_output.c`). Later pauses may be 1 s again
/// (`tcp_syn_linear_timeouts`, first kernel 6.5) or twice the last, and half a second where this host had no room.
fn syn_sent(row: &SocketRow) -> Option<Age> {
    let left = u64::from(row.expires_ms);
    if row.timer != Timer::Retransmit {
        return None;
    }
    Some(match row.retransmits {
        0 if (1..=INITIAL_TIMEOUT_MS).contains(&left) => Age::exact(INITIAL_TIMEOUT_MS - left),
        0 => Age::at_least(INITIAL_TIMEOUT_MS.saturating_sub(left)),
        more => Age::at_least(INITIAL_TIMEOUT_MS + u64::from(more - 1) * PROBE_INTERVAL_MS),
    })
}

/// The timer runs for 60 s, and starts anew when the peer repeats its FIN or sends anything else old
/// (`tcp_timewait_state_process`, `net/ipv4/tcp_minisocks.c`), which nothing shows.
fn time_wait(row: &SocketRow) -> Option<Age> {
    let left = u64::from(row.expires_ms);
    (row.timer == Timer::TimeWait && left <= TIME_WAIT_MS + TICK_MS)
        .then(|| Age::at_least(TIME_WAIT_MS.saturating_sub(left)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::sample::{INFO, row};

    fn timed(state: TcpState, timer: Timer, retransmits: u8, expires_ms: u32) -> Option<Age> {
        age(&SocketRow { timer, retransmits, expires_ms, ..row(state) })
    }

    fn told(state: TcpState, info: TcpInfo) -> Option<Age> {
        age(&SocketRow { info: Some(info), ..row(state) })
    }

    fn exact(ms: u64) -> Option<Age> {
        Some(Age::exact(ms))
    }

    fn at_least(ms: u64) -> Option<Age> {
        Some(Age { ns: ms * 1_000_000, exact: false })
    }

    #[test]
    fn close_wait_is_exact_when_data_and_fin_came_together() {
        let info = TcpInfo { last_data_received_ms: 7_004, last_ack_received_ms: 7_000, ..INFO };
        let talked = TcpInfo { data_segments_in: 9, data_segments_out: 9, segments_in: 40, ..info };
        assert_eq!(told(TcpState::CloseWait, talked), exact(7_000));
    }

    #[test]
    fn close_wait_is_exact_when_the_fin_was_the_last_of_three_segments() {
        let info = TcpInfo { last_data_received_ms: 90_000, last_ack_received_ms: 7_000, ..INFO };
        let passive = TcpInfo { segments_in: 3, ..info };
        assert_eq!(told(TcpState::CloseWait, passive), exact(7_000));
        assert_eq!(
            told(TcpState::CloseWait, TcpInfo { segments_in: 4, ..info }),
            at_least(6_990),
            "a keep-alive"
        );
        let active = TcpInfo { bytes_acked: 1, segments_in: 2, ..info };
        assert_eq!(told(TcpState::CloseWait, active), exact(7_000));
        assert_eq!(told(TcpState::CloseWait, TcpInfo { segments_in: 3, ..active }), at_least(6_990));
    }

    #[test]
    fn close_wait_is_a_lower_bound_when_something_may_have_come_since() {
        let info =
            TcpInfo { last_data_received_ms: 90_000, last_ack_received_ms: 7_000, segments_in: 3, ..INFO };
        for talked in [
            TcpInfo { data_segments_out: 1, ..info },
            TcpInfo { data_segments_in: 1, ..info },
            TcpInfo { segments_in: 0, ..info },
            TcpInfo { bytes_acked: 2, ..info },
        ] {
            assert_eq!(told(TcpState::CloseWait, talked), at_least(6_990), "{talked:?}");
        }
        assert_eq!(timed(TcpState::CloseWait, Timer::Off, 0, 0), None, "without TCP_INFO");
    }

    #[test]
    fn a_request_is_as_old_as_the_fewest_pauses_say() {
        let request =
            |retransmits, left| timed(TcpState::NewSynReceived, Timer::Retransmit, retransmits, left);
        assert_eq!(request(0, 700), at_least(290));
        assert_eq!(request(0, 1_700), at_least(1_290), "deferred: no retransmission, but the second pause");
        assert_eq!(request(1, 1_700), at_least(1_290));
        assert_eq!(request(1, 700), at_least(290), "its client may have repeated its SYN");
        assert_eq!(request(5, 31_000), at_least(31_990));
        assert_eq!(request(9, 400_000), None, "no pause is that long");
        assert_eq!(timed(TcpState::NewSynReceived, Timer::Off, 0, 0), None);
    }

    #[test]
    fn a_connect_is_exact_up_to_its_first_retransmission() {
        let connect = |retransmits, left| timed(TcpState::SynSent, Timer::Retransmit, retransmits, left);
        assert_eq!(connect(0, 700), exact(300));
        assert_eq!(connect(0, 0), at_least(990), "the timer is late, nobody knows how much");
        assert_eq!(connect(3, 100), at_least(1_990));
        assert_eq!(timed(TcpState::SynSent, Timer::Off, 0, 0), None);
    }

    #[test]
    fn time_wait_may_have_started_anew() {
        assert_eq!(timed(TcpState::TimeWait, Timer::TimeWait, 0, 40_000), at_least(19_990));
        assert_eq!(timed(TcpState::TimeWait, Timer::TimeWait, 0, 90_000), None, "another kernel's TIME_WAIT");
        assert_eq!(timed(TcpState::FinWait2, Timer::TimeWait, 0, 40_000), None);
    }

    #[test]
    fn other_states_have_lower_bounds_or_none() {
        let info =
            TcpInfo { last_data_sent_ms: 50, last_ack_received_ms: 40, last_data_received_ms: 99, ..INFO };
        assert_eq!(told(TcpState::Established, info), at_least(40));
        assert_eq!(told(TcpState::FinWait2, info), at_least(30));
        assert_eq!(told(TcpState::LastAck, info), None);
        assert_eq!(told(TcpState::Listen, info), None);
    }
}

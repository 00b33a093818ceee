//! How a connection ended, as its last event tells.

use super::{
    connection::Afterlife,
    errno::{ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, EPIPE, ETIMEDOUT},
};
use crate::{
    input::Event,
    report::{Ending, Role},
    state::TcpState,
};

/// How the connection ended whose last event this is; `None` where that cannot be told.
pub(super) fn ending(event: &Event, afterlife: Option<Afterlife>, role: Option<Role>) -> Option<Ending> {
    match event.error? {
        0 => without_error(event, afterlife, role),
        EPIPE | ECONNRESET => Some(Ending::ResetByPeer),
        ECONNREFUSED if event.old == TcpState::SynSent => Some(Ending::Refused),
        ECONNREFUSED => Some(Ending::ResetByPeer),
        ETIMEDOUT => Some(Ending::TimedOut),
        ENETUNREACH | EHOSTUNREACH => Some(Ending::Unreachable),
        ECONNABORTED => Some(Ending::Killed),
        _ => Some(Ending::Failed),
    }
}

fn without_error(event: &Event, afterlife: Option<Afterlife>, role: Option<Role>) -> Option<Ending> {
    match afterlife {
        Some(Afterlife::TimeWait) => return Some(Ending::TimeWait),
        Some(Afterlife::Orphan) => return Some(Ending::Orphaned),
        None => {}
    }
    let unread = event.bytes.map_or(0, |bytes| unread(event, bytes.unread));
    match event.old {
        TcpState::LastAck => Some(Ending::Closed),
        TcpState::SynSent => Some(Ending::GivenUp),
        // The kernel has reset the connection inside the program's own call (`__tcp_close`, `tcp_disconnect`).
        _ if event.task.is_some() && unread > 0 => Some(Ending::AbortedUnread),
        _ if event.task.is_some() && event.linger_zero => Some(Ending::LingerZero),
        _ if event.task.is_some() => Some(Ending::Disconnected),
        // Its listener was closed before anybody accepted it (`inet_csk_listen_stop`).
        TcpState::Established | TcpState::CloseWait | TcpState::SynReceived
            if role != Some(Role::Client) && event.file == Some(false) =>
        {
            Some(Ending::NeverAccepted)
        }
        // Data came for a program that had closed (`tcp_rcv_state_process`, TCPAbortOnData).
        TcpState::FinWait1 | TcpState::FinWait2 => Some(Ending::ResetByUs),
        _ => None,
    }
}

/// Bytes of data that the program has not read, of those that the queue holds.
pub(super) fn unread(event: &Event, unread: u32) -> u64 {
    u64::from(unread.saturating_sub(u32::from(peer_has_closed(event) && unread > 0)))
}

/// Whether the peer's FIN has come.
pub(super) fn peer_has_closed(event: &Event) -> bool {
    event.done == Some(true)
        || matches!(event.old, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing)
}

/// Payload sent and received, without the SYN and the FINs that the kernel's counters hold as one byte each
/// (`tcp_snd_una_update`, `tcp_rcv_nxt_update`, `net/ipv4/tcp_input.c`; a server's SYN is not among them).
pub(super) fn payload(event: &Event, acked: u64, received: u64, role: Option<Role>) -> (u64, u64) {
    let syn = u64::from(role == Some(Role::Client) && acked > 0);
    let own_fin = u64::from(match event.old {
        TcpState::FinWait2 | TcpState::Closing => true,
        TcpState::LastAck => event.error == Some(0),
        _ => false,
    });
    let peer_fin = u64::from(received > 0 && peer_has_closed(event));
    (acked.saturating_sub(syn + own_fin), received.saturating_sub(peer_fin))
}

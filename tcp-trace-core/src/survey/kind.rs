//! Whose fault a socket in CLOSE_WAIT is.

use serde::Serialize;

use super::SocketRow;
use crate::state::TcpState;

/// What a program did, or did not, since its peer closed. The FIN counts as one byte of the receive queue
/// (`rcv_nxt − copied_seq`) until it is read, by all kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseWaitKind {
    /// It read everything, or at least up to the end of stream, and did not call `close()`.
    ForgotClose,
    /// It read all data, and has not looked since the end of stream came.
    NeverLooked,
    /// Data waits to be read.
    UnreadData,
    /// Nobody accepted the connection.
    NeverAccepted,
}

impl CloseWaitKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::ForgotClose, Self::NeverLooked, Self::UnreadData, Self::NeverAccepted];

    /// Of a socket; `None` in another state.
    #[must_use]
    pub fn of(row: &SocketRow) -> Option<Self> {
        (row.state == TcpState::CloseWait).then_some(match (row.inode, row.receive_queue) {
            (None, _) => Self::NeverAccepted,
            (_, 0) => Self::ForgotClose,
            (_, 1) => Self::NeverLooked,
            _ => Self::UnreadData,
        })
    }

    /// What is to be shown to people.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::ForgotClose => "close() forgotten",
            Self::NeverLooked => "not read since the peer closed",
            Self::UnreadData => "data not read",
            Self::NeverAccepted => "never accepted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::sample::row;

    #[test]
    fn the_queue_tells() {
        let kind = |inode, receive_queue| {
            CloseWaitKind::of(&SocketRow { inode, receive_queue, ..row(TcpState::CloseWait) })
        };
        assert_eq!(kind(Some(1), 0), Some(CloseWaitKind::ForgotClose));
        assert_eq!(kind(Some(1), 1), Some(CloseWaitKind::NeverLooked));
        assert_eq!(kind(Some(1), 2), Some(CloseWaitKind::UnreadData));
        assert_eq!(kind(None, 1), Some(CloseWaitKind::NeverAccepted));
        assert_eq!(CloseWaitKind::of(&row(TcpState::Established)), None);
    }
}

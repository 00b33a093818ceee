//! What a survey is for, and what is asked for then.

use tcp_trace_core::{state::TcpState, survey::scope};

use super::sock_diag::{Dump, States};

/// What a survey is for; each looks at more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Half-open requests, and only if there are any.
    Requests,
    /// What a report needs.
    Report,
    /// Everything: at the start, and after a loss.
    All,
}

impl Scope {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => scope::ALL,
            Self::Report => scope::REPORT,
            Self::Requests => scope::REQUESTS,
        }
    }

    pub(super) fn states(self) -> States {
        const REQUESTS: TcpState = TcpState::NewSynReceived;
        match self {
            // A socket that is only bound has made no transition yet, and the kernel has another table of those.
            Self::All => States::ALL.without(States::of(&[TcpState::BoundInactive])),
            Self::Report => {
                States::of(&[TcpState::Listen, REQUESTS, TcpState::CloseWait, TcpState::TimeWait])
            }
            Self::Requests => States::of(&[REQUESTS]),
        }
    }

    /// What is asked for first, if it is not all asked for at once: most sockets are established, and `TCP_INFO`, which
    /// says nothing of those that a report shows, takes half as long again for each. In the order in which a socket
    /// moves: one that moves in between is listed twice and not left out, but for those whose events are seen.
    pub(super) fn first(self) -> Option<Dump> {
        const FIRST: [TcpState; 5] = [
            TcpState::SynSent,
            TcpState::SynReceived,
            TcpState::Established,
            TcpState::FinWait1,
            TcpState::LastAck,
        ];
        (self == Self::All).then(|| Dump { states: States::of(&FIRST), info: false, netns: 0 })
    }

    /// What is asked for then: what a report needs is among it.
    pub(super) fn then(self) -> Dump {
        let first = self.first().map_or(States::of(&[]), |first| first.states);
        Dump { states: self.states().without(first), info: self != Self::Requests, netns: 0 }
    }
}

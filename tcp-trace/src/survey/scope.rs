//! What a survey is for, and what is asked for then.

use tcp_trace_core::{state::TcpState, survey::scope};

use super::{
    netstat,
    sock_diag::{Dump, States},
};

/// Sockets of a namespace that are all listed for each report, with their `TCP_INFO`: some 20 ms.
const FEW: u64 = 16_384;

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
        use TcpState::{CloseWait, Closing, FinWait1, FinWait2, LastAck, Listen, NewSynReceived, TimeWait};
        match self {
            // A socket that is only bound has made no transition yet, and the kernel has another table of those.
            Self::All => States::ALL.without(States::of(&[TcpState::BoundInactive])),
            Self::Report => States::of(&[
                Listen,
                NewSynReceived,
                CloseWait,
                TimeWait,
                FinWait1,
                FinWait2,
                Closing,
                LastAck,
            ]),
            Self::Requests => States::of(&[NewSynReceived]),
        }
    }

    /// What is asked for first of the calling thread's namespace, if it is not all asked for at once: most sockets are
    /// established, and `TCP_INFO`, which says little of those, takes half as long again for each. In the order in which
    /// a socket moves: one that moves in between is listed twice and not left out, but for those whose events are seen.
    pub(super) fn first(self) -> Option<Dump> {
        (self == Self::All).then(|| Dump { states: States::of(&FIRST), info: has_few(), netns: 0 })
    }

    /// What is asked for then: what a report needs is among it. For a report also what is established, where that is
    /// little, as it takes a look to tell who holds a connection on which nothing happens.
    pub(super) fn then(self) -> Dump {
        let states = match self {
            Self::All => self.states().without(States::of(&FIRST)),
            Self::Report if has_few() => self.states().and(TcpState::Established),
            Self::Report | Self::Requests => self.states(),
        };
        Dump { states, info: self != Self::Requests, netns: 0 }
    }
}

const FIRST: [TcpState; 5] =
    [TcpState::SynSent, TcpState::SynReceived, TcpState::Established, TcpState::FinWait1, TcpState::LastAck];

/// Whether the calling thread's namespace has few sockets.
fn has_few() -> bool {
    netstat::in_use().is_some_and(|sockets| sockets <= FEW)
}

//! A transition as both programs print it.

use std::net::IpAddr;

/// The states, by their numbers in the kernel.
const STATES: [&str; 13] = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// `CLOSE`.
pub(super) const CLOSE: State = State(7);
/// `LISTEN`.
pub(super) const LISTEN: State = State(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State(u8);

impl State {
    fn parse(text: &str) -> Option<Self> {
        let number = STATES.iter().position(|name| *name == text && !name.is_empty())?;
        u8::try_from(number).ok().map(Self)
    }

    pub(super) fn name(self) -> &'static str {
        STATES.get(usize::from(self.0)).copied().unwrap_or("?")
    }
}

/// Address and port; a v4-mapped address is the IPv4 address that it maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

impl End {
    fn parse(address: &str, port: &str) -> Option<Self> {
        Some(Self { address: address.parse::<IpAddr>().ok()?.to_canonical(), port: port.parse().ok()? })
    }
}

/// What both tell of a transition; whose it was they tell differently, and on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Transition {
    /// The kernel's address of the socket.
    pub(super) socket: u64,
    pub(super) old: State,
    pub(super) new: State,
    pub(super) local: End,
    pub(super) peer: End,
}

impl Transition {
    /// A line of `tcpstates -w`: `SKADDR PID COMM IP LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS`, read from its end,
    /// because a name may have spaces in it.
    pub(super) fn of_tcpstates(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [head @ .., _ip, laddr, lport, raddr, rport, old, "->", new, _ms] = words.as_slice() else {
            return None;
        };
        Self::of(head.first()?, [laddr, lport, raddr, rport, old, new])
    }

    /// A line of `tcp-trace stream --csv`: `SKADDR,PID,COMM,IP,LADDR,LPORT,RADDR,RPORT,OLDSTATE,NEWSTATE,MS`.
    pub(super) fn of_ours(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(',').collect();
        let [head @ .., _ip, laddr, lport, raddr, rport, old, new, _ms] = words.as_slice() else {
            return None;
        };
        Self::of(head.first()?, [laddr, lport, raddr, rport, old, new])
    }

    fn of(socket: &str, [laddr, lport, raddr, rport, old, new]: [&str; 6]) -> Option<Self> {
        Some(Self {
            socket: u64::from_str_radix(socket, 16).ok()?,
            old: State::parse(old)?,
            new: State::parse(new)?,
            local: End::parse(laddr, lport)?,
            peer: End::parse(raddr, rport)?,
        })
    }

    /// Whether a socket's life, or that of a connection, may begin with it.
    pub(super) fn is_birth(&self) -> bool {
        self.old == CLOSE || self.old == LISTEN
    }
}

impl std::fmt::Display for Transition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { socket, old, new, local, peer } = self;
        write!(
            f,
            "{socket:x} {}:{} {}:{} {} -> {}",
            local.address,
            local.port,
            peer.address,
            peer.port,
            old.name(),
            new.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_printing_are_read_alike() {
        let theirs = "ffff888141552500 8140    Web Content      6  ::ffff:127.0.0.1                        8080  \
                      ::ffff:127.0.0.1                        56566 SYN_RECV    -> ESTABLISHED 0.041";
        let ours =
            "ffff888141552500,8140,\"a,b\",4,127.0.0.1,8080,127.0.0.1,56566,SYN_RECV,ESTABLISHED,0.041";
        let transition = Transition::of_ours(ours).unwrap();
        assert_eq!(Transition::of_tcpstates(theirs), Some(transition));
        assert_eq!(
            transition.to_string(),
            "ffff888141552500 127.0.0.1:8080 127.0.0.1:56566 SYN_RECV -> ESTABLISHED"
        );
    }

    #[test]
    fn headers_and_halves_of_lines_are_none() {
        assert_eq!(
            Transition::of_ours("SKADDR,PID,COMM,IP,LADDR,LPORT,RADDR,RPORT,OLDSTATE,NEWSTATE,MS"),
            None
        );
        assert_eq!(
            Transition::of_tcpstates("ffff888141552500 8140 x 4 127.0.0.1 80 127.0.0.1 1 SYN_RECV ->"),
            None
        );
        assert_eq!(Transition::of_ours("f,1,x,4,127.0.0.1,80,127.0.0.1,1,SYN_RECV,NEVER,-"), None);
    }
}

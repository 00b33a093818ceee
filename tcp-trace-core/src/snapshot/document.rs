//! The snapshot document, `tcp-trace.snapshot/1`.

use serde::Serialize;

use crate::{
    endpoint::{Endpoint, Family},
    session::{Degradation, Host},
    state::TcpState,
    survey::{CloseWaitKind, ContainerFacts, NamespaceFacts},
    time::WallTime,
};

/// The value of `schema`.
pub const SCHEMA: &str = "tcp-trace.snapshot/1";

/// The sockets of one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The host.
    pub host: Host,
    /// The moment.
    pub time: WallTime,
    /// What could not be looked at, why, and how to get it.
    pub degradations: Vec<Degradation>,
    /// How many sockets are in which state.
    pub states: Vec<StateCount>,
    /// The sockets by owner and state, most first.
    pub groups: Vec<Group>,
    /// Listeners and their queues, fullest first.
    pub listeners: Vec<Listener>,
    /// The network namespaces that were looked at.
    pub namespaces: Vec<NamespaceFacts>,
    /// Each socket; `None` where they were not asked for.
    pub sockets: Option<Vec<Socket>>,
}

/// A state and how many sockets are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// The state.
    pub state: TcpState,
    /// How many.
    pub count: u64,
}

/// How a socket and processes belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerState {
    /// One process has a descriptor of it.
    Held,
    /// Several have.
    Shared,
    /// The handshake is done and nobody has accepted the connection: the listener's owner has it to answer for.
    NeverAccepted,
    /// The handshake is not done: it is the listener's.
    HalfOpen,
    /// The descriptor is closed and the kernel does the rest.
    Orphaned,
    /// It has a file, and no process has a descriptor of that: it is on its way through a UNIX socket, or the kernel
    /// holds it, for io_uring or for itself.
    InFlight,
    /// It has a file, and not all processes' descriptors may be looked at.
    NotPermitted,
}

impl OwnerState {
    /// What is to be shown to people where there is no process to show; of a socket that has one it is a remark.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Shared => "shared",
            Self::NeverAccepted => "never accepted",
            Self::HalfOpen => "half-open",
            Self::Orphaned => "orphaned: closed by its program",
            Self::InFlight => "in flight over a UNIX socket, or held by the kernel (io_uring)",
            Self::NotPermitted => "not permitted to look",
        }
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Process id; the other fields are `None` of one that is gone, or where that is not permitted.
    pub pid: u32,
    /// Its name.
    pub comm: Option<String>,
    /// Its executable.
    pub exe: Option<String>,
    /// Its command line.
    pub cmdline: Option<Vec<String>>,
    /// Its user, by name or number.
    pub user: Option<String>,
    /// When it started.
    pub start_time: Option<WallTime>,
    /// How many descriptors it has.
    pub fds: Option<u64>,
    /// How many it may have.
    pub nofile: Option<u64>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// Its container.
    pub container: Option<ContainerFacts>,
}

/// Where a container is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerSource {
    /// From the process.
    Process,
    /// From the cgroup that the socket was made in.
    Cgroup,
    /// Inferred: all processes known in its network namespace are in that container.
    Netns,
}

/// Sockets of the same owner in the same state.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Who holds them; of what is never accepted or half-open, who holds the listener. Empty where that is nobody, or not
    /// known.
    pub processes: Vec<Process>,
    /// How they belong together.
    pub owner_state: OwnerState,
    /// The state.
    pub state: TcpState,
    /// How many.
    pub count: u64,
    /// Age of the oldest, as far as is known.
    pub oldest_ns: Option<u64>,
    /// Whether it is that old exactly: then every age of the group is exact.
    pub oldest_exact: Option<bool>,
    /// Bytes not read yet, of all together; `None` where there is no such queue.
    pub receive_queue: Option<u64>,
    /// Bytes not acknowledged yet, of all together; `None` where there is no such queue.
    pub send_queue: Option<u64>,
    /// Whose fault; `None` outside of CLOSE_WAIT.
    pub kinds: Option<Kinds>,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// The container.
    pub container: Option<ContainerFacts>,
    /// Where that is known from; with `Process` and without a container they are the host's own.
    pub container_source: Option<ContainerSource>,
}

/// Sockets in CLOSE_WAIT by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kinds {
    /// See [`CloseWaitKind::ForgotClose`].
    pub forgot_close: u64,
    /// See [`CloseWaitKind::NeverLooked`].
    pub never_looked: u64,
    /// See [`CloseWaitKind::UnreadData`].
    pub unread_data: u64,
    /// See [`CloseWaitKind::NeverAccepted`].
    pub never_accepted: u64,
}

impl Kinds {
    /// One more of a kind.
    pub(super) fn add(&mut self, kind: CloseWaitKind) {
        match kind {
            CloseWaitKind::ForgotClose => self.forgot_close += 1,
            CloseWaitKind::NeverLooked => self.never_looked += 1,
            CloseWaitKind::UnreadData => self.unread_data += 1,
            CloseWaitKind::NeverAccepted => self.never_accepted += 1,
        }
    }

    /// How many of a kind.
    #[must_use]
    pub fn of(&self, kind: CloseWaitKind) -> u64 {
        match kind {
            CloseWaitKind::ForgotClose => self.forgot_close,
            CloseWaitKind::NeverLooked => self.never_looked,
            CloseWaitKind::UnreadData => self.unread_data,
            CloseWaitKind::NeverAccepted => self.never_accepted,
        }
    }
}

/// A listening address and what waits there.
#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    /// The address.
    pub local: Endpoint,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// How many sockets listen there: more than one with `SO_REUSEPORT`.
    pub sockets: u64,
    /// Who holds them.
    pub processes: Vec<Process>,
    /// Connections that wait to be accepted.
    pub accept_queue: Queue,
    /// Half-open requests; `None` where they were not listed.
    pub syn_queue: Option<u64>,
    /// The container.
    pub container: Option<ContainerFacts>,
    /// Where that is known from.
    pub container_source: Option<ContainerSource>,
}

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// How many are in it.
    pub length: u64,
    /// The listeners' `backlog`: the queue is full with one more.
    pub limit: u64,
}

/// A process's descriptors of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SocketHolder {
    /// Process id.
    pub pid: u32,
    /// Its name; `None` of one that is gone.
    pub comm: Option<String>,
    /// Its descriptors.
    pub fds: Vec<u32>,
}

/// A socket.
#[derive(Clone, Debug, Serialize)]
pub struct Socket {
    /// The kernel's socket cookie.
    pub cookie: u64,
    /// The state.
    pub state: TcpState,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// What the two speak.
    pub family: Family,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Inode number of its file; `None` without one.
    pub inode: Option<u32>,
    /// How it and processes belong together.
    pub owner_state: OwnerState,
    /// Who holds it; of what is never accepted or half-open, who holds the listener (the descriptors are its).
    pub holders: Vec<SocketHolder>,
    /// How long it has been in its state.
    pub age_ns: Option<u64>,
    /// Whether it is that long exactly, or longer.
    pub age_exact: Option<bool>,
    /// Bytes not read yet, a FIN counting as one; of a listener, connections waiting to be accepted.
    pub receive_queue: Option<u32>,
    /// Bytes not acknowledged yet; of a listener, its `backlog`.
    pub send_queue: Option<u32>,
    /// Whose fault; `None` outside of CLOSE_WAIT.
    pub kind: Option<CloseWaitKind>,
    /// Id of the cgroup that it was made in.
    pub cgroup_id: Option<u64>,
    /// The container.
    pub container: Option<ContainerFacts>,
    /// Where that is known from.
    pub container_source: Option<ContainerSource>,
    /// Smoothed round-trip time.
    pub srtt_ns: Option<u64>,
    /// Retransmissions in its life.
    pub retransmits: Option<u32>,
}

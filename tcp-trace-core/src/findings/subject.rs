//! What a finding is about.

use std::{fmt, net::IpAddr};

use serde::Serialize;

use crate::{
    endpoint::Endpoint,
    process::{Comm, printable},
    report::ProcessIdentity,
    survey::ContainerFacts,
};

/// What a finding is about. A process that is not known is `None`, and never somebody else.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A process.
    Process {
        /// Which; `None`: the sockets of unknown owners.
        process: Option<Box<ProcessIdentity>>,
    },
    /// A container.
    Container {
        /// Which.
        container: Box<ContainerFacts>,
    },
    /// A listener.
    Listener {
        /// Where it listens; `None` sums up those that the table had no room for.
        local: Option<Endpoint>,
        /// Network namespace.
        netns: Option<u32>,
        /// Whose it is.
        process: Option<Box<ProcessIdentity>>,
    },
    /// Somewhere that connections are made to.
    Destination {
        /// Where; `None` sums up those that the table had no room for.
        peer: Option<Endpoint>,
        /// Who connects; `None`: several processes, or nobody knows.
        process: Option<Box<ProcessIdentity>>,
    },
    /// The local ports between a local address and a destination.
    LocalPorts {
        /// Network namespace.
        netns: u32,
        /// Local address.
        local: IpAddr,
        /// Destination.
        peer: Endpoint,
        /// Who closes first, if it is one process.
        process: Option<Box<ProcessIdentity>>,
    },
    /// A network namespace.
    Namespace {
        /// Inode number.
        netns: u32,
        /// Its name, if `ip netns` knows it.
        name: Option<String>,
    },
}

impl Subject {
    /// A process.
    pub(super) fn process(process: Option<&ProcessIdentity>) -> Self {
        Self::Process { process: boxed(process) }
    }

    /// The container that it is, or that its process is in; `None` for the host, and where it is not known.
    #[must_use]
    pub fn container(&self) -> Option<&ContainerFacts> {
        match self {
            Self::Container { container } => Some(container),
            _ => self.owner()?.container.as_ref(),
        }
    }

    /// The process that it is, or whose it is; `None` where that is not known.
    #[must_use]
    pub fn owner(&self) -> Option<&ProcessIdentity> {
        match self {
            Self::Process { process }
            | Self::Listener { process, .. }
            | Self::Destination { process, .. }
            | Self::LocalPorts { process, .. } => process.as_deref(),
            Self::Container { .. } | Self::Namespace { .. } => None,
        }
    }

    /// What tells it from any other subject. A process is its number and its start; what else is known of it may change.
    pub(crate) fn key(&self) -> String {
        let id = |process: &Option<Box<ProcessIdentity>>| match process {
            Some(process) => format!("{} {:?}", process.pid, process.start_time),
            None => "-".to_owned(),
        };
        let end = |end: &Option<Endpoint>| end.map_or_else(|| "-".to_owned(), |end| end.to_string());
        match self {
            Self::Process { process } => format!("process {}", id(process)),
            Self::Container { container } => format!("container {}", container.id),
            Self::Listener { local, netns, process: _ } => format!("listener {netns:?} {}", end(local)),
            Self::Destination { peer, process } => format!("destination {} {}", end(peer), id(process)),
            Self::LocalPorts { netns, local, peer, process: _ } => format!("ports {netns} {local} {peer}"),
            Self::Namespace { netns, name: _ } => format!("namespace {netns}"),
        }
    }
}

/// Whether two identities are of one process: its number and its start. What else is known of it may differ.
pub(super) fn same(a: Option<&ProcessIdentity>, b: Option<&ProcessIdentity>) -> bool {
    let id = |process: &ProcessIdentity| (process.pid, process.start_time);
    a.map(id) == b.map(id)
}

pub(super) fn boxed(process: Option<&ProcessIdentity>) -> Option<Box<ProcessIdentity>> {
    process.cloned().map(Box::new)
}

/// A name in a sentence: a backtick in it would pair with that of a command, and have something else taken for the command.
pub(super) fn named(name: &str) -> String {
    printable(name).replace('`', "\\u{60}")
}

/// `nginx (1234)`, or that it is not known.
pub(super) fn who(process: Option<&ProcessIdentity>) -> String {
    let Some(process) = process else { return "an unknown process".to_owned() };
    let name = process.comm.as_ref().map_or_else(|| "?".to_owned(), |comm| named(&Comm::to_string(comm)));
    format!("{name} ({})", process.pid)
}

/// In a line of text; nothing of it can disturb a terminal.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: &Option<Endpoint>| end.map_or_else(|| "others".to_owned(), |end| end.to_string());
        match self {
            Self::Process { process } => f.write_str(&who(process.as_deref())),
            Self::Container { container } => {
                let name = container.name.as_deref().unwrap_or(&container.id);
                write!(f, "container {}", named(name))
            }
            Self::Listener { local, netns: _, process } => {
                write!(f, "listener {} of {}", end(local), who(process.as_deref()))
            }
            Self::Destination { peer, process: None } => write!(f, "destination {}", end(peer)),
            Self::Destination { peer, process } => write!(f, "{} → {}", who(process.as_deref()), end(peer)),
            Self::LocalPorts { netns: _, local, peer, process: _ } => write!(f, "ports of {local} → {peer}"),
            Self::Namespace { netns, name } => match name {
                Some(name) => write!(f, "network namespace {}", named(name)),
                None => write!(f, "network namespace {netns}"),
            },
        }
    }
}

//! Doors for the fuzz targets (`tcp-trace/fuzz`) to the parsers of what `/proc` and other people's programs write.

use tcp_trace_core::survey::{ContainerFacts, SocketCounters};

use super::{containers, namespaces, netstat, proc, processes, users};

/// What the files of a process say of it.
#[derive(Debug)]
pub struct Process {
    /// `stat`: when it started, nanoseconds.
    pub start_ns: Option<u64>,
    /// `status`: effective user and thread group.
    pub status: Option<(u32, u32)>,
    /// `limits`: descriptors.
    pub nofile: Option<u64>,
}

/// Takes a text for each of them.
#[must_use]
pub fn process(text: &str) -> Process {
    Process {
        start_ns: processes::parse_start(text),
        status: processes::parse_status(text),
        nofile: processes::parse_nofile(text),
    }
}

/// The words of a command line.
#[must_use]
pub fn words(cmdline: &[u8]) -> Vec<String> {
    processes::words(cmdline)
}

/// The inode number in a link.
#[must_use]
pub fn inode(link: &[u8]) -> Option<u32> {
    proc::inode(link, b"socket")
}

/// `/proc/net/snmp` and `netstat`.
#[must_use]
pub fn counters(text: &str) -> Option<SocketCounters> {
    netstat::counters(text)
}

/// A range of ports.
#[must_use]
pub fn pair(text: &str) -> Option<(u16, u16)> {
    netstat::pair(text)
}

/// How many users a `passwd` has, and how many namespaces a `mountinfo`.
#[must_use]
pub fn tables(text: &str) -> (usize, usize) {
    (users::parse(text).len(), namespaces::mounted(text).count())
}

/// What the documents of container runtimes would add to the facts of a container.
#[must_use]
pub fn documents(bytes: &[u8]) -> Vec<ContainerFacts> {
    containers::documents(bytes)
}

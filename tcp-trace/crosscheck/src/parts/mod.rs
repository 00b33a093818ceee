//! What is compared, a file for each peer.

mod counters;
mod ss;
mod tcpdump;
mod tcpstates;

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    check::{Check, Outcome},
    workloads,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Tcpstates,
    Ss,
    Counters,
    Tcpdump,
    Web,
    Redis,
    Postgres,
    Runtimes,
    Containers,
    Namespaces,
}

impl Part {
    pub(crate) const ALL: &[Self] = &[
        Self::Tcpstates,
        Self::Ss,
        Self::Counters,
        Self::Tcpdump,
        Self::Web,
        Self::Redis,
        Self::Postgres,
        Self::Runtimes,
        Self::Containers,
        Self::Namespaces,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcpstates => "tcpstates",
            Self::Ss => "ss",
            Self::Counters => "counters",
            Self::Tcpdump => "tcpdump",
            Self::Web => "web",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Runtimes => "runtimes",
            Self::Containers => "containers",
            Self::Namespaces => "namespaces",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Tcpstates => "every transition, beside libbpf-tools' tcpstates",
            Self::Ss => "sockets, states, queues and owners, beside ss",
            Self::Counters => "counts, beside the kernel's own counters",
            Self::Tcpdump => "times of handshakes, beside what tcpdump captures",
            Self::Web => "nginx, haproxy, wrk and curl at work",
            Self::Redis => "redis at work",
            Self::Postgres => "PostgreSQL at work",
            Self::Runtimes => "servers in Java, Node.js and asyncio at work, over IPv4, IPv6 and both",
            Self::Containers => "containers of podman, on the host's network and on their own",
            Self::Namespaces => "two hundred network namespaces with a connection each",
        }
    }

    pub(crate) fn run(self, check: &Check) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let run = match self {
            Self::Tcpstates => tcpstates::run,
            Self::Ss => ss::run,
            Self::Counters => counters::run,
            Self::Tcpdump => tcpdump::run,
            Self::Web => workloads::web::run,
            Self::Redis => workloads::redis::run,
            Self::Postgres => workloads::postgres::run,
            Self::Runtimes => workloads::runtimes::run,
            Self::Containers => workloads::containers::run,
            Self::Namespaces => workloads::namespaces::run,
        };
        run(check, &mut outcome)?;
        Ok(outcome)
    }
}

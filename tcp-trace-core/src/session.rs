//! What a run was: the facts that every record of it shares. A recording's header is this, as JSON.

use serde::{Deserialize, Serialize};

use crate::{
    filter::FilterSpec,
    time::{ClockAnchor, Timestamp},
};

/// Facts of one run of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Version of the program that ran.
    pub program: String,
    /// Process id of the program, as the kernel's programs see it; `None` where that is not known.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The host.
    pub host: Host,
    /// Ties kernel timestamps to the wall clock.
    pub anchor: ClockAnchor,
    /// When the main program was attached: what happened before was not seen.
    pub started: Timestamp,
    /// How the main program was attached.
    pub attach: Attach,
    /// Whether requests were watched from their SYN on (`half_open`).
    pub half_open: bool,
    /// The other programs that were attached, by name, in alphabetical order.
    pub programs: Vec<String>,
    /// The filter in force.
    pub filter: FilterSpec,
    /// Size of the ring buffer.
    pub buffer_bytes: u64,
    /// What could not be had, why, and how to get it.
    pub degradations: Vec<Degradation>,
}

/// The host that was traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// `uname -r`.
    pub kernel: String,
    /// `/proc/sys/kernel/random/boot_id`; `None` where it cannot be read.
    pub boot_id: Option<String>,
}

/// How the main program hangs on `inet_sock_set_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// BTF-typed raw tracepoint: the socket itself is readable.
    TpBtf,
    /// Perf tracepoint: only the record's own fields.
    Tracepoint,
}

impl Attach {
    /// The name used on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// Something that this run does without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degradation {
    /// What is missing, as a short stable word: `tp_btf`, `half_open`, `snapshot`, …
    pub feature: String,
    /// Why, and what that means for the numbers.
    pub reason: String,
    /// How to get it; `None` where nothing helps.
    pub remedy: Option<String>,
}

/// Programs that hang on a kernel function rather than on a tracepoint: what a locked-down kernel refuses.
const TRACING: [&str; 5] = ["accepted", "request_dropped", "request_queued", "request_timer", "time_wait"];

impl Session {
    /// Whether every half-open request is watched from its SYN on, by one program or another.
    #[must_use]
    pub fn watches_requests(&self) -> bool {
        self.half_open || self.programs.iter().any(|name| name == "request_queued")
    }

    /// Whether stacks are taken of who opens connections.
    #[must_use]
    pub fn takes_stacks(&self) -> bool {
        self.programs.iter().any(|name| name == "stack_state")
    }

    /// The tiers of sources that are on.
    #[must_use]
    pub fn tiers(&self) -> Vec<&'static str> {
        let mut tiers = vec!["tracepoint"];
        if self.attach == Attach::TpBtf {
            tiers.push("btf");
        }
        if self.half_open {
            tiers.push("sock_ops");
        }
        if self.programs.iter().any(|name| TRACING.contains(&name.as_str())) {
            tiers.push("fentry");
        }
        tiers
    }
}

//! What the agent knows of itself. Whatever is `None` is not known, and not exposed.

use crate::time::WallTime;

/// tcp-trace's own health, beyond what reports say of it. Counters are of the whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own {
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from.
    pub revision: Option<String>,
    /// When the process was started.
    pub started: Option<WallTime>,
    /// CPU time, user and system.
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Reloads that were applied, and that were refused; `None` where there are none.
    pub reloads: Option<(u64, u64)>,
    /// The sinks, as the configuration has them.
    pub sinks: Vec<SinkHealth>,
}

/// A sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkHealth {
    /// Its name in the configuration.
    pub name: String,
    /// Documents that wait.
    pub queued: u64,
    /// How many may.
    pub queue_limit: u64,
    /// Documents sent.
    pub sent: u64,
    /// Documents that the queue had no room for.
    pub dropped: u64,
    /// Documents that the rate of an identity did not allow.
    pub limited: u64,
    /// Documents that the other side refused for good.
    pub refused: u64,
    /// Attempts that failed; what they held is offered again.
    pub failures: u64,
}

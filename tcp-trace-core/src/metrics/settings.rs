//! What of the catalogue is told, and how finely.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

/// `[metrics]`. Every label set is bounded: what does not fit is in a series of its own, `other`, and no sum loses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What tells sockets of one owner from those of another: `container` (namespace and container, or systemd unit),
    /// `process` (and the process's name), or `pod` (and the pod). Default `process`.
    pub identities: Identities,
    /// The most owners that a metric tells apart. Default 20.
    pub max_owners: NonZeroUsize,
    /// The most listeners that a metric tells apart. Default 10.
    pub max_listeners: NonZeroUsize,
    /// The most ports of destinations that a metric tells apart. Default 10.
    pub max_destinations: NonZeroUsize,
    /// After so many seconds without any change the series of an owner, listener or destination is taken away from a
    /// counter. In that time no more series can come than there is room for at once. Default 300, which is how long
    /// Prometheus looks back.
    pub stale_after_s: u64,
    /// Whether time in state is told: eleven series a state. Default true.
    pub state_durations: bool,
}

/// What tells sockets of one owner from those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identities {
    /// Namespace and container, or systemd unit.
    Container,
    /// And the name of the process.
    #[default]
    Process,
    /// And the pod. Each deploy has new ones.
    Pod,
}

const fn at_most(count: usize) -> NonZeroUsize {
    match NonZeroUsize::new(count) {
        Some(count) => count,
        None => NonZeroUsize::MIN,
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            identities: Identities::default(),
            max_owners: at_most(20),
            max_listeners: at_most(10),
            max_destinations: at_most(10),
            stale_after_s: 300,
            state_durations: true,
        }
    }
}

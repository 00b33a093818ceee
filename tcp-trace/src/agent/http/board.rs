//! What the answers are made from.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tcp_trace_core::metrics::Snapshot;

/// The agent is well as long as its main loop has turned within this.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);

/// What the answers are made from; the main loop keeps it up to date.
#[derive(Debug)]
pub struct Board {
    metrics: RwLock<Option<Arc<Snapshot>>>,
    ready: AtomicBool,
    began: Instant,
    /// When the main loop has turned last, in milliseconds since `began`.
    turned: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            metrics: RwLock::default(),
            ready: AtomicBool::new(false),
            began: Instant::now(),
            turned: AtomicU64::new(0),
        }
    }
}

impl Board {
    /// The main loop has turned.
    pub fn turn(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned.store(since, Relaxed);
    }

    /// Whether the main loop turns.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        since.saturating_sub(self.turned.load(Relaxed)) < ALIVE_WITHIN.as_millis() as u64
    }

    /// The first look at the host is in the numbers.
    pub fn is_ready_now(&self) {
        self.ready.store(true, Relaxed);
    }

    /// Whether it is.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// Takes the metrics of a moment.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        *self.metrics.write().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    pub(super) fn metrics(&self) -> Option<Arc<Snapshot>> {
        self.metrics.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Attempts to connect that failed: whose they were, and where to.

use rustc_hash::FxHashMap;

use super::super::connection::Attempt;
use crate::{
    endpoint::Endpoint,
    process::{Owner, ProcessId},
    time::Timestamp,
};

/// A program that gives up sooner may only have raced two addresses (RFC 8305), and taken the one that answered first;
/// later it has sent its SYN twice for nothing (`TCP_TIMEOUT_INIT`, `include/net/tcp.h`).
const PATIENCE_NS: u64 = 1_000_000_000;

/// By process and destination: `None` where the one is not known, or the other is one of those that the table of
/// destinations had no room for.
type Who = (Option<ProcessId>, Option<Endpoint>);

/// The failures of a window. Healthy hosts have none, so that it costs them nothing.
#[derive(Debug, Default)]
pub(in crate::tracker) struct Failing {
    pub(in crate::tracker) rows: FxHashMap<Who, Failures>,
    /// Failures that there was no room for.
    pub(in crate::tracker) dropped: u64,
}

/// What became of the attempts of one process to one destination.
#[derive(Clone, Copy, Debug)]
pub(in crate::tracker) struct Failures {
    pub(in crate::tracker) owner: Option<Owner>,
    /// Answered, since the first failure.
    pub(in crate::tracker) answered: u64,
    pub(in crate::tracker) refused: u64,
    pub(in crate::tracker) timed_out: u64,
    pub(in crate::tracker) unreachable: u64,
    pub(in crate::tracker) reset: u64,
    pub(in crate::tracker) given_up: u64,
    pub(in crate::tracker) no_port: u64,
    pub(in crate::tracker) failed: u64,
    pub(in crate::tracker) first: Timestamp,
    pub(in crate::tracker) last: Timestamp,
}

impl Failing {
    /// An attempt is decided.
    pub(super) fn add(
        &mut self,
        owner: Option<Owner>,
        peer: Option<Endpoint>,
        attempt: Attempt,
        at: Timestamp,
        max_rows: usize,
    ) {
        let key = (owner.map(|owner| owner.process), peer);
        match attempt {
            Attempt::Completed { .. } => {
                if !self.rows.is_empty()
                    && let Some(row) = self.rows.get_mut(&key)
                {
                    row.answered += 1;
                }
                return;
            }
            Attempt::Aborted { after_ns } if after_ns < PATIENCE_NS => return,
            _ => {}
        }
        if self.rows.len() >= max_rows && !self.rows.contains_key(&key) {
            self.dropped += 1;
            return;
        }
        let row = self.rows.entry(key).or_insert_with(|| Failures::none(at));
        row.owner = owner.or(row.owner);
        row.last = row.last.max(at);
        *match attempt {
            Attempt::Refused => &mut row.refused,
            Attempt::TimedOut => &mut row.timed_out,
            Attempt::Unreachable => &mut row.unreachable,
            Attempt::Reset => &mut row.reset,
            Attempt::Aborted { .. } => &mut row.given_up,
            Attempt::NoPort => &mut row.no_port,
            Attempt::Failed | Attempt::Completed { .. } => &mut row.failed,
        } += 1;
    }
}

impl Failures {
    fn none(at: Timestamp) -> Self {
        Self {
            owner: None,
            answered: 0,
            refused: 0,
            timed_out: 0,
            unreachable: 0,
            reset: 0,
            given_up: 0,
            no_port: 0,
            failed: 0,
            first: at,
            last: at,
        }
    }

    /// All that failed.
    pub(in crate::tracker) fn total(&self) -> u64 {
        let Self { refused, timed_out, unreachable, reset, given_up, no_port, failed, .. } = self;
        refused + timed_out + unreachable + reset + given_up + no_port + failed
    }
}

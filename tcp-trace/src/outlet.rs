//! What an engine hands its results to: a sink that prints, or whoever does more with them.

use std::io::Write;

use tcp_trace_core::report::{Obituary, Report, StateChange};

use crate::{exit, sink::Sink};

/// Takes what the tracker says, in order. What it does not want (`wants_changes`, `wants_closed`) is never made.
///
/// An outlet is called on the thread that tracks: one that waits holds up the stream, and at last loses events.
pub trait Outlet {
    /// Whether single state changes are wanted.
    fn wants_changes(&self) -> bool;

    /// Whether finished connections are wanted.
    fn wants_closed(&self) -> bool;

    /// The run has begun.
    ///
    /// # Errors
    ///
    /// What ends the run.
    fn begin(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Takes state changes, and may keep them; what it leaves is dropped.
    ///
    /// # Errors
    ///
    /// What ends the run.
    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()>;

    /// Takes finished connections, and may keep them; what it leaves is dropped.
    ///
    /// # Errors
    ///
    /// What ends the run.
    fn closed(&mut self, closed: &mut Vec<Obituary>) -> anyhow::Result<()>;

    /// Takes a report, with its findings.
    ///
    /// # Errors
    ///
    /// What ends the run.
    fn report(&mut self, report: Report) -> anyhow::Result<()>;
}

impl<W: Write> Outlet for Sink<W> {
    fn wants_changes(&self) -> bool {
        self.wants_changes()
    }

    fn wants_closed(&self) -> bool {
        self.wants_closed()
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        Ok(self.begin().map_err(exit::Output::from)?)
    }

    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()> {
        Ok(self.changes(changes).map_err(exit::Output::from)?)
    }

    fn closed(&mut self, closed: &mut Vec<Obituary>) -> anyhow::Result<()> {
        Ok(self.closed(closed).map_err(exit::Output::from)?)
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        Ok(self.report(&report).map_err(exit::Output::from)?)
    }
}

//! What happens to a batch, wherever it comes from: recorded, decoded, tracked, reported, handed on.

use std::fs::File;

use anyhow::Context as _;
use tcp_trace_core::{
    decode::decode,
    findings::{Finding, Judge, Severity, Thresholds},
    input::Input,
    process::ProcessId,
    record::Record,
    report::{Loss, ProcessSockets},
    time::{Timestamp, WallTime},
    tracker::{Output, Tracker},
};

use crate::{outlet::Outlet, recording::Writer, source::Batch, survey::Scope};

/// The core between a source and an outlet.
#[derive(Debug)]
pub struct Engine<O: Outlet> {
    tracker: Tracker,
    judge: Judge,
    cadence: Option<Cadence>,
    outlet: O,
    recording: Option<Writer<File>>,
    /// Why there is no recording any more.
    broken: Option<anyhow::Error>,
    output: Output,
    /// Sums over all windows.
    total: Total,
}

/// What a run comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The balance of all windows together; `None` before the first report.
    pub loss: Option<Loss>,
    /// The severity of the worst finding of any report.
    pub worst: Option<Severity>,
}

/// When interval reports are due: at the first reading of the counters past each multiple of the interval.
/// Live and replayed runs decide by the same records, so their reports are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    every_ns: u64,
    next: Timestamp,
}

impl Cadence {
    /// Reports every `every_ns` nanoseconds from `start` on.
    #[must_use]
    pub fn new(start: Timestamp, every_ns: u64) -> Self {
        Self { every_ns: every_ns.max(1), next: start.plus(every_ns) }
    }

    /// Whether a report is due at `now`; if so, the next one is due at the next multiple after it.
    fn due(&mut self, now: Timestamp) -> bool {
        if now < self.next {
            return false;
        }
        let passed = now.since(self.next) / self.every_ns + 1;
        self.next = self.next.plus(passed.saturating_mul(self.every_ns));
        true
    }
}

impl<O: Outlet> Engine<O> {
    /// An engine; `recording` receives every batch before anything else looks at it.
    pub fn new(
        tracker: Tracker,
        judge: Judge,
        cadence: Option<Cadence>,
        outlet: O,
        recording: Option<Writer<File>>,
    ) -> Self {
        Self {
            tracker,
            judge,
            cadence,
            outlet,
            recording,
            broken: None,
            output: Output::default(),
            total: Total::default(),
        }
    }

    /// Whether the recording broke off.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Why the recording broke off, if it did.
    pub fn take_broken(&mut self) -> Option<anyhow::Error> {
        self.broken.take()
    }

    /// The run has begun.
    ///
    /// # Errors
    ///
    /// What the outlet says.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.outlet.begin()
    }

    /// Takes a batch. If it cannot be recorded nothing more is, and all else goes on ([`Engine::is_broken`]).
    ///
    /// # Errors
    ///
    /// If it cannot be decoded, or what the outlet says.
    pub fn batch(&mut self, batch: &Batch) -> anyhow::Result<()> {
        if let Some(recording) = &mut self.recording
            && let Err(error) = recording.batch(batch)
        {
            self.recording = None;
            self.broken = Some(error.context("writing the recording; what was written before is intact"));
        }
        let fed = batch.records().try_for_each(|record| self.record(record?));
        // What stands before a record that cannot be decoded is as good as ever.
        self.print()?;
        fed
    }

    fn record(&mut self, record: Record<'_>) -> anyhow::Result<()> {
        // By reference: an event is long, and nothing needs it to move.
        let decoded = decode(record);
        let input = decoded.as_ref().map_err(|error| *error)?;
        self.tracker.apply(input, &mut self.output);
        let due = match input {
            Input::Counters(reading) => {
                self.cadence.as_mut().is_some_and(|cadence| cadence.due(reading.time))
            }
            Input::End(_) => true,
            _ => false,
        };
        if due {
            self.print()?;
            self.report()?;
        }
        Ok(())
    }

    /// The processes that have turned up since the last call, to be looked at.
    pub fn take_wanted(&mut self) -> Vec<ProcessId> {
        self.tracker.take_wanted()
    }

    /// The sockets of one process as they are now, at most so many of them.
    pub fn sockets_of(&self, pid: u32, start: Option<WallTime>, most: usize) -> ProcessSockets {
        self.tracker.sockets_of(pid, start, most)
    }

    /// Whether lost transitions have left the table in a state that only a whole survey repairs.
    pub fn needs_repair(&self) -> bool {
        self.tracker.needs_repair()
    }

    /// What has to be looked at before a report.
    pub fn scope_of_report(&self) -> Scope {
        if self.tracker.is_blurred() { Scope::All } else { Scope::Report }
    }

    /// Reports what there is when the source ended before its end.
    ///
    /// # Errors
    ///
    /// What the outlet says.
    pub fn cut_off(&mut self) -> anyhow::Result<()> {
        self.report()
    }

    /// Where results go.
    pub fn outlet(&mut self) -> &mut O {
        &mut self.outlet
    }

    /// From the next record on, these thresholds hold, reports come at this cadence, a socket lingers after so long, and
    /// the outlet is given what it wants by now. Findings that are open stay open.
    pub fn reconfigure(
        &mut self,
        thresholds: Thresholds,
        cadence: Option<Cadence>,
        close_wait_after_ns: u64,
    ) {
        self.judge.set_thresholds(thresholds);
        self.cadence = cadence;
        let (changes, closed) = (self.outlet.wants_changes(), self.outlet.wants_closed());
        self.tracker.reconfigure(close_wait_after_ns, changes, closed);
    }

    /// The latest time that a record had.
    pub fn now(&self) -> Timestamp {
        self.tracker.now()
    }

    /// Completes the recording, and says what the run came to.
    ///
    /// # Errors
    ///
    /// If the recording cannot be completed.
    pub fn finish(self) -> anyhow::Result<Total> {
        Ok(self.into_parts()?.0)
    }

    /// The same, and gives the outlet back.
    ///
    /// # Errors
    ///
    /// If the recording cannot be completed.
    pub fn into_parts(mut self) -> anyhow::Result<(Total, O)> {
        if let Some(recording) = &mut self.recording {
            recording.flush().context("completing the recording")?;
        }
        Ok((self.total, self.outlet))
    }

    fn print(&mut self) -> anyhow::Result<()> {
        let Output { changes, closed } = &mut self.output;
        if !changes.is_empty() {
            self.outlet.changes(changes)?;
            changes.clear();
        }
        if !closed.is_empty() {
            self.outlet.closed(closed)?;
            closed.clear();
        }
        Ok(())
    }

    fn report(&mut self) -> anyhow::Result<()> {
        let mut report = self.tracker.report();
        self.judge.judge(&mut report);
        self.total.add(&report.loss);
        let worst = report.findings.iter().flatten().map(|Finding { severity, .. }| *severity).max();
        self.total.worst = self.total.worst.max(worst);
        self.outlet.report(report)
    }
}

impl Total {
    fn add(&mut self, window: &Loss) {
        let Loss {
            seen,
            delivered,
            filtered,
            lost,
            aggregated,
            unattributed,
            missed,
            balanced,
            repaired,
            untracked,
            side_lost,
        } = *window;
        self.loss = Some(match self.loss {
            None => *window,
            Some(sum) => Loss {
                // Saturating, because the counters of a recording may say anything.
                seen: sum.seen.saturating_add(seen),
                delivered: sum.delivered.saturating_add(delivered),
                filtered: sum.filtered.saturating_add(filtered),
                lost: sum.lost.saturating_add(lost),
                aggregated: sum.aggregated.saturating_add(aggregated),
                unattributed: sum.unattributed.saturating_add(unattributed),
                missed: sum.missed.saturating_add(missed),
                balanced: sum.balanced && balanced,
                repaired: sum.repaired.zip(repaired).map(|(a, b)| a.saturating_add(b)),
                untracked: sum.untracked.saturating_add(untracked),
                side_lost: sum.side_lost.saturating_add(side_lost),
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_due_once_an_interval() {
        let mut cadence = Cadence::new(Timestamp(100), 10);
        let due: Vec<_> = [105, 109, 110, 111, 119, 145, 149, 150].map(|t| cadence.due(Timestamp(t))).into();
        assert_eq!(due, [false, false, true, false, false, true, false, true]);
    }
}

//! Between the thread that tracks and the one that draws: neither waits for the other. What comes faster than it is taken
//! away is bounded, and counted.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::ensure;
use tcp_trace_core::report::{Obituary, ProcessSockets, Report, StateChange};

use super::{
    frame::{self, Frame, Handshakes, Ring},
    model::STREAM,
    rows::Who,
};
use crate::outlet::Outlet;

/// Transitions that are kept with each report of a recording.
const OF_WINDOW: usize = 300;
/// Sockets that a survey may list for each second.
const ROWS_PER_SECOND: u64 = 40_000;
/// Seconds between surveys at the most.
const LONGEST_PAUSE: u64 = 30;
/// Reports of a recording that are kept.
const REPORTS: usize = 5_000;
/// A window that is shorter, in seconds, and has nothing in it is not shown.
const MOMENT: f64 = 0.1;

/// What has come since it was last looked at.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Reports.
    pub frames: Vec<Arc<Frame>>,
    /// Transitions, oldest first.
    pub changes: VecDeque<StateChange>,
    /// Transitions that there was no room for.
    pub skipped: u64,
    /// The sockets of the process that is looked at, and whose they are.
    pub sockets: Option<(Who, ProcessSockets)>,
    /// How much of a recording has been read, from 0 to 1.
    pub progress: Option<f64>,
    /// There is nothing more to come; why, if that was too early.
    pub ended: Option<Result<(), String>>,
}

/// Where the one thread puts things, and the other takes them from.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    delivery: Arc<Mutex<Delivery>>,
    /// Whose sockets are wanted: the process that is looked at.
    wanted: Arc<Mutex<Option<Who>>>,
    /// A report has come since its sockets were looked for.
    due: Arc<AtomicBool>,
    /// Seconds between surveys of all that a report needs.
    pause: Arc<AtomicU64>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Delivery> {
        // Whoever panicked has not left half a delivery: each is a push.
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whose sockets are wanted.
    pub fn want(&self, who: Option<Who>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if *wanted != who {
            *wanted = who;
            self.due.store(true, Ordering::Relaxed);
        }
    }

    /// Seconds that are to lie between two surveys.
    #[must_use]
    pub fn pause(&self) -> u64 {
        self.pause.load(Ordering::Relaxed)
    }

    /// Whose sockets are to be looked for: once for each report.
    #[must_use]
    pub fn wanted(&self) -> Option<Who> {
        let due = self.due.swap(false, Ordering::Relaxed);
        if due { self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone() } else { None }
    }

    /// Takes everything away.
    #[must_use]
    pub fn take(&self) -> Delivery {
        mem::take(&mut *self.lock())
    }

    /// Puts something in.
    pub fn put(&self, put: impl FnOnce(&mut Delivery)) {
        put(&mut self.lock());
    }
}

/// Seconds between surveys, so that listing sockets takes some hundredths of a core at the most however many there are.
fn pause(report: &Report) -> u64 {
    let waiting = report.time_wait.live.unwrap_or(0) + report.time_wait.live_orphans.unwrap_or(0);
    (waiting + frame::live(report)).div_ceil(ROWS_PER_SECOND).clamp(1, LONGEST_PAUSE)
}

/// The outlet of a live run.
#[derive(Debug)]
pub struct Live {
    inbox: Inbox,
    handshakes: Handshakes,
}

impl Live {
    /// Into this inbox.
    #[must_use]
    pub fn new(inbox: Inbox) -> Self {
        Self { inbox, handshakes: Handshakes::default() }
    }
}

impl Outlet for Live {
    fn wants_changes(&self) -> bool {
        true
    }

    fn wants_closed(&self) -> bool {
        false
    }

    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()> {
        self.handshakes.add(changes);
        let beyond = changes.len().saturating_sub(STREAM);
        self.inbox.put(|delivery| {
            let excess = (delivery.changes.len() + changes.len() - beyond).saturating_sub(STREAM);
            delivery.changes.drain(..excess.min(delivery.changes.len()));
            delivery.skipped = delivery.skipped.saturating_add((excess + beyond) as u64);
            delivery.changes.extend(changes.drain(..).skip(beyond));
        });
        Ok(())
    }

    fn closed(&mut self, _closed: &mut Vec<Obituary>) -> anyhow::Result<()> {
        Ok(())
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        let pause = pause(&report);
        let mut frame = Frame::new(report, Vec::new(), mem::take(&mut self.handshakes));
        frame.surveyed_every =
            Some(self.inbox.pause.swap(pause, Ordering::Relaxed)).filter(|pause| *pause > 1);
        self.inbox.put(|delivery| delivery.frames.push(Arc::new(frame)));
        self.inbox.due.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The outlet of a recording: with each report the last transitions of its window.
#[derive(Debug)]
pub struct Recorded {
    inbox: Inbox,
    handshakes: Handshakes,
    changes: Ring<StateChange>,
    reports: usize,
}

impl Recorded {
    /// Into this inbox.
    #[must_use]
    pub fn new(inbox: Inbox) -> Self {
        Self { inbox, handshakes: Handshakes::default(), changes: Ring::new(OF_WINDOW), reports: 0 }
    }
}

impl Outlet for Recorded {
    fn wants_changes(&self) -> bool {
        true
    }

    fn wants_closed(&self) -> bool {
        false
    }

    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()> {
        self.handshakes.add(changes);
        let beyond = changes.len().saturating_sub(OF_WINDOW);
        changes.drain(..).skip(beyond).for_each(|change| self.changes.push(change));
        Ok(())
    }

    fn closed(&mut self, _closed: &mut Vec<Obituary>) -> anyhow::Result<()> {
        Ok(())
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        // The counters are read once more at the end of a run, a moment after the last report.
        if self.reports > 0 && report.loss.seen == 0 && report.window.seconds < MOMENT {
            return Ok(());
        }
        self.reports += 1;
        ensure!(
            self.reports <= REPORTS,
            "more than {REPORTS} reports: give a longer --interval; what is shown ends here"
        );
        let changes = self.changes.items().iter().cloned().collect();
        self.changes.clear();
        let frame = Frame::new(report, changes, mem::take(&mut self.handshakes));
        self.inbox.put(|delivery| delivery.frames.push(Arc::new(frame)));
        Ok(())
    }
}

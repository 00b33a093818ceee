//! The thread that draws: events and deliveries into the model, the model onto the terminal.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ratatui::crossterm::event;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    inbox::Inbox,
    model::{Model, Request, Screen as View, Timeline},
    terminal::Screen,
};

/// The screen is drawn anew at most this often: what comes in between is drawn together.
const FRAME: Duration = Duration::from_millis(100);
/// And so soon after a key.
const ANSWER: Duration = Duration::from_millis(15);

/// What the other threads ask of the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// End.
    pub(super) end: Arc<AtomicBool>,
    /// Stop until somebody lets us go on.
    pub(super) suspend: Arc<AtomicBool>,
    /// Draw everything anew: somebody else may have written on it.
    pub(super) redraw: Arc<AtomicBool>,
}

/// The screen has nothing more to show, or somebody wants to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left;

/// Takes the terminal over and draws, in a thread of its own.
pub(super) fn start(
    model: Model,
    inbox: Inbox,
    orders: Orders,
    left: UnboundedSender<Left>,
) -> anyhow::Result<JoinHandle<io::Result<()>>> {
    let screen = Screen::open().context("taking over the terminal")?;
    let run = move || {
        let result = Loop { screen, model, inbox, orders, dirty: true, urgent: true }.run();
        // Whoever waits for it may have gone.
        let _ = left.send(Left);
        result
    };
    thread::Builder::new()
        .name("tcp-trace-screen".into())
        .spawn(run)
        .context("starting the thread that draws")
}

struct Loop {
    screen: Screen,
    model: Model,
    inbox: Inbox,
    orders: Orders,
    /// Something has changed.
    dirty: bool,
    /// Somebody waits for it.
    urgent: bool,
}

impl Loop {
    fn run(mut self) -> io::Result<()> {
        let mut drawn = Instant::now().checked_sub(FRAME).unwrap_or_else(Instant::now);
        let mut ticked = Instant::now();
        while !self.orders.end.load(Ordering::SeqCst) {
            let due = if self.urgent { ANSWER } else { FRAME };
            let wait = if self.dirty { due.saturating_sub(drawn.elapsed()) } else { FRAME };
            self.events(wait)?;
            self.deliveries();
            self.dirty |= self.model.tick(ticked.elapsed());
            ticked = Instant::now();
            self.inbox.want((self.model.screen == View::Process).then(|| self.model.focused()).flatten());
            if self.requests()? {
                break;
            }
            let due = if self.urgent { ANSWER } else { FRAME };
            if self.dirty && drawn.elapsed() >= due {
                self.screen.draw(&mut self.model)?;
                drawn = Instant::now();
                (self.dirty, self.urgent) = (false, false);
            }
        }
        Ok(())
    }

    /// Waits for a key at most so long, and takes all that there are.
    fn events(&mut self, wait: Duration) -> io::Result<()> {
        let mut wait = wait;
        while event::poll(wait)? {
            let changed = self.model.event(&event::read()?);
            self.dirty |= changed;
            self.urgent |= changed;
            wait = Duration::ZERO;
        }
        Ok(())
    }

    fn deliveries(&mut self) {
        let delivery = self.inbox.take();
        let moves = !self.model.is_frozen();
        self.dirty |= moves && !delivery.frames.is_empty();
        self.dirty |= moves && self.model.screen == View::Stream && !delivery.changes.is_empty();
        if delivery.sockets.is_some() {
            self.model.sockets = delivery.sockets;
            self.dirty |= moves && self.model.screen == View::Process;
        }
        delivery.frames.into_iter().for_each(|frame| self.model.take(frame));
        if !delivery.changes.is_empty() || delivery.skipped > 0 {
            self.model.take_changes(delivery.changes.into(), delivery.skipped);
        }
        if let Timeline::Recorded(recorded) = &mut self.model.timeline {
            if delivery.progress.is_some() {
                recorded.progress = delivery.progress;
                self.dirty = true;
            }
            if let Some(ended) = delivery.ended {
                recorded.progress = None;
                recorded.trouble = ended.err();
                self.dirty = true;
            }
        }
    }

    /// What is to be done besides drawing; whether to end.
    fn requests(&mut self) -> io::Result<bool> {
        let ordered = |order: &AtomicBool| order.swap(false, Ordering::SeqCst);
        let mut request = self.model.request.take();
        if ordered(&self.orders.redraw) {
            request = request.or(Some(Request::Redraw));
        }
        if ordered(&self.orders.suspend) {
            request = Some(Request::Suspend);
        }
        match request {
            Some(Request::Quit) => return Ok(true),
            Some(Request::Suspend) => self.screen.suspend()?,
            Some(Request::Redraw) => self.screen.redraw()?,
            None => return Ok(false),
        }
        (self.dirty, self.urgent) = (true, true);
        Ok(false)
    }
}

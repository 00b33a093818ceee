//! Signals: those that end, and those that stop and go on.

use std::{
    io,
    sync::atomic::Ordering,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{screen::Orders, terminal};

/// How long the screen may take to end: a terminal that is stopped (Ctrl-S) takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Those that concern a screen.
pub(super) struct Signals {
    ends: [Signal; 3],
    stop: Signal,
    goes_on: Signal,
    orders: Orders,
}

impl Signals {
    /// Listens, from now on.
    pub(super) fn new(orders: Orders) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self {
            ends: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
            stop: listen(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?,
            goes_on: listen(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
            orders,
        })
    }

    /// Waits for one that ends; does what the others ask for meanwhile.
    pub(super) async fn end(&mut self) {
        let Self { ends: [interrupt, terminate, hangup], stop, goes_on, orders } = self;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => return,
                _ = stop.recv() => orders.suspend.store(true, Ordering::SeqCst),
                _ = goes_on.recv() => orders.redraw.store(true, Ordering::SeqCst),
            }
        }
    }
}

/// Ends the screen, and gives the terminal back even if it does not answer.
pub(super) fn close(screen: JoinHandle<io::Result<()>>, orders: &Orders) -> anyhow::Result<()> {
    orders.end.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    while !screen.is_finished() {
        if begun.elapsed() > PATIENCE {
            terminal::restore();
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    match screen.join() {
        Ok(result) => result.context("drawing on the terminal"),
        Err(_panic) => Err(anyhow::anyhow!("the thread that draws panicked")),
    }
}

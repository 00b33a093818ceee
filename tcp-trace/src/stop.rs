//! The end of a run that was asked to end and cannot.
//!
//! Whoever writes to a pipe that nobody reads waits for ever, and nothing but another thread can tell: no signal ends
//! such a wait, because SIGINT and SIGTERM are handled, in order, by the very loop that waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use crate::{
    confine::{self, Duty},
    host::NO_THREAD,
    say,
};

/// How often it looks whether the loop turns, once it was asked to end.
const LOOK: Duration = Duration::from_millis(100);
/// How long the loop may take to hear of the signal: longer than a batch and a report.
const TO_HEAR: Duration = Duration::from_secs(5);
/// How long it may stand after another signal, and after a third.
const SECOND: Duration = Duration::from_secs(2);
const THIRD: Duration = Duration::from_millis(300);

/// Descriptors that signals, the loop and what watches it take, with some to spare.
const DESCRIPTORS: usize = 24;

/// Whether there is room for what is made first: tokio panics where it has no descriptor for its signals.
///
/// # Errors
///
/// If there are too few descriptors.
pub fn room() -> anyhow::Result<()> {
    let room = (0..DESCRIPTORS).map(|_| eventfd(0, EventfdFlags::CLOEXEC)).collect::<Result<Vec<_>, _>>();
    room.map(drop).context("too few descriptors are left (RLIMIT_NOFILE; `ulimit -n 1024` gives enough)")
}

/// Ends the process if its main loop stands still after it was asked to end. Nothing stays in the kernel: programs, maps
/// and attachments go with their descriptors.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Turns of the loop.
    turns: AtomicU64,
    /// Milliseconds.
    patience: AtomicU64,
}

impl Guard {
    /// Watches from now on. Once it has heard of its end, the loop may stand for as long as `patience`: a last look at the
    /// host, and what sinks are given.
    ///
    /// # Errors
    ///
    /// If signals cannot be listened for, or there is no room for a thread.
    pub fn start(patience: Duration) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        let signals = [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
        let shared = Arc::new(Shared { turns: AtomicU64::new(0), patience: AtomicU64::new(0) });
        let guard = Self(Arc::clone(&shared));
        guard.allow(patience);
        thread::Builder::new()
            .name("tcp-trace-stop".to_owned())
            .spawn(move || run(signals, &shared))
            .context(NO_THREAD)?;
        Ok(guard)
    }

    /// From now on the loop may stand for as long as this at its end.
    pub fn allow(&self, patience: Duration) {
        self.0.patience.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The loop has turned.
    pub fn turn(&self) {
        self.0.turns.fetch_add(1, Relaxed);
    }
}

/// What the guard knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Signals so far.
    asked: u32,
    /// Whether the loop has turned since the first.
    heard: bool,
}

impl Seen {
    /// How long the loop may stand.
    fn allowed(self, patience: Duration) -> Duration {
        match self.asked {
            0 => Duration::MAX,
            1 if self.heard => patience,
            1 => TO_HEAR,
            2 => SECOND,
            _ => THIRD,
        }
    }
}

/// A runtime of its own, made by this thread: each hands signals to all who listen, whichever of them turns.
fn run(signals: [Signal; 2], shared: &Shared) {
    // The filter of system calls comes with that of all threads, which one of its own would keep from coming.
    confine::assume(&Duty::Follow);
    match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime.block_on(watch(signals, shared)),
        // The loop ends in order all the same, unless it stands still.
        Err(error) => log::warn!("nobody watches for the end: {error}"),
    }
}

async fn watch([mut interrupt, mut terminate]: [Signal; 2], Shared { turns, patience }: &Shared) {
    let mut seen = Seen::default();
    let (mut last, mut since) = (turns.load(Relaxed), Instant::now());
    loop {
        let asked = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        tokio::select! {
            () = asked => {
                seen.asked += 1;
                // What it did before it was asked is no fault.
                since = Instant::now();
            }
            () = sleep(LOOK), if seen.asked > 0 => {}
        }
        let now = turns.load(Relaxed);
        if now != last {
            seen.heard |= seen.asked > 0;
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > seen.allowed(Duration::from_millis(patience.load(Relaxed))) {
            give_up();
        }
    }
}

#[expect(
    clippy::exit,
    reason = "the loop that would return from main stands still, which is why this is called"
)]
fn give_up() -> ! {
    say!(
        "tcp-trace: error: it was asked to end and cannot: what it writes to takes nothing (a pipe that nobody reads, a \
         disk that hangs); it ends without a summary, and what was not written is lost"
    );
    std::process::exit(crate::exit::Exit::Error.code().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_signal_leaves_less_time() {
        let patience = Duration::from_secs(15);
        let allowed = |asked, heard| Seen { asked, heard }.allowed(patience);
        assert_eq!(allowed(0, false), Duration::MAX, "a reader that is slow is no fault");
        assert_eq!((allowed(1, false), allowed(1, true)), (TO_HEAR, patience));
        assert!(allowed(2, true) < allowed(1, false) && allowed(3, true) < allowed(2, true));
    }
}

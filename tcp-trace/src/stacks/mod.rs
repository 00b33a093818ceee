//! Where programs open connections: dumps of their stacks come in from the kernel, functions with names go out into the
//! stream, and so into recordings. All of it in a thread of its own: symbolising takes as long as it takes.

#[doc(hidden)]
pub mod fuzzing;
mod module;
mod process;
mod symbols;
mod trace;
mod unwind;

use std::{
    num::NonZeroU64,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustc_hash::FxHashMap;
use tcp_trace_common::stack::{StackDump, how};
use tcp_trace_core::{
    process::ProcessId,
    record::kind,
    stack::{Stack, StackFacts, StackKind, Trace},
    time::Timestamp,
};
use zerocopy::FromBytes as _;

use self::trace::{Looked, Tracer};
use crate::{
    bpf,
    confine::{self, Duty},
    host,
    source::Batch,
};

/// How often the buffer is looked at. A process that ends sooner after it has opened a connection is gone by then.
const EVERY: Duration = Duration::from_millis(10);
/// How often it is said that there was nothing, for those who wait.
const SILENCE: Duration = Duration::from_millis(200);
/// A stack that is being written when the buffer is looked at is in by the next time.
const UNDER_WAY_NS: u64 = 1_000_000;
/// Stacks that are told apart, as in the tracker.
const STACKS: usize = 16_384;
/// Connections that are told of at once.
const OPENINGS: usize = 4096;
/// How long the end of a run waits for the last stacks.
const PATIENCE: Duration = Duration::from_secs(5);

/// The thread.
#[derive(Debug)]
pub struct Handle {
    /// Dropped to end it.
    stop: SyncSender<()>,
    done: Receiver<()>,
}

impl Handle {
    /// Has the last stacks delivered; waits for that, but not for ever.
    pub fn finish(self) {
        drop(self.stop);
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

/// Starts the thread. `deliver` puts a batch into the stream, and answers whether anybody is left to listen.
///
/// # Errors
///
/// If the thread cannot be started.
pub fn start(
    kernel: bpf::Stacks,
    deliver: impl Fn(Batch) -> bool + Send + 'static,
) -> anyhow::Result<Handle> {
    let (stop, stopped) = sync_channel(0);
    let (finished, done) = sync_channel(1);
    let work = move || {
        confine::assume(&Duty::Symbolise);
        Collector::new(kernel, deliver).run(&stopped);
        let _ = finished.try_send(());
    };
    thread::Builder::new()
        .name("tcp-trace-stack".into())
        .spawn(work)
        .context("starting the thread that symbolises stacks")?;
    Ok(Handle { stop, done })
}

/// A connection that was opened: cookie, when, and in which call.
type Opened = (NonZeroU64, Timestamp, StackKind);

struct Collector<D> {
    kernel: bpf::Stacks,
    deliver: D,
    tracer: Tracer,
    numbers: FxHashMap<Trace, u32>,
    omitted: u64,
    /// What will be told next.
    facts: StackFacts,
    told: Instant,
}

impl<D: Fn(Batch) -> bool> Collector<D> {
    fn new(kernel: bpf::Stacks, deliver: D) -> Self {
        Self {
            kernel,
            deliver,
            tracer: Tracer::new(),
            numbers: FxHashMap::default(),
            omitted: 0,
            facts: StackFacts::default(),
            told: Instant::now(),
        }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        loop {
            let last = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
            let until = host::monotonic().minus(UNDER_WAY_NS);
            if !self.pass() || !self.tell(until) || last {
                return;
            }
        }
    }

    /// Takes what is in the buffer. Returns whether anybody listens.
    fn pass(&mut self) -> bool {
        loop {
            // All processes first, which may be gone before names are found.
            let looked: Vec<_> = std::iter::from_fn(|| self.next()).take(OPENINGS).collect();
            if looked.is_empty() {
                return true;
            }
            for (opening, looked) in looked {
                let trace = self.tracer.name(looked);
                self.open(opening, trace);
            }
            if !self.tell(self.facts.until) {
                return false;
            }
        }
    }

    /// The next stack, and its connection: cookie, time, and in which call.
    fn next(&mut self) -> Option<(Opened, Looked)> {
        let Self { kernel, tracer, .. } = self;
        loop {
            let item = kernel.ring.next()?;
            let Ok(dump) = StackDump::ref_from_bytes(&item) else { continue };
            let Some(cookie) = NonZeroU64::new(dump.cookie) else { continue };
            let kind = match dump.how {
                how::CONNECT => StackKind::Connected,
                how::ACCEPT => StackKind::Accepted,
                _ => StackKind::FirstRead,
            };
            let process = ProcessId::new(dump.tgid, Some(dump.process_start_ns));
            let looked = tracer.look(process, dump);
            return Some(((cookie, Timestamp(dump.time_ns), kind), looked));
        }
    }

    fn open(&mut self, (cookie, time, kind): Opened, trace: Trace) {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        let number = match self.numbers.get(&trace) {
            Some(number) => *number,
            None if self.numbers.len() >= STACKS => {
                self.omitted += 1;
                return;
            }
            None => {
                self.facts.stacks.push(Stack { number: next, trace: trace.clone() });
                self.numbers.insert(trace, next);
                next
            }
        };
        self.facts.opened.push((cookie, time, kind, number));
    }

    /// Tells what was found out. Returns whether anybody listens.
    fn tell(&mut self, until: Timestamp) -> bool {
        self.facts.until = until;
        if self.facts.opened.is_empty() && self.told.elapsed() < SILENCE {
            return true;
        }
        self.told = Instant::now();
        self.facts.omitted = self.omitted;
        match self.kernel.lost() {
            Ok(lost) => self.facts.lost = lost,
            Err(error) => log::warn!("{error:#}"),
        }
        let mut batch = Batch::default();
        match serde_json::to_vec(&self.facts) {
            Ok(bytes) => batch.push(kind::STACKS, &bytes),
            Err(error) => log::warn!("encoding stacks: {error}"),
        }
        self.facts.stacks.clear();
        self.facts.opened.clear();
        (self.deliver)(batch)
    }
}

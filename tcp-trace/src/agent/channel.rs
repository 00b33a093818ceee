//! One sink: a bounded queue, and a thread that sends what is in it. Whoever puts documents in never waits, except for a
//! recording, which can.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use std::collections::VecDeque;

use anyhow::Context as _;
use tcp_trace_core::{
    log::{Document, Origin},
    metrics::Snapshot,
};

use super::{
    export::Failure,
    exporter::{Config, Exporter},
};
use crate::confine;

/// Documents that are sent together, at most.
const BATCH: usize = 1024;
/// How long a document may wait for others to go with it.
const LINGER: Duration = Duration::from_millis(200);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest that the other side may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a sink has come to since the start, in documents; it outlives the thread, which another configuration replaces.
#[derive(Debug, Default)]
pub struct Totals {
    /// Sent.
    pub delivered: AtomicU64,
    /// Lost, because the queue was full, or because it did not get away before the end.
    pub overflowed: AtomicU64,
    /// Refused for good by the other side, or not to be sent by their nature.
    pub refused: AtomicU64,
    /// Not sent, because their identity had had its share (`rate`).
    pub over_rate: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
}

/// What the thread is asked for, beside sending.
#[derive(Debug, Default)]
struct Orders {
    documents: VecDeque<Document>,
    /// When the first of them came.
    since: Option<Instant>,
    metrics: Option<Arc<Snapshot>>,
    reopen: bool,
    /// Another configuration of the sink, and what its documents have in common from now on.
    changed: Option<(Config, Origin)>,
    /// Until when to try; then the end.
    stop: Option<Instant>,
    /// What went wrong last, until somebody asks.
    trouble: Option<String>,
}

impl Orders {
    /// Whether there is something to do beside sending.
    fn has_more(&self) -> bool {
        self.metrics.is_some() || self.reopen || self.changed.is_some() || self.stop.is_some()
    }
}

#[derive(Debug)]
struct Shared {
    orders: Mutex<Orders>,
    news: Condvar,
    room: Condvar,
    limit: AtomicUsize,
    totals: Arc<Totals>,
    /// Whether the last attempt failed.
    failing: AtomicBool,
    /// Documents that the thread has taken out of the queue, and not got rid of.
    in_hand: AtomicU64,
}

/// The near end of a sink.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Channel {
    /// Starts a thread that sends to what `config` says.
    ///
    /// # Errors
    ///
    /// If that is not to be had here.
    pub fn start(
        name: &str,
        (config, origin): (Config, Origin),
        limit: usize,
        totals: Arc<Totals>,
    ) -> anyhow::Result<Self> {
        let exporter = Exporter::new(&config, &origin)?;
        let shared = Arc::new(Shared {
            orders: Mutex::default(),
            news: Condvar::new(),
            room: Condvar::new(),
            limit: AtomicUsize::new(limit),
            totals,
            failing: AtomicBool::new(false),
            in_hand: AtomicU64::new(0),
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            exporter: Some(exporter),
            config,
            origin,
            name: name.to_owned(),
            pause: FIRST_PAUSE,
            fails: (false, false),
            batch: Vec::new(),
        };
        // Names of threads are cut at 15 characters.
        let work = move || {
            confine::assume(&worker.config.duty());
            worker.run();
        };
        let thread = thread::Builder::new().name(format!("tt-{name}")).spawn(work);
        Ok(Self {
            shared,
            thread: Some(thread.with_context(|| format!("starting the thread of sink {name}"))?),
        })
    }

    /// Whether its last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Relaxed)
    }

    /// How many documents wait.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.shared.lock().documents.len() as u64 + self.shared.in_hand.load(Relaxed)
    }

    /// Puts documents in, as far as there is room. With `patient`, waits for room instead.
    pub fn offer(&self, documents: impl Iterator<Item = Document>, patient: bool) {
        let Shared { limit, totals, .. } = &*self.shared;
        let limit = limit.load(Relaxed);
        let mut orders = self.shared.lock();
        let mut lost = 0;
        for document in documents {
            while patient && orders.documents.len() >= limit && orders.stop.is_none() {
                self.shared.news.notify_one();
                orders = self.shared.room.wait(orders).unwrap_or_else(PoisonError::into_inner);
            }
            if orders.documents.len() < limit {
                orders.documents.push_back(document);
            } else {
                lost += 1;
            }
        }
        if !orders.documents.is_empty() {
            orders.since.get_or_insert_with(Instant::now);
        }
        totals.overflowed.fetch_add(lost, Relaxed);
        drop(orders);
        self.shared.news.notify_one();
    }

    /// Puts metrics in, in the place of those that have not been sent yet.
    pub fn offer_metrics(&self, snapshot: &Arc<Snapshot>) {
        self.shared.lock().metrics = Some(Arc::clone(snapshot));
        self.shared.news.notify_one();
    }

    /// Opens anew what may have been moved away.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.news.notify_one();
    }

    /// From now on it is another sink under the same name. If that cannot be had it stays what it is, which is a trouble.
    pub fn change(&self, config: Config, origin: Origin, limit: usize) {
        self.shared.limit.store(limit, Relaxed);
        self.shared.lock().changed = Some((config, origin));
        self.shared.news.notify_one();
    }

    /// What went wrong since the last call.
    pub fn take_trouble(&self) -> Option<String> {
        self.shared.lock().trouble.take()
    }

    /// Sends what waits until `deadline`, and ends then.
    pub fn stop(&self, deadline: Instant) {
        self.shared.lock().stop = Some(deadline);
        self.shared.news.notify_one();
        self.shared.room.notify_all();
    }

    /// Waits for the end, a little beyond the deadline at most. Returns whether it has come.
    pub fn join(mut self, deadline: Instant) -> bool {
        let Some(thread) = self.thread.take() else { return true };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                // It hangs in a call of the system; the process ends without it.
                // What it had in hand may have arrived, which nobody knows.
                self.shared.totals.overflowed.fetch_add(self.queued(), Relaxed);
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        thread.join().is_ok()
    }
}

/// Whoever lets go of a channel without having stopped it has no use for it: a configuration that was not taken, whose
/// sinks must not keep their files.
impl Drop for Channel {
    fn drop(&mut self) {
        self.shared.lock().stop.get_or_insert_with(Instant::now);
        self.shared.news.notify_one();
        self.shared.room.notify_all();
    }
}

impl Shared {
    /// The orders, also if the thread has panicked: they are whole after every step.
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    shared: Arc<Shared>,
    /// `None` as long as it cannot be had.
    exporter: Option<Exporter>,
    config: Config,
    origin: Origin,
    name: String,
    pause: Duration,
    /// Whether documents, and metrics, could not be sent the last time: they may go to different places.
    fails: (bool, bool),
    /// What is being sent.
    batch: Vec<Document>,
}

/// What an attempt was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Documents,
    Metrics,
}

/// What to do next.
#[derive(Debug, Default)]
struct Work {
    metrics: Option<Arc<Snapshot>>,
    reopen: bool,
    changed: Option<(Config, Origin)>,
    stop: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        loop {
            let work = self.wait();
            if let Some((config, origin)) = work.changed {
                self.change(config, origin);
            }
            if work.reopen
                && let Some(exporter) = &mut self.exporter
            {
                let reopened = exporter.reopen();
                self.note_failure(reopened);
            }
            self.send();
            if let Some(snapshot) = work.metrics
                && let Some(exporter) = &mut self.exporter
            {
                match exporter.metrics(&snapshot) {
                    Ok(true) => self.note(What::Metrics, None),
                    // They were not due, which tells nothing.
                    Ok(false) => {}
                    Err(failure) => self.note(What::Metrics, Some(failure)),
                }
            }
            if let Some(deadline) = work.stop
                && (self.is_done() || Instant::now() >= deadline)
            {
                self.end();
                return;
            }
        }
    }

    /// Waits until there is something to do, and takes it.
    fn wait(&mut self) -> Work {
        let Self { shared, batch, .. } = self;
        let mut orders = shared.lock();
        loop {
            let ripe = orders.since.is_some_and(|since| since.elapsed() >= LINGER)
                || orders.documents.len() >= BATCH
                || !batch.is_empty();
            if ripe || orders.has_more() {
                break;
            }
            let left = orders
                .since
                .map_or(Duration::from_secs(3600), |since| LINGER.saturating_sub(since.elapsed()));
            orders = shared
                .news
                .wait_timeout(orders, left.max(Duration::from_millis(1)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let room = BATCH.saturating_sub(batch.len()).min(orders.documents.len());
        batch.extend(orders.documents.drain(..room));
        orders.since = (!orders.documents.is_empty()).then(Instant::now);
        shared.in_hand.store(batch.len() as u64, Relaxed);
        let work = Work {
            metrics: orders.metrics.take(),
            reopen: std::mem::take(&mut orders.reopen),
            changed: orders.changed.take(),
            stop: orders.stop,
        };
        drop(orders);
        shared.room.notify_all();
        work
    }

    /// Ends the exporter, with what it holds back.
    fn let_go(&mut self) {
        let flushed = self.exporter.take().map_or(Ok(()), |mut exporter| exporter.flush());
        self.note_failure(flushed);
    }

    /// Takes note of what went wrong beside sending; that it did not says nothing about sending.
    fn note_failure(&mut self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.note(What::Documents, Some(failure));
        }
    }

    /// Becomes another sink. The old one goes first: both may want the same file.
    fn change(&mut self, config: Config, origin: Origin) {
        self.let_go();
        match Exporter::new(&config, &origin) {
            Ok(exporter) => (self.exporter, self.config, self.origin) = (Some(exporter), config, origin),
            Err(error) => {
                self.note(What::Documents, Some(Failure::retry(format!("it goes on as it was: {error:#}"))));
                self.exporter = Exporter::new(&self.config, &self.origin).ok();
            }
        }
        self.pause = FIRST_PAUSE;
    }

    /// Makes the exporter anew if it could not be had the last time; pauses if it still cannot.
    fn obtain(&mut self) {
        if self.exporter.is_none() {
            match Exporter::new(&self.config, &self.origin) {
                Ok(exporter) => self.exporter = Some(exporter),
                Err(error) => {
                    self.note(What::Documents, Some(Failure::retry(format!("{error:#}"))));
                    self.rest(None);
                }
            }
        }
    }

    /// Sends the batch, or pauses after a failure.
    fn send(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let totals = Arc::clone(&self.shared.totals);
        self.obtain();
        let Some(exporter) = &mut self.exporter else { return };
        match exporter.send(&self.batch) {
            Ok(()) => {
                totals.delivered.fetch_add(self.batch.len() as u64, Relaxed);
                self.batch.clear();
                self.shared.in_hand.store(0, Relaxed);
                self.note(What::Documents, None);
            }
            Err(failure) => {
                let done = failure.done.min(self.batch.len());
                let refused = failure.refused.min(done);
                totals.delivered.fetch_add((done - refused) as u64, Relaxed);
                totals.refused.fetch_add(refused as u64, Relaxed);
                self.batch.drain(..done);
                self.shared.in_hand.store(self.batch.len() as u64, Relaxed);
                let (progress, after) = (done > 0, failure.after);
                self.note(What::Documents, Some(failure));
                if !self.batch.is_empty() && !progress {
                    self.rest(after);
                }
            }
        }
    }

    /// Takes note of how an attempt went.
    fn note(&mut self, what: What, failure: Option<Failure>) {
        let (documents, metrics) = &mut self.fails;
        *match what {
            What::Documents => &mut *documents,
            What::Metrics => &mut *metrics,
        } = failure.is_some();
        let fails = *documents || *metrics;
        let was = self.shared.failing.swap(fails, Relaxed);
        let Some(failure) = failure else {
            if what == What::Documents {
                self.pause = FIRST_PAUSE;
            }
            if was && !fails {
                log::warn!("sink {}: works again", self.name);
            }
            return;
        };
        self.shared.totals.failures.fetch_add(1, Relaxed);
        if !was {
            log::warn!("sink {}: {failure}", self.name);
        }
        self.shared.lock().trouble = Some(failure.why);
    }

    /// Pauses: as long as the other side asks for, else twice as long each time, and never in step with others. An end
    /// interrupts it.
    fn rest(&mut self, after: Option<Duration>) {
        // Never before it asks for, and never so late that a server that asks for a day is forgotten.
        let asked = after.map(|after| after.min(LONGEST_ASKED).mul_f64(2.0 - jitter(&self.name)));
        let pause = asked.unwrap_or_else(|| self.pause.mul_f64(jitter(&self.name)));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let until = Instant::now() + pause;
        let mut orders = self.shared.lock();
        loop {
            let end = orders.stop.map_or(until, |deadline| until.min(deadline));
            // While it pauses the queue goes on filling; that wakes it, and it goes on pausing, unless it is to be another.
            if orders.changed.is_some() {
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let (next, _) =
                self.shared.news.wait_timeout(orders, left).unwrap_or_else(PoisonError::into_inner);
            orders = next;
        }
    }

    fn is_done(&self) -> bool {
        self.batch.is_empty() && self.shared.lock().documents.is_empty()
    }

    fn end(mut self) {
        self.let_go();
        let left = self.batch.len() + self.shared.lock().documents.drain(..).count();
        self.shared.totals.overflowed.fetch_add(left as u64, Relaxed);
        self.shared.in_hand.store(0, Relaxed);
        if left > 0 {
            log::warn!("sink {}: {left} documents were not sent before the end, and are lost", self.name);
        }
    }
}

/// Between 0.5 and 1: hosts that lost the same server must not come back to it together.
pub(super) fn jitter(salt: &str) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    // Each `RandomState` has keys of its own.
    let bits = RandomState::new().hash_one(salt) >> 11;
    0.5 + bits as f64 / (1_u64 << 53) as f64 / 2.0
}

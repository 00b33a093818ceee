//! The live kernel: a thread that drains the ring buffer and does nothing else.
//!
//! It comes every few milliseconds, or earlier when the kernel programs wake it because a buffer fills.
//! Batches go through a bounded queue: when the rest of the program cannot keep up the buffers fill, and the
//! kernel programs count what does not fit.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use tcp_trace_common::{aggregate::AggregateRow, counters::Counters};
use tcp_trace_core::{
    filter::FilterSpec,
    mode::{Mode, ModeChange, Reason},
    process::ProcessId,
    record::{CounterReading, encode_counters, kind},
    session::Session,
    time::Timestamp,
};
use tokio::{io::unix::AsyncFd, sync::mpsc, time::sleep};
use zerocopy::IntoBytes as _;

use super::{
    Batch,
    lookout::{self, Lookout, Order},
    watch::{self, Watch},
};
use crate::{
    bpf::{self, Attached, Generation, Holders, ModeChoice, Progress, degraded::no_aggregation},
    confine::{self, Duty},
    host, stacks,
    survey::{Scope, Surveyor},
};

/// Idle buffers are looked at this often; also the longest that an event waits.
const IDLE: Duration = Duration::from_millis(20);
/// By how much reading stays behind the present: a program that has noted a time has long written its record then, if no
/// interrupt is in its way, and the kernel's clock for programs has long passed it (`ktime_get_mono_fast_ns`).
const SLACK: Duration = Duration::from_millis(1);
/// A batch goes out when it is this long.
const BATCH_BYTES: usize = 256 * 1024;
/// By so much it may be longer: a record of the buffers.
const LONGEST: usize = 4096;
/// Batches that wait for the rest of the program: at most 16 MiB.
const QUEUE: usize = 64;
/// Of them, those whose memory is used again: as many as are filled at full churn before the rest of the program has
/// its turn. Memory that is given back and taken anew is cleared by the kernel each time, and cold.
const SPARE: usize = 8;
/// Rows of a record.
const ROWS: usize = 4096;
/// Commands that wait for the drain thread.
const COMMANDS: usize = 8;
/// How often the buffer is looked at while a grace period passes.
const GRACE_POLL: Duration = Duration::from_millis(2);
/// Instead of a grace period where the kernel does not offer one; no program runs nearly as long.
const GRACE_FALLBACK: Duration = Duration::from_millis(100);

/// A live source.
#[derive(Debug)]
pub struct Live {
    /// What this run is.
    pub session: Session,
    batches: mpsc::Receiver<Batch>,
    spare: Spare,
    lookout: Lookout,
    thread: Option<thread::JoinHandle<anyhow::Result<()>>>,
}

/// Memory of batches that have been used.
#[derive(Clone, Debug, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn put(&self, batch: Batch) {
        let bytes = batch.into_bytes();
        if bytes.capacity() >= BATCH_BYTES
            && bytes.capacity() < 2 * BATCH_BYTES
            && let Ok(mut spare) = self.0.lock()
            && spare.len() < SPARE
        {
            spare.push(bytes);
        }
    }

    /// An empty batch; the one that was used last is taken first, while the caches still have it.
    fn take(&self) -> Batch {
        let bytes = self.0.lock().ok().and_then(|mut spare| spare.pop());
        Batch::reusing(bytes.unwrap_or_else(|| Vec::with_capacity(BATCH_BYTES + LONGEST)))
    }
}

/// What the drain thread is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// The kernel's counters, with everything that was counted before them in the stream.
    ReadCounters,
    /// The transitions that were counted in the kernel.
    TakeRows,
    /// Records from elsewhere, to stand in the stream.
    Deliver(Batch),
    /// Brings everything into the stream that has happened by now.
    Settle,
    /// The end.
    Stop,
}

/// Attaches the programs, with `stacks` those that tell where connections are opened too, and starts to drain.
///
/// # Errors
///
/// What [`bpf::attach`] says, or that the thread could not be started.
pub fn start(options: &bpf::Options, filter: FilterSpec, stacks: bool) -> anyhow::Result<Live> {
    let netns = (options.filter.netns != 0).then_some(options.filter.netns);
    let mut surveyor = Surveyor::new(netns);
    let (options, no_aggregation) = without_aggregation(*options, &filter);
    // Before the main programs, so that no connection whose birth is seen lacks its stack.
    let stacks = stacks.then(bpf::attach_stacks);
    // Beside the making of the programs, which takes longer: so it is read shortly before they are attached.
    let (mut attached, baseline) = thread::scope(|scope| {
        let thread = thread::Builder::new().name("tcp-trace-first".to_owned());
        let baseline = thread.spawn_scoped(scope, || surveyor.baseline()).context(host::NO_THREAD)?;
        let attached = bpf::attach(&options).map_err(about_memory)?;
        let baseline = baseline.join().map_err(|_panic| anyhow!("the look at the namespaces panicked"))?;
        anyhow::Ok((attached, baseline))
    })?;
    attached.degradations.extend(no_aggregation);
    let stacks = stacks.and_then(|stacks| attached.with_stacks(stacks));
    let session = Session {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        pid: host::sees_all_processes().then(std::process::id),
        host: host::host(),
        anchor: host::clock_anchor(),
        started: attached.started,
        attach: attached.attach,
        half_open: attached.half_open,
        programs: attached.programs.clone(),
        filter,
        buffer_bytes: options.buffers.bytes(),
        degradations: attached.degradations.clone(),
    };
    // Before there are threads, which have at most what this one has.
    let (counts, holders) = (&attached.counts, &attached.holders);
    confine::settle(|| counts.read().is_ok() && holders.as_ref().is_none_or(Holders::may_be_read));
    let watch = watch(&mut attached, &options);
    let (batch_sender, batches) = mpsc::channel(QUEUE);
    let (commands, command_receiver) = mpsc::channel(COMMANDS);
    (surveyor.requests, surveyor.holders) = (attached.requests.take(), attached.holders.take());
    surveyor.started = attached.live;
    // They are the first, and the queue is empty.
    let _ = commands.try_send(Command::Deliver(baseline));
    if options.mode != ModeChoice::Only(Mode::Stream) {
        let first = first_mode(&options, attached.started);
        let _ = commands.try_send(Command::Deliver(watch::record(&first)));
    }
    if let Some((watch, mode)) = watch {
        let commands = commands.clone();
        lookout::spawn("tcp-trace-watch", move || watch.run(mode, &commands))?;
    }
    let stacks = stacks.map(|stacks| {
        let commands = commands.clone();
        stacks::start(stacks, move |batch| commands.blocking_send(Command::Deliver(batch)).is_ok())
    });
    let lookout = Lookout::start(surveyor, commands, stacks.transpose()?)?;
    let spare = Spare::default();
    let drain = Drain { attached, batches: batch_sender, batch: Batch::default(), spare: spare.clone() };
    let thread = thread::Builder::new()
        .name("tcp-trace-drain".into())
        .spawn(move || drain_thread(drain, command_receiver))
        .context("starting the drain thread")?;
    lookout.order(Order { scope: Scope::All, last: false });
    Ok(Live { session, batches, spare, lookout, thread: Some(thread) })
}

/// What helps where the kernel has no memory for buffers and maps: they count as this program's, in its cgroup too.
fn about_memory(error: anyhow::Error) -> anyhow::Error {
    use rustix::io::Errno;
    let errno = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<Errno>().copied().or_else(|| Errno::from_io_error(cause.downcast_ref()?))
    };
    // Where both hooks were refused, why is told as text.
    let told = format!("{error:#}").contains("(os error 12)");
    if told || error.chain().any(|cause| errno(cause) == Some(Errno::NOMEM)) {
        return error.context(
            "there is not enough memory for the kernel's part; ask for smaller buffers (--buffer 64k), or raise the limit of \
             this program's cgroup (memory.max; systemd: MemoryMax)",
        );
    }
    error
}

/// With a filter that user space has to apply, a count would hold what the filter does not want.
fn without_aggregation(
    options: bpf::Options,
    filter: &FilterSpec,
) -> (bpf::Options, Option<tcp_trace_core::session::Degradation>) {
    if options.mode != ModeChoice::Auto || filter.is_decided_in_kernel() {
        return (options, None);
    }
    let without = no_aggregation(
        "the kernel programs cannot decide this filter alone",
        "filter by --netns, --cgroup or --container only, or not at all",
    );
    (bpf::Options { mode: ModeChoice::Only(Mode::Stream), ..options }, Some(without))
}

/// The mode that a run begins with.
fn first_mode(options: &bpf::Options, time: Timestamp) -> ModeChange {
    let (mode, reason) = match options.mode {
        ModeChoice::Auto => (Mode::Stream, Reason::Start),
        ModeChoice::Only(mode) => (mode, Reason::Asked),
    };
    ModeChange { time, mode, reason }
}

/// Who watches the mode, and the one that it begins with; `None` where there is but one way.
fn watch(attached: &mut Attached, options: &bpf::Options) -> Option<(Watch, Mode)> {
    let mode = first_mode(options, attached.started).mode;
    let watch = Watch {
        instead: attached.instead.take(),
        aggregation: attached.aggregation.clone()?,
        counts: Arc::clone(&attached.counts),
        fills: attached.fills.take(),
        room: options.buffers.each as u64,
    };
    Some((watch, mode))
}

impl Live {
    /// The next batch; `None` after the last one.
    ///
    /// # Errors
    ///
    /// If the drain thread failed.
    pub async fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        if let Some(batch) = self.batches.recv().await {
            return Ok(Some(batch));
        }
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(result)) => result.map(|()| None),
            Some(Err(_panic)) => Err(anyhow!("the drain thread panicked")),
            None => Ok(None),
        }
    }

    /// Gives a batch back that nobody wants any more, so that its memory can be used again.
    pub fn recycle(&self, batch: Batch) {
        self.spare.put(batch);
    }

    /// Asks for a survey, and for a reading of the kernel's counters behind it, with everything that was counted in
    /// the stream.
    pub fn survey(&self, scope: Scope) {
        self.lookout.order(Order { scope, last: false });
    }

    /// Asks who these processes are.
    pub fn look_at(&self, processes: Vec<ProcessId>) {
        self.lookout.look_at(processes);
    }

    /// Detaches, after a last survey; what is still in the buffer follows, then the last counters and the end mark.
    pub fn stop(&self, scope: Scope) {
        self.lookout.order(Order { scope, last: true });
    }

    /// Detaches without waiting for the last survey. Returns whether the drain thread will hear of it.
    pub fn stop_now(&self) -> bool {
        self.lookout.stop_draining()
    }
}

fn drain_thread(drain: Drain, commands: mpsc::Receiver<Command>) -> anyhow::Result<()> {
    confine::assume(&Duty::Drain);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the drain thread's runtime")?;
    runtime.block_on(drain.run(commands))
}

/// Waits until every BPF program that is running now has ended: they run under RCU, and this system call is
/// `synchronize_rcu()` (`kernel/sched/membarrier.c`; refused where CPUs are `nohz_full`).
pub(super) fn grace_period() {
    use rustix::thread::{MembarrierCommand, membarrier};
    if membarrier(MembarrierCommand::Global).is_err() {
        thread::sleep(GRACE_FALLBACK);
    }
}

struct Drain {
    attached: Attached,
    batches: mpsc::Sender<Batch>,
    batch: Batch,
    spare: Spare,
}

/// The rest of the program has gone: nobody wants what is drained.
struct Gone;

impl Drain {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> anyhow::Result<()> {
        let rings = self.attached.rings.as_fd().try_clone_to_owned().context("watching the ring buffers")?;
        // SAFETY: an owned descriptor, which stays open and the same as long as `ready` has it.
        let ready = unsafe { AsyncFd::register(rings) }.map_err(std::io::Error::from);
        let ready = ready.context("watching the ring buffers")?;
        loop {
            let command = tokio::select! {
                command = commands.recv() => Some(command.unwrap_or(Command::Stop)),
                guard = ready.readable() => {
                    guard.context("watching the ring buffers")?.clear_ready();
                    self.attached.rings.heard();
                    None
                }
                () = sleep(IDLE) => None,
            };
            let done = match command {
                None => self.drain().await,
                Some(Command::ReadCounters) => self.read_counters().await?,
                Some(Command::TakeRows) => self.take_rows().await?,
                Some(Command::Deliver(batch)) => self.deliver(batch).await,
                Some(Command::Settle) => self.settle().await,
                Some(Command::Stop) => {
                    let _ = self.finish().await?;
                    return Ok(());
                }
            };
            self.attached.flush_log();
            if done.is_err() {
                return Ok(());
            }
        }
    }

    /// Takes what is in the buffers, but for the very last.
    async fn drain(&mut self) -> Result<(), Gone> {
        let until = Timestamp(host::monotonic().0.saturating_sub(SLACK.as_nanos() as u64));
        // What stands behind a record that is being written is for the next time.
        while self.fill_batch(until) == Progress::Enough {
            self.send().await?;
        }
        self.send().await
    }

    /// Takes everything that is in the buffers now.
    async fn drain_all(&mut self) -> Result<(), Gone> {
        let until = host::monotonic();
        // Whoever has noted a time has written its record by then, and so has who was just writing.
        sleep(SLACK).await;
        loop {
            let progress = self.fill_batch(until);
            self.send().await?;
            match progress {
                Progress::Done => return Ok(()),
                Progress::Enough => {}
                Progress::Blocked => sleep(SLACK).await,
            }
        }
    }

    /// Moves records into the batch, those with a time of at most `until`, until it is long enough.
    fn fill_batch(&mut self, until: Timestamp) -> Progress {
        let Self { attached, batch, .. } = self;
        attached.rings.read(until, BATCH_BYTES, |record| batch.push(kind::EVENT, record))
    }

    /// Reads the counters first, then drains: whatever they count stands in the stream before them.
    async fn read_counters(&mut self) -> anyhow::Result<Result<(), Gone>> {
        let skipped = self.attached.counts.skipped();
        // A program may have counted a transition as seen and not yet what became of it: it has when everything that was
        // seen by now has settled.
        let seen = self.attached.counts.read()?.seen;
        if self.take_rows().await?.is_err() {
            return Ok(Err(Gone));
        }
        let mut counters = self.attached.counts.read()?;
        counters.seen = seen;
        counters.include();
        self.push_counters(counters, skipped);
        Ok(self.send().await)
    }

    /// Brings everything into the stream that has happened by now.
    async fn settle(&mut self) -> Result<(), Gone> {
        // A program may have seen a transition and not submitted its event yet: it has after a grace period.
        self.drain_through_grace().await?;
        self.drain_all().await
    }

    /// Brings everything into the stream that has happened by now, what was counted in the kernel included.
    async fn take_rows(&mut self) -> anyhow::Result<Result<(), Gone>> {
        let Some(aggregation) = self.attached.aggregation.clone() else { return Ok(self.settle().await) };
        // What a program counts after the first grace period may go into the one generation or the other; after the
        // second nobody writes into the one that was left.
        if self.drain_through_grace().await.is_err() {
            return Ok(Err(Gone));
        }
        let generation = aggregation.turn()?;
        if self.drain_through_grace().await.is_err() || self.drain_all().await.is_err() {
            return Ok(Err(Gone));
        }
        if let Some(generation) = generation {
            self.push_rows(&aggregation.take(generation)?);
        }
        Ok(self.send().await)
    }

    fn push_rows(&mut self, rows: &[AggregateRow]) {
        for rows in rows.chunks(ROWS) {
            self.batch.push(kind::AGGREGATES, rows.as_bytes());
        }
    }

    async fn deliver(&mut self, batch: Batch) -> Result<(), Gone> {
        // The ring buffer fills while many are delivered.
        self.drain().await?;
        self.batches.send(batch).await.map_err(|_receiver_dropped| Gone)
    }

    async fn finish(&mut self) -> anyhow::Result<Result<(), Gone>> {
        let skipped = self.attached.counts.skipped();
        self.attached.detach();
        if self.drain_through_grace().await.is_err() {
            return Ok(Err(Gone));
        }
        let counters = self.attached.counts.read()?;
        if self.drain_all().await.is_err() {
            return Ok(Err(Gone));
        }
        if let Some(aggregation) = self.attached.aggregation.clone() {
            for generation in [Generation::Even, Generation::Odd] {
                self.push_rows(&aggregation.take(generation)?);
            }
        }
        self.push_counters(counters, skipped);
        self.batch.push(kind::END, &host::monotonic().0.to_le_bytes());
        Ok(self.send().await)
    }

    /// Drains until every program that is running now has ended.
    async fn drain_through_grace(&mut self) -> Result<(), Gone> {
        // Not one of tokio's: it panics where there is no room for a thread, which may pass.
        let waiter = thread::Builder::new().name("tcp-trace-grace".to_owned()).spawn(grace_period);
        let begun = Instant::now();
        let is_over = || match &waiter {
            Ok(waiter) => waiter.is_finished(),
            Err(_) => begun.elapsed() >= GRACE_FALLBACK,
        };
        while !is_over() {
            self.drain().await?;
            sleep(GRACE_POLL).await;
        }
        Ok(())
    }

    fn push_counters(&mut self, counters: Counters, skipped: u64) {
        // A lower bound: among the rescued are some that the kernel does not count as skipped, such as those
        // between the two detachments.
        let missed = skipped.saturating_sub(counters.rescued);
        let reading = CounterReading { time: host::monotonic(), missed, counters: Box::new(counters) };
        self.batch.push(kind::COUNTERS, &encode_counters(&reading));
    }

    async fn send(&mut self) -> Result<(), Gone> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, self.spare.take());
        self.batches.send(batch).await.map_err(|_receiver_dropped| Gone)
    }
}

//! A run: one source, the engine, one sink.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use tcp_trace_core::{
    decode::DecodeError,
    filter::FilterSpec,
    findings::{Judge, Severity, Thresholds},
    process::printable,
    session::Session,
    tracker::{self, Tracker},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval_at, sleep},
};

use crate::{
    cli::{
        args::{Cli, Command, RecordArgs, ReportArgs, StreamArgs},
        config,
        settings::{self, LiveSettings},
    },
    confine::{self, Duty},
    engine::{Cadence, Engine, Total},
    exit::Exit,
    new_file,
    outlet::Outlet,
    pages::{Page, Pages},
    progress::Progress,
    recording::{self, RecordingError, Writer},
    say,
    shown::shown,
    sink::{Format, Sink, balance},
    source::{self, Live, Replay},
    stop::{self, Guard},
    survey::Scope,
};

/// How often the kernel's counters are read into a stream or recording.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// How long the last look at the sockets may take before the run ends without it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the run may stand still after that: the last report is made and written.
const TO_END: Duration = Duration::from_secs(5);

/// What is to be made of the records.
struct Plan<'a> {
    format: Format,
    tracker: tracker::Settings,
    interval: Option<Duration>,
    record: Option<&'a Path>,
    strict: bool,
    thresholds: Thresholds,
    fail_on: Option<Severity>,
    /// Where reports are drawn, beside what is printed.
    html: Option<&'a Path>,
    svg: Option<&'a Path>,
}

impl Plan<'_> {
    /// The files that reports are drawn into. Before anything is attached or read, so that one that cannot be written
    /// costs nothing.
    fn pages(&self) -> anyhow::Result<Vec<Page>> {
        let pages = [self.html.map(Page::html), self.svg.map(Page::svg)];
        pages.into_iter().flatten().collect()
    }
}

/// Runs a command.
///
/// # Errors
///
/// What went wrong; [`Exit::of`] gives the exit code.
pub fn run(cli: &Cli) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Stream(args) => stream(args, cli.verbose),
        Command::Report(args) => report(args, cli.verbose),
        Command::Record(args) => record(args, cli.verbose),
        Command::Top(args) => crate::top::run(args, cli.verbose),
        Command::Snapshot(args) => crate::snapshot::run(args),
        Command::Agent(args) => crate::agent::run(args, cli.verbose),
        Command::Doctor(args) => crate::doctor::run(args),
        Command::Explain(args) => crate::explain::run(args),
        Command::Kill(args) => crate::kill::run(args),
    }
}

fn stream(args: &StreamArgs, verbose: u8) -> anyhow::Result<Exit> {
    settings::check_stacks(args)?;
    let format = match (args.closed, args.json) {
        (false, false) => Format::Stream(settings::columns(args)),
        (false, true) => Format::StreamJson,
        (true, false) => Format::Closed(settings::columns(args)),
        (true, true) => Format::ClosedJson,
    };
    let plan = Plan {
        format,
        tracker: settings::tracker(args.memory),
        interval: None,
        record: args.record.as_deref(),
        strict: args.strict,
        thresholds: Thresholds::default(),
        fail_on: None,
        html: None,
        svg: None,
    };
    match &args.from {
        Some(path) => replay(path, &settings::filter_spec(&args.filter)?, &plan),
        None => live(settings::stream(&args.source, &args.filter, verbose)?, &plan),
    }
}

fn report(args: &ReportArgs, verbose: u8) -> anyhow::Result<Exit> {
    let plan = Plan {
        format: if args.json { Format::ReportJson } else { Format::Report },
        tracker: settings::report(args),
        interval: args.interval,
        record: args.record.as_deref(),
        strict: args.strict,
        thresholds: args.config.as_deref().map(config::read).transpose()?.unwrap_or_default().findings,
        fail_on: args.fail_on.map(settings::severity),
        html: args.html.as_deref(),
        svg: args.svg.as_deref(),
    };
    match &args.from {
        Some(path) => replay(path, &settings::filter_spec(&args.filter)?, &plan),
        None => live(settings::live(&args.source, &args.filter, verbose)?, &plan),
    }
}

fn record(args: &RecordArgs, verbose: u8) -> anyhow::Result<Exit> {
    let plan = Plan {
        format: Format::Nothing,
        tracker: settings::tracker(args.memory),
        interval: None,
        record: Some(&args.file),
        strict: args.strict,
        thresholds: Thresholds::default(),
        fail_on: None,
        html: None,
        svg: None,
    };
    live(settings::live(&args.source, &args.filter, verbose)?, &plan)
}

/// From the live kernel.
fn live(settings: LiveSettings, plan: &Plan<'_>) -> anyhow::Result<Exit> {
    // The runtime is the first that takes some, and panics without.
    stop::room()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the runtime")?;
    let (total, broken) = runtime.block_on(async {
        // Before anything is attached, so that a signal at any time ends the run in order.
        let mut stop = StopSignals::new()?;
        // Before anything is attached, so that a path that cannot be written costs nothing.
        let file = plan.record.map(|path| new_file::create(path, recording::FILE)).transpose()?;
        let pages = plan.pages()?;
        let LiveSettings { options, filter, duration, stacks } = settings;
        let mut live = source::start(&options, filter, stacks)?;
        announce(&live.session, plan);
        if let Some(file) = &file {
            new_file::empty(file).context("emptying the recording")?;
        }
        let recording = file.map(|file| Writer::new(file, &live.session)).transpose()?;
        let mut engine = engine(&live.session, &FilterSpec::default(), plan, recording, pages)?;
        confine::assume(&Duty::Follow);
        engine.begin()?;
        drive(&mut live, &mut engine, plan, duration, &mut stop).await?;
        let broken = engine.take_broken();
        anyhow::Ok((engine.finish()?, broken))
    })?;
    let exit = conclude(&total, plan);
    // What was seen is told, and that the recording is not whole is the last word.
    broken.map_or(Ok(exit), Err)
}

/// Feeds the engine until the source ends, or somebody ends it.
async fn drive<O: Outlet>(
    live: &mut Live,
    engine: &mut Engine<O>,
    plan: &Plan<'_>,
    duration: Option<Duration>,
    stop: &mut StopSignals,
) -> anyhow::Result<()> {
    let every = plan.interval.unwrap_or(COUNTERS_EVERY);
    let mut ticks = interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let deadline = sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(deadline);
    let (mut stopping, mut stopped) = (false, false);
    loop {
        stop.guard.turn();
        if engine.is_broken() && !stopping {
            // The recording is what the run is for, or a part of it: it ends in order, while there is something to tell.
            live.stop(engine.scope_of_report());
            stopping = true;
            deadline.set(sleep(PATIENCE));
        }
        let enough = async {
            tokio::select! {
                () = stop.wait() => {}
                () = &mut deadline => {}
            }
        };
        tokio::select! {
            () = enough, if !stopped => {
                if stopping {
                    stopped = live.stop_now();
                    say!("tcp-trace: ends without a last look at the sockets");
                } else {
                    live.stop(engine.scope_of_report());
                    stopping = true;
                }
                deadline.set(sleep(PATIENCE));
            }
            _ = ticks.tick(), if !stopping => live.survey(match plan.interval {
                _ if engine.needs_repair() => Scope::All,
                Some(_) => engine.scope_of_report(),
                None => Scope::Requests,
            }),
            batch = live.next() => match batch? {
                Some(batch) => {
                    engine.batch(&batch)?;
                    live.recycle(batch);
                    live.look_at(engine.take_wanted());
                }
                None => return Ok(()),
            }
        }
    }
}

/// From a recording.
fn replay(path: &Path, filter: &FilterSpec, plan: &Plan<'_>) -> anyhow::Result<Exit> {
    let (mut replay, session) = Replay::open(path)?;
    let mut engine = engine(&session, filter, plan, None, plan.pages()?)?;
    // What a recording says is read without any right that its reader could misuse.
    confine::assume_alone(&Duty::Follow);
    let prints = plan.interval.is_some() || !matches!(plan.format, Format::Report | Format::ReportJson);
    let mut progress = Progress::reading(path, replay.length(), prints);
    engine.begin()?;
    loop {
        let start = replay.offset();
        progress.at(start);
        let fed = match replay.next_batch() {
            Ok(Some(batch)) => {
                let fed = engine.batch(&batch).map_err(|error| in_recording(error, start));
                replay.recycle(batch);
                fed
            }
            Ok(None) => break,
            Err(error) => Err(error.into()),
        };
        match fed {
            Err(error) if error.is::<RecordingError>() => {
                drop(progress);
                engine.cut_off()?;
                return Err(error).with_context(|| shown(path));
            }
            other => other?,
        }
    }
    let total = engine.finish()?;
    Ok(conclude(&total, plan))
}

/// A record that cannot be decoded is damage of the recording that it stands in.
fn in_recording(error: anyhow::Error, block: u64) -> anyhow::Error {
    match error.downcast::<DecodeError>() {
        Ok(decode) => RecordingError::Corrupt { offset: block, what: decode.to_string() }.into(),
        Err(other) => other,
    }
}

fn engine(
    session: &Session,
    filter: &FilterSpec,
    plan: &Plan<'_>,
    recording: Option<Writer<File>>,
    pages: Vec<Page>,
) -> anyhow::Result<Engine<Pages<Sink<BufWriter<io::Stdout>>>>> {
    let format = plan.format.with_stacks(session.takes_stacks());
    let sink = Sink::new(BufWriter::with_capacity(1 << 16, io::stdout()), format);
    let (changes, closed) = (sink.wants_changes(), sink.wants_closed());
    let settings = tracker::Settings { changes, closed, series: !pages.is_empty(), ..plan.tracker };
    let tracker = Tracker::new(session.clone(), filter, settings)
        .context("the filter that the recording was made with")?;
    let nanoseconds = |every: Duration| u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
    let cadence = plan.interval.map(|every| Cadence::new(session.started, nanoseconds(every)));
    Ok(Engine::new(tracker, Judge::new(plan.thresholds.clone()), cadence, Pages::new(sink, pages), recording))
}

/// Says on standard error what is going on; a report says what it lacks itself.
fn announce(session: &Session, plan: &Plan<'_>) {
    say!("tcp-trace: tracing by {}; Ctrl-C ends", session.tiers().join(", "));
    if !matches!(plan.format, Format::Report | Format::ReportJson) {
        for degradation in &session.degradations {
            say!("tcp-trace: without {}: {}", degradation.feature, printable(&degradation.reason));
        }
    }
}

/// The balance, where no report has shown it, and the exit code.
fn conclude(total: &Total, plan: &Plan<'_>) -> Exit {
    let Some(loss) = &total.loss else { return Exit::Done };
    if plan.format != Format::Report {
        say!("tcp-trace: {}", balance(loss));
    }
    if plan.strict && (loss.lost > 0 || !loss.balanced) {
        // What the findings rest on is not whole.
        return Exit::Lossy;
    }
    if plan.fail_on.is_some_and(|least| total.worst >= Some(least)) { Exit::Found } else { Exit::Done }
}

/// SIGINT and SIGTERM end a run after a last look at the sockets; a second one, without.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    guard: Guard,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, guard: Guard::start(PATIENCE + TO_END)? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

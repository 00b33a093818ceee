//! The agent: the long-running form, which hands what it finds to several sinks at once.
//!
//! The engine's thread does what it does for every command, and its outlet (`desk.rs`) puts documents into the queues of
//! sinks ([`channel`]), each of which has a thread of its own. So a sink that is slow or dead costs nobody anything but its
//! own documents, which are counted.

pub mod channel;
mod desk;
pub mod export;
pub mod exporter;
pub mod http;
mod notify;
pub mod own;
pub mod select;
pub mod values;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tcp_trace_core::{
    decode::DecodeError,
    filter::FilterSpec,
    findings::Judge,
    log::Origin,
    process::{printable, printable_lines},
    session::Session,
    tracker::{self, Tracker},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval_at},
};

use self::{
    desk::{Desk, Run},
    http::{Access, Board, Server},
    notify::Manager,
};
use crate::{
    cli::{
        agent::AgentArgs,
        config::{self, Config},
        settings,
    },
    confine::{self, Duty},
    engine::{Cadence, Engine},
    exit::{Exit, Usage},
    recording::RecordingError,
    say,
    shown::shown,
    source::{self, Live, Replay},
    stop::{self, Guard},
    survey::Scope,
};

/// Where metrics are if nothing is configured at all.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9981);

/// How long the agent may stand still at its end, beyond what its sinks may take.
const TO_END: Duration = Duration::from_secs(5);

/// How long it may stand still at its end: its sinks may take their time, after the last look took its own.
fn to_end(config: &Config) -> Duration {
    config.agent.stop_within.0.saturating_mul(2).saturating_add(TO_END)
}

/// Runs it.
///
/// # Errors
///
/// What went wrong before it was at work, or ended it.
pub fn run(args: &AgentArgs, verbose: u8) -> anyhow::Result<Exit> {
    let config = configuration(args)?;
    if args.check {
        return check(&config, verbose);
    }
    match &args.from {
        Some(path) => replay(args, &config, path),
        None => live(args, config, verbose),
    }
}

/// The file, and what goes before it.
fn configuration(args: &AgentArgs) -> Result<Config, Usage> {
    let mut config = args.config.as_deref().map(config::load).transpose()?.unwrap_or_default();
    if args.config.is_none() {
        config.http.listen = Some(DEFAULT_LISTEN);
    }
    if let Some(host) = &args.host {
        config.agent.host = Some(host.clone());
    }
    if let Some(cluster) = &args.cluster {
        config.agent.cluster = Some(cluster.clone());
    }
    if let Some(labels) = &args.labels {
        config.add_labels(labels)?;
    }
    if let Some(listen) = args.http_listen {
        config.http.listen = Some(listen);
    }
    config.http.allow_remote |= args.http_allow_remote;
    if let Some(interval) = args.interval {
        config.report.interval = values::Period(interval);
    }
    let file = args.config.as_deref().map_or_else(String::new, |path| format!("--config {}: ", shown(path)));
    config.check().map_err(|(key, what)| Usage(format!("{file}{key}: {what}")))?;
    Ok(config)
}

/// Says what the configuration comes to, without doing anything.
fn check(config: &Config, verbose: u8) -> anyhow::Result<Exit> {
    let (source, filter, _) = config.source.arguments()?;
    settings::live(&source, &filter, verbose)?;
    let access = Access::read(&config.http)?;
    let token = if access.wants_token() { ", for those who have a token" } else { "" };
    let mut lines = vec![format!(
        "report each {}; metrics {}",
        seconds(config.report.interval.0),
        config.http.listen.map_or_else(
            || "not served (http.listen is not set)".to_owned(),
            |listen| format!("on {}://{listen}/metrics{token}", access.scheme())
        )
    )];
    for (name, sink) in &config.sinks {
        let kind = sink.kind().map_err(|why| Usage(format!("sinks.{name}: {why}")))?;
        lines.push(format!("sink {name}: {}, level {:?}", kind.kind(), sink.level).to_lowercase());
    }
    if config.sinks.is_empty() {
        lines.push("no sinks: documents are not told to anybody".to_owned());
    }
    for line in lines {
        say!("tcp-trace: {line}");
    }
    say!("tcp-trace: the configuration is right");
    Ok(Exit::Done)
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// What everything that is sent has in common.
fn origin(config: &Config, session: &Session) -> Origin {
    let config::Agent { host, cluster, labels, .. } = &config.agent;
    let host = host.clone().unwrap_or_else(|| session.host.name.clone());
    Origin { host, cluster: cluster.clone(), labels: labels.clone() }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn engine(config: &Config, session: &Session, desk: Desk) -> anyhow::Result<Engine<Desk>> {
    use crate::outlet::Outlet as _;
    let settings = tracker::Settings {
        close_wait_after_ns: nanoseconds(config.report.close_wait_after.0),
        max_connections: config.source.max_connections,
        changes: desk.wants_changes(),
        closed: desk.wants_closed(),
        ..tracker::Settings::default()
    };
    let tracker = Tracker::new(session.clone(), &FilterSpec::default(), settings)?;
    let cadence = Cadence::new(session.started, nanoseconds(config.report.interval.0));
    Ok(Engine::new(tracker, Judge::new(config.findings.clone()), Some(cadence), desk, None))
}

fn run_of(session: &Session, patient: bool) -> Run {
    Run { started: session.anchor.wall(session.started), patient }
}

/// The process whose own sockets are not told of one by one.
fn left_out(config: &Config, session: &Session) -> Option<u32> {
    session.pid.filter(|_| !config.agent.include_self)
}

/// From the live kernel.
fn live(args: &AgentArgs, config: Config, verbose: u8) -> anyhow::Result<Exit> {
    // The runtime is the first that takes some, and panics without.
    stop::room()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        // Before anything is attached, so that a signal at any time ends the run in order.
        let mut signals = Signals::new()?;
        let guard = Guard::start(to_end(&config))?;
        let (source, filter, _) = config.source.arguments()?;
        let settings::LiveSettings { options, filter, stacks, .. } =
            settings::live(&source, &filter, verbose)?;
        let board = Arc::<Board>::default();
        // Before anything is attached, too: what cannot be listened on costs nothing.
        let server = serve(&config, &board, Access::read(&config.http)?)?;
        let live = source::start(&options, filter, stacks)?;
        // Sinks open their files with the rights that they will have when they open them again.
        confine::assume(&Duty::Steer);
        let session = live.session.clone();
        let not = left_out(&config, &session);
        let desk =
            Desk::new(&config, origin(&config, &session), Arc::clone(&board), not, run_of(&session, false))?;
        let engine = engine(&config, &session, desk)?;
        announce(&session, server.as_ref());
        let manager = Manager::from_environment();
        let mut agent = Agent { args, config, session, live, engine, board, server, manager, guard };
        agent.manager.ready(&agent.status());
        agent.drive(&mut signals).await?;
        agent.finish()
    })
}

/// Listens, if that is wanted.
fn serve(config: &Config, board: &Arc<Board>, access: Access) -> anyhow::Result<Option<Server>> {
    config.http.listen.map(|listen| Server::start(listen, Arc::clone(board), access)).transpose()
}

fn announce(session: &Session, server: Option<&Server>) {
    say!(
        "tcp-trace: tracing by {}; SIGTERM ends, SIGHUP reads the configuration again",
        session.tiers().join(", ")
    );
    for degradation in &session.degradations {
        say!("tcp-trace: without {}: {}", degradation.feature, printable(&degradation.reason));
    }
    if let Some(server) = server {
        say!("tcp-trace: metrics on {}", server.url());
    }
}

/// At work.
struct Agent<'a> {
    args: &'a AgentArgs,
    config: Config,
    session: Session,
    live: Live,
    engine: Engine<Desk>,
    board: Arc<Board>,
    server: Option<Server>,
    manager: Manager,
    guard: Guard,
}

impl Agent<'_> {
    /// Until the source ends, which it does when it is told to.
    async fn drive(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        let mut reports = every(self.config.report.interval.0);
        let mut beats = every(self.manager.every().min(Duration::from_secs(1)));
        let mut deadline = None;
        loop {
            tokio::select! {
                () = signals.end.wait() => {
                    self.manager.stopping();
                    if deadline.is_some() {
                        self.live.stop_now();
                    } else {
                        self.live.stop(self.engine.scope_of_report());
                        deadline = Some(Instant::now() + self.config.agent.stop_within.0);
                    }
                }
                _ = signals.reload.recv() => {
                    self.reload();
                    reports = every(self.config.report.interval.0);
                }
                _ = reports.tick(), if deadline.is_none() => self.live.survey(if self.engine.needs_repair() {
                    Scope::All
                } else {
                    self.engine.scope_of_report()
                }),
                _ = beats.tick() => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.live.stop_now();
                    }
                }
                batch = self.live.next() => match batch? {
                    Some(batch) => {
                        self.engine.batch(&batch)?;
                        self.live.recycle(batch);
                        self.live.look_at(self.engine.take_wanted());
                    }
                    None => return Ok(()),
                }
            }
            self.board.turn();
            self.manager.turn();
            self.guard.turn();
        }
    }

    /// Reads the configuration again. What is wrong with it is said, and the old one holds.
    fn reload(&mut self) {
        self.manager.reloading();
        match self.adopt() {
            Ok(()) => {
                say!("tcp-trace: the configuration was read again");
                self.engine.outlet().reloaded(true);
            }
            Err(error) => {
                self.engine.outlet().reloaded(false);
                not_taken(&error);
            }
        }
        self.manager.ready(&self.status());
    }

    fn adopt(&mut self) -> anyhow::Result<()> {
        let mut config = configuration(self.args)?;
        if config.source != self.config.source {
            say!("tcp-trace: [source] has changed, which takes a restart; the old one holds");
            config.source = self.config.source.clone();
        }
        if config.metrics != self.config.metrics {
            say!("tcp-trace: [metrics] has changed, which takes a restart; the old one holds");
            config.metrics = self.config.metrics;
        }
        let access = Access::read(&config.http)?;
        let moves = config.http.listen != self.config.http.listen;
        let server = moves.then(|| serve(&config, &self.board, access.clone())).transpose()?;
        let (origin, not) = (origin(&config, &self.session), left_out(&config, &self.session));
        self.engine.outlet().reconfigure(&config, origin, not)?;
        match (server, &self.server) {
            (Some(server), _) => self.server = server,
            (None, Some(server)) => server.renew(access),
            (None, None) => {}
        }
        let cadence = Cadence::new(self.engine.now(), nanoseconds(config.report.interval.0));
        let lingering = nanoseconds(config.report.close_wait_after.0);
        self.engine.reconfigure(config.findings.clone(), Some(cadence), lingering);
        self.guard.allow(to_end(&config));
        self.config = config;
        Ok(())
    }

    fn status(&self) -> String {
        format!("tracing by {}, {} sinks", self.session.tiers().join(", "), self.config.sinks.len())
    }

    fn finish(self) -> anyhow::Result<Exit> {
        let Self { engine, config, .. } = self;
        conclude(engine, &config)
    }
}

fn not_taken(error: &anyhow::Error) {
    say!(
        "tcp-trace: the configuration was read again and not taken; the old one holds: {}",
        printable_lines(&format!("{error:#}"))
    );
}

/// Sends what is left, and says what was lost.
fn conclude(engine: Engine<Desk>, config: &Config) -> anyhow::Result<Exit> {
    let (total, desk) = engine.into_parts()?;
    let lost = desk.finish(Instant::now() + config.agent.stop_within.0);
    if let Some(loss) = &total.loss {
        say!("tcp-trace: {}", crate::sink::balance(loss));
    }
    for (name, documents) in lost {
        say!("tcp-trace: sink {name}: {documents} documents were lost");
    }
    Ok(Exit::Done)
}

/// From a recording.
fn replay(args: &AgentArgs, config: &Config, path: &std::path::Path) -> anyhow::Result<Exit> {
    let (mut replay, session) = Replay::open(path)?;
    let board = Arc::<Board>::default();
    let server =
        if serves(args, config) { serve(config, &board, Access::read(&config.http)?)? } else { None };
    confine::assume_alone(&Duty::Steer);
    let desk = Desk::new(
        config,
        origin(config, &session),
        Arc::clone(&board),
        left_out(config, &session),
        run_of(&session, true),
    )?;
    let mut engine = engine(config, &session, desk)?;
    let mut damage = None;
    while damage.is_none() {
        let start = replay.offset();
        match replay.next_batch() {
            Ok(Some(batch)) => {
                if let Err(error) = engine.batch(&batch) {
                    damage = Some(match error.downcast::<DecodeError>() {
                        Ok(decode) => {
                            RecordingError::Corrupt { offset: start, what: decode.to_string() }.into()
                        }
                        Err(other) => other,
                    });
                }
                replay.recycle(batch);
                board.turn();
            }
            Ok(None) => break,
            Err(error) => damage = Some(error.into()),
        }
    }
    if damage.is_some() {
        engine.cut_off()?;
    }
    if let Some(server) = &server {
        wait_for_the_end(args, server, &board)?;
    }
    let exit = conclude(engine, config)?;
    match damage {
        Some(error) => Err(error).with_context(|| shown(path)),
        None => Ok(exit),
    }
}

/// Whether a replay is to go on answering: if somebody asked for it, and not just by default.
fn serves(args: &AgentArgs, config: &Config) -> bool {
    args.http_listen.is_some() || args.config.is_some() && config.http.listen.is_some()
}

/// Answers until it is stopped. Read again are only the certificate and the tokens: there is nothing else to come.
fn wait_for_the_end(args: &AgentArgs, server: &Server, board: &Board) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        // Before anybody is told, so that a signal which answers it ends this in order.
        let mut signals = Signals::new()?;
        say!("tcp-trace: the recording is at its end; its metrics stay on {}", server.url());
        let mut beats = every(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = signals.end.wait() => return Ok(()),
                _ = signals.reload.recv() => {
                    match configuration(args).map_err(Into::into).and_then(|config| Access::read(&config.http)) {
                        Ok(access) => server.renew(access),
                        Err(error) => not_taken(&error),
                    }
                }
                _ = beats.tick() => board.turn(),
            }
        }
    })
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// SIGTERM and SIGINT end the agent after a last look, a second one without; SIGHUP has it read its configuration.
struct Signals {
    end: End,
    reload: Signal,
}

struct End {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        let end =
            End { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? };
        Ok(Self { end, reload: listen(SignalKind::hangup())? })
    }
}

impl End {
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

//! From the live kernel.

use std::time::Duration;

use anyhow::Context as _;
use tcp_trace_core::{
    filter::FilterSpec,
    findings::Judge,
    time::WallTime,
    tracker::{self, Tracker},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    inbox::{self, Inbox},
    model::Model,
    rows::Who,
    screen::{self, Left, Orders},
    signals::{self, Signals},
};
use crate::{
    cli::{
        config,
        settings::{self, LiveSettings},
        top::TopArgs,
    },
    confine::{self, Duty},
    engine::{Cadence, Engine, Total},
    exit::Exit,
    say,
    sink::balance,
    source::{self, Live},
    survey::Scope,
};

/// How long the last look at the sockets may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Sockets of the process that is looked at.
const SOCKETS: usize = 500;

pub(super) fn run(args: &TopArgs, verbose: u8) -> anyhow::Result<Exit> {
    let LiveSettings { options, filter, duration, stacks } =
        settings::live(&args.source, &args.filter, verbose)?;
    let thresholds = args.config.as_deref().map(config::read).transpose()?.unwrap_or_default().findings;
    let every = args.interval.unwrap_or(super::replay::INTERVAL);
    crate::stop::room()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the runtime")?;
    let (inbox, orders) = (Inbox::default(), Orders::default());
    let total = runtime.block_on(async {
        // Before anything is attached, so that a signal at any time ends the run in order.
        let mut signals = Signals::new(orders.clone())?;
        say!("tcp-trace: attaching …");
        // Before the terminal is taken over: what goes wrong is said on it as it is.
        let mut live = source::start(&options, filter, stacks)?;
        confine::assume(&Duty::Follow);
        let tracker = tracker::Settings { changes: true, ..settings::top(args) };
        let tracker =
            Tracker::new(live.session.clone(), &FilterSpec::default(), tracker).context("the filter")?;
        let cadence = Cadence::new(live.session.started, nanoseconds(every));
        let outlet = inbox::Live::new(inbox.clone());
        let mut engine = Engine::new(tracker, Judge::new(thresholds), Some(cadence), outlet, None);
        let (sender, left) = unbounded_channel();
        let screen = screen::start(Model::live(super::palette()), inbox.clone(), orders.clone(), sender)?;
        let driven = drive(&mut live, &mut engine, every, duration, &mut signals, &inbox, left).await;
        let closed = signals::close(screen, &orders);
        driven.and(closed)?;
        engine.finish()
    })?;
    Ok(conclude(&total, args.strict))
}

pub(super) fn nanoseconds(every: Duration) -> u64 {
    u64::try_from(every.as_nanos()).unwrap_or(u64::MAX)
}

/// Feeds the engine until somebody ends it.
async fn drive(
    live: &mut Live,
    engine: &mut Engine<inbox::Live>,
    every: Duration,
    duration: Option<Duration>,
    signals: &mut Signals,
    inbox: &Inbox,
    mut left: UnboundedReceiver<Left>,
) -> anyhow::Result<()> {
    engine.begin()?;
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // Half a second sooner once: an empty screen answers nothing.
    let first = sleep(every.min(Duration::from_millis(500)));
    let deadline = sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(deadline, first);
    let mut surveyed = Instant::now();
    let (mut stopping, mut stopped, mut asked) = (false, false, false);
    loop {
        let enough = async {
            tokio::select! {
                () = signals.end() => {}
                _ = left.recv() => {}
                () = &mut deadline => {}
            }
        };
        tokio::select! {
            () = enough, if !stopped => {
                if stopping {
                    stopped = live.stop_now();
                } else {
                    live.stop(engine.scope_of_report());
                    stopping = true;
                }
                deadline.set(sleep(PATIENCE));
            }
            () = &mut first, if !asked => {
                asked = true;
                live.survey(engine.scope_of_report());
            }
            _ = ticks.tick(), if !stopping => {
                // Half a tick less: that it comes a little early must not cost a whole one.
                let due = surveyed.elapsed() + every / 2 >= Duration::from_secs(inbox.pause()).max(every);
                let scope = match due {
                    _ if engine.needs_repair() => Scope::All,
                    true => engine.scope_of_report(),
                    false => Scope::Requests,
                };
                if scope > Scope::Requests {
                    surveyed = Instant::now();
                }
                live.survey(scope);
            }
            batch = live.next() => match batch? {
                Some(batch) => {
                    engine.batch(&batch)?;
                    live.recycle(batch);
                    live.look_at(engine.take_wanted());
                    look_for_sockets(engine, inbox);
                }
                None => return Ok(()),
            }
        }
    }
}

/// Finds the sockets of the process that is looked at.
fn look_for_sockets(engine: &Engine<inbox::Live>, inbox: &Inbox) {
    if let Some(who) = inbox.wanted()
        && let Who::Process(pid, start) = who
    {
        let sockets = engine.sockets_of(pid, start.map(WallTime), SOCKETS);
        inbox.put(|delivery| delivery.sockets = Some((who, sockets)));
    }
}

/// The balance, and the exit code.
fn conclude(total: &Total, strict: bool) -> Exit {
    let Some(loss) = &total.loss else { return Exit::Done };
    say!("tcp-trace: {}", balance(loss));
    if strict && (loss.lost > 0 || !loss.balanced) { Exit::Lossy } else { Exit::Done }
}

//! From a recording: a thread reads it from end to end and makes a report of each stretch of time; the screen goes to and
//! fro between them.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tcp_trace_core::{
    decode::decode,
    findings::Judge,
    input::Input,
    process::printable,
    session::Session,
    time::Timestamp,
    tracker::{self, Tracker},
};
use tokio::sync::mpsc::unbounded_channel;

use super::{
    inbox::{self, Inbox},
    model::Model,
    recorded::Recorded,
    screen::{self, Orders},
    signals::{self, Signals},
};
use crate::{
    cli::{config, settings, top::TopArgs},
    confine::{self, Duty},
    engine::{Cadence, Engine},
    exit::Exit,
    source::{Batch, Replay},
};

/// How long a stretch is, unless a recording is so long that there would be too many.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Stretches that a recording is divided into at the most, unless `--interval` says otherwise: their reports are kept.
const FRAMES: u64 = 600;
/// Rows of each table of a report, and sockets of a process, that are kept.
const ROWS: (usize, usize) = (200, 50);
/// How often the screen hears how far the reading is.
const PROGRESS: Duration = Duration::from_millis(100);

pub(super) fn run(args: &TopArgs, path: &Path) -> anyhow::Result<Exit> {
    let (replay, session) = Replay::open(path)?;
    let thresholds = args.config.as_deref().map(config::read).transpose()?.unwrap_or_default().findings;
    let filter = settings::filter_spec(&args.filter)?;
    let length = File::open(path).and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len());
    let every = args.interval.unwrap_or_else(|| interval(path, replay.offset(), &session));
    let settings =
        tracker::Settings { changes: true, max_rows: ROWS.0, max_sockets: ROWS.1, ..settings::top(args) };
    let tracker = Tracker::new(session.clone(), &filter, settings)
        .context("the filter that the recording was made with")?;
    let cadence = Cadence::new(session.started, super::live::nanoseconds(every));
    let (inbox, orders) = (Inbox::default(), Orders::default());
    let outlet = inbox::Recorded::new(inbox.clone());
    let engine = Engine::new(tracker, Judge::new(thresholds), Some(cadence), outlet, None);
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let model = Model::recorded(super::palette(), Recorded::new(printable(&name).into_owned()));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("starting the runtime")?;
    confine::assume_alone(&Duty::Follow);
    runtime.block_on(async {
        let mut signals = Signals::new(orders.clone())?;
        let (sender, mut left) = unbounded_channel();
        let screen = screen::start(model, inbox.clone(), orders.clone(), sender)?;
        let read = Reading { replay, engine, inbox, orders: orders.clone(), length };
        let reader = thread::Builder::new().name("tcp-trace-reader".into()).spawn(move || read.run());
        let started = reader.context("starting the thread that reads").map(|_detached| ());
        if started.is_ok() {
            tokio::select! {
                () = signals.end() => {}
                _ = left.recv() => {}
            }
        }
        let closed = signals::close(screen, &orders);
        started.and(closed)
    })?;
    Ok(Exit::Done)
}

/// A recording that is being read.
struct Reading {
    replay: Replay,
    engine: Engine<inbox::Recorded>,
    inbox: Inbox,
    orders: Orders,
    length: u64,
}

impl Reading {
    fn run(mut self) {
        let ended = self.read().map_err(|error| printable(&format!("{error:#}")).into_owned());
        self.inbox.put(|delivery| delivery.ended = Some(ended));
    }

    fn read(&mut self) -> anyhow::Result<()> {
        self.engine.begin()?;
        let mut told = Instant::now();
        while !self.orders.end.load(Ordering::Relaxed) {
            let fed = match self.replay.next_batch() {
                Ok(Some(batch)) => {
                    let fed = self.engine.batch(&batch);
                    self.replay.recycle(batch);
                    fed
                }
                Ok(None) => return Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = fed {
                self.engine.cut_off()?;
                return Err(error);
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                self.tell()?;
            }
        }
        Ok(())
    }

    fn tell(&self) -> anyhow::Result<()> {
        let share = self.replay.offset() as f64 / self.length.max(1) as f64;
        self.inbox.put(|delivery| delivery.progress = Some(share.min(1.0)));
        Ok(())
    }
}

/// So that there are not too many reports.
fn interval(path: &Path, start: u64, session: &Session) -> Duration {
    let Some(end) = last_time(path, start) else { return INTERVAL };
    let length = end.since(session.started);
    let every = length.div_ceil(FRAMES).max(1);
    // Whole seconds: that is how often a recording has the kernel's counters.
    INTERVAL.max(Duration::from_secs(every.div_ceil(1_000_000_000)))
}

/// The time of the last record, found by going from block to block without reading them; `None` where that cannot be
/// done, which whoever reads the recording will say more of.
fn last_time(path: &Path, start: u64) -> Option<Timestamp> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let (mut at, mut last) = (start, None);
    loop {
        let mut head = [0_u8; 12];
        file.seek(SeekFrom::Start(at)).ok()?;
        if file.read_exact(&mut head).is_err() {
            break;
        }
        let word = |from: usize| {
            head.get(from..from + 4)
                .and_then(|bytes| bytes.first_chunk())
                .map(|bytes| u32::from_le_bytes(*bytes))
        };
        let (size, records) = (word(0)?, word(4)?);
        let end = at + 12 + u64::from(size);
        if end > length {
            break;
        }
        last = Some((at + 12, size, records));
        at = end;
    }
    let (at, size, records) = last?;
    let mut bytes = vec![0; size as usize];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    let batch = Batch::from_bytes(bytes, records);
    batch.records().filter_map(|record| time(&decode(record.ok()?).ok()?)).max()
}

fn time(input: &Input) -> Option<Timestamp> {
    match input {
        Input::Event(event) => Some(event.time),
        Input::Counters(reading) => Some(reading.time),
        Input::End(time) => Some(*time),
        _ => None,
    }
}

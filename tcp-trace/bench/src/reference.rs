//! The programs to measure against, at work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned, maps::RingBuf, programs::BtfTracePoint};

static OBJECT: &[u8] = include_bytes_aligned!("../bpf/reference.bpf.o");

/// As large as tcp-trace's own by default.
const BUFFER_BYTES: u32 = 16 << 20;
/// How often the reader comes.
const POLL: Duration = Duration::from_millis(5);

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Empty,
    Counter,
    Leanest,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Counter => "counter",
            Self::Leanest => "leanest",
        }
    }
}

/// A program at work; it ends when this is dropped.
pub(crate) struct Reference {
    /// The kernel's number of the program.
    pub(crate) id: u32,
    /// Dropped before the object: a thread reads one of its maps.
    _drain: Option<Drain>,
    _object: Ebpf,
}

impl Reference {
    /// Attaches a program, and reads what it sends.
    pub(crate) fn attach(which: Which) -> Result<Self> {
        let btf = Btf::from_sys_fs().context("reading the kernel's BTF")?;
        let mut loader = EbpfLoader::new();
        let mut object = loader.map_max_entries("EVENTS", BUFFER_BYTES).load(OBJECT)?;
        let name = which.name();
        let program: &mut BtfTracePoint =
            object.program_mut(name).with_context(|| format!("there is no program {name}"))?.try_into()?;
        program.load("inet_sock_set_state", &btf).with_context(|| format!("loading {name}"))?;
        program.attach().with_context(|| format!("attaching {name}"))?;
        let id = program.info()?.id();
        let drain = (which == Which::Leanest).then(|| Drain::start(&mut object)).transpose()?;
        Ok(Self { id, _drain: drain, _object: object })
    }
}

/// Reads a ring buffer until it is dropped.
struct Drain {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    fn start(object: &mut Ebpf) -> Result<Self> {
        let map = object.take_map("EVENTS").context("there is no map EVENTS")?;
        let mut ring = RingBuf::try_from(map)?;
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = thread::Builder::new().name("bench-drain".into()).spawn(move || {
            // Kept, so that the compiler cannot leave the reading out.
            let bytes = AtomicU64::new(0);
            while !stop.load(Ordering::Relaxed) {
                while let Some(record) = ring.next() {
                    bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
                }
                thread::sleep(POLL);
            }
        })?;
        Ok(Self { enough, thread: Some(thread) })
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        // Nothing better can be done about one that panicked.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

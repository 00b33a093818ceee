//! Loads the programs, sets their globals, attaches what can be attached.
//!
//! The main hook is chosen by trying; what could not be had becomes a [`Degradation`] that every report
//! carries. Nothing is pinned and every attachment is a file descriptor, so that nothing stays behind when
//! this process ends, however it ends.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use aya::{
    Ebpf,
    maps::{Array, MapData, PerCpuArray},
    programs::{BtfTracePoint, TracePoint},
};
use aya_log::EbpfLogger;
use tcp_trace_common::{
    config::{MISSING, Offsets},
    counters::{Counters, PerCpu},
    filter::Filter,
    nesting::live,
};
use tcp_trace_core::{
    doctor::{Feature, for_setcap, names},
    mode::Mode,
    session::{Attach, Degradation},
    time::Timestamp,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    aggregation::Aggregation,
    cgroup,
    degraded::{no_aggregation, no_cookies, no_half_open, no_holders, no_processes, no_tp_btf, only_counts},
    holders::Holders,
    instead::{self, InPlace, Instead},
    loading::{
        Ground, KERNEL_BTF, Loader, MAIN, Main, OBJECT, Outline, load, load_failure, load_main, load_small,
        program, read_btf,
    },
    optional,
    requests::Requests,
    rings::{self, Fills, Layout, Rings},
    tracefs,
};
use crate::{exit::Unsupported, host};

/// How to hang on the main hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachChoice {
    /// `tp_btf`, or the perf tracepoint where that fails.
    Auto,
    /// This one or none.
    Only(Attach),
}

/// How transitions are to reach user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeChoice {
    /// Each for itself, and counted in the kernel while the stream cannot keep up.
    Auto,
    /// This way only.
    Only(Mode),
}

/// What the programs are to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Main hook.
    pub attach: AttachChoice,
    /// What to let through.
    pub filter: Filter,
    /// Sent, or counted in the kernel.
    pub mode: ModeChoice,
    /// The ring buffers.
    pub buffers: Layout,
    /// Whether the programs' own debug messages are wanted.
    pub debug: bool,
}

/// Programs at work. Dropping the links detaches them.
#[expect(missing_debug_implementations, reason = "the maps have none")]
pub struct Attached {
    /// Which main hook it is.
    pub attach: Attach,
    /// Just before it was attached.
    pub started: Timestamp,
    /// When it was at work on all CPUs.
    pub live: Timestamp,
    /// Whether requests are watched from their SYN on.
    pub half_open: bool,
    /// What could not be had.
    pub degradations: Vec<Degradation>,
    /// The stream.
    pub rings: Rings,
    /// The counters.
    pub counts: Arc<Counts>,
    /// The mode of the programs; `None` where they only ever send.
    pub aggregation: Option<Arc<Aggregation>>,
    /// How full the buffers are; `None` where nobody needs to know.
    pub fills: Option<Fills>,
    /// Names of the optional programs that are at work, in alphabetical order.
    pub programs: Vec<String>,
    /// The half-open requests; `None` where nothing watches them.
    pub requests: Option<Requests>,
    /// Who holds which socket, where the kernel tells.
    pub holders: Option<Holders>,
    links: Vec<Link>,
    /// What aggregation takes that is not loaded yet; `None` where it is never wanted, or is at work already.
    pub instead: Option<Instead>,
    /// What aggregation takes, where it was wanted from the start.
    in_place: Option<InPlace>,
    /// The programs and maps, so that whoever looks at this process sees what is its.
    object: Option<Ebpf>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// An attachment of any kind, which ends when it is dropped.
pub(super) type Link = Box<dyn std::any::Any + Send>;

/// The kernel's counters.
#[expect(missing_debug_implementations, reason = "the map has none")]
pub struct Counts {
    map: PerCpuArray<MapData, [u64; PER_CPU_WORDS]>,
    /// The main program, and what `/proc` tells of it: open, because it may take rights to open it that are given up.
    _program: OwnedFd,
    info: Option<File>,
    /// Whether all that is seen and wanted is counted, and nothing else becomes of it.
    counting: bool,
}

const PER_CPU_WORDS: usize = size_of::<PerCpu>() / 8;
/// Bytes of what `/proc` tells of a program: some 300.
const INFO: usize = 4096;

/// Loads and attaches.
///
/// # Errors
///
/// [`Unsupported`] if this host does not allow or does not have what the main job needs; the text says what
/// is missing and how to get it.
pub fn attach(options: &Options) -> anyhow::Result<Attached> {
    if OBJECT.is_empty() {
        return Err(Unsupported("this tcp-trace was built without eBPF and cannot trace; build it again without TCP_TRACE_EBPF=none".into()).into());
    }
    check_privileges()?;
    match options.attach {
        AttachChoice::Only(Attach::TpBtf) => attach_tp_btf(options)
            .map_err(|error| unsupported(&format!("tp_btf was asked for and cannot be had: {error:#}"))),
        AttachChoice::Only(Attach::Tracepoint) => attach_tracepoint(options, None),
        AttachChoice::Auto => match attach_tp_btf(options) {
            Ok(attached) => Ok(attached),
            Err(error) => attach_tracepoint(options, Some(&error)),
        },
    }
}

impl Attached {
    /// Detaches every program, those that see transitions first, and keeps the maps readable.
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// Hands the programs' debug messages to the logger.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }
}

impl Counts {
    /// Sums over all CPUs.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to read the map.
    pub fn read(&self) -> anyhow::Result<Counters> {
        let mut sum = Counters::ZERO;
        for cpu in self.map.get(&0, 0).context("reading the kernel's counters")?.iter() {
            let cpu = PerCpu::ref_from_bytes(cpu.as_bytes())
                .map_err(|_size| anyhow!("the kernel's counters have an unexpected size"))?;
            sum.add(&cpu.counters);
        }
        if self.counting {
            for (index, counted) in sum.unaggregated.iter_mut().enumerate() {
                *counted = sum.seen[index].saturating_sub(sum.filtered[index]);
            }
        }
        Ok(sum)
    }

    /// How often the kernel has skipped the main program, because it (or, for a perf tracepoint, any BPF
    /// program) was already running on that CPU. The kernel tells since 5.12. Read it *before* the counters,
    /// whose `rescued` are among these.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let mut text = [0; INFO];
        let length = self.info.as_ref().and_then(|info| info.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        text.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok()).unwrap_or(0)
    }
}

fn unsupported(text: &str) -> anyhow::Error {
    Unsupported(text.to_owned()).into()
}

fn check_privileges() -> anyhow::Result<()> {
    let missing = Feature::Trace.missing(host::capabilities());
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().unwrap_or_else(|_unknown| "tcp-trace".into());
    Err(unsupported(&format!(
        "tracing is not permitted: this process lacks {}; run it as root (sudo), or give the program the \
         capabilities once: setcap {}+ep {}",
        names(&missing),
        for_setcap(&Feature::USUAL),
        program.display()
    )))
}

/// The main hook as `tp_btf`, with everything that builds on it.
fn attach_tp_btf(options: &Options) -> anyhow::Result<Attached> {
    if options.mode == ModeChoice::Only(Mode::Count) {
        return attach_counting(options);
    }
    let loader = Loader::begin();
    let (offsets, outline) = kernel_btf()?;
    if options.filter.cgroup_ids[0] != 0 && offsets.sk_cgroup == MISSING && offsets.sk_cgroup_word == MISSING
    {
        return Err(anyhow!("--cgroup needs a kernel with CONFIG_SOCK_CGROUP_DATA"));
    }
    let Main { mut object, ground, btf, rings } = load_main(loader, options, offsets, outline)?;
    let mut degradations = Vec::new();
    let mut links: Vec<Link> = Vec::new();
    let no_cgroup = match cgroup::attach(&mut object, ground.helpers) {
        Ok(attached) => {
            links.extend(attached);
            None
        }
        Err(error) => Some(format!("{error:#}")),
    };
    let half_open = no_cgroup.is_none();
    let ground = Ground { half_open, ..ground };
    let optional = optional::attach(&mut object, &btf, ground);
    if let Some(reason) = no_cgroup {
        if !optional.programs.iter().any(|name| name == "request_queued") {
            degradations.push(no_half_open(&reason));
        }
        if !ground.helpers {
            degradations.push(no_cookies(&reason));
        }
    }
    degradations.extend(optional.degradations);
    links.extend(optional.links);
    let holders = Holders::load(&mut object, &offsets, &btf);
    let aggregates = options.mode == ModeChoice::Only(Mode::Aggregate);
    let in_place = aggregates.then(|| instead::load(&mut object, &btf)).transpose()?;
    let started = host::monotonic();
    // The kernel calls them in the order in which they were attached, and their protocol relies on that.
    let (first, program) = attach_main(&mut object, MAIN[0])?;
    let (second, _) = attach_main(&mut object, MAIN[1])?;
    let mut main = vec![first, second];
    let aggregation = go_live(&mut object, live::BOTH | optional.live, options.mode)?;
    // When they are detached, in this order, whoever explains a transition goes after whoever sees it.
    main.extend(links);
    let hook = Hook {
        attach: Attach::TpBtf,
        started,
        program,
        rings,
        half_open,
        links: main,
        programs: optional.programs,
        aggregation,
    };
    let mut attached = finish(object, options, hook, holders, degradations)?;
    attached.in_place = in_place;
    if options.mode == ModeChoice::Auto {
        attached.instead = attached.object.take().map(|object| Instead::new(object, btf));
    }
    Ok(attached)
}

/// The program that only counts.
fn attach_counting(options: &Options) -> anyhow::Result<Attached> {
    const COUNTING: &str = "count_state";
    let (offsets, outline) = kernel_btf()?;
    let mut object = load_small(Ground { offsets, helpers: false, half_open: false })?;
    let btf = outline.finish()?;
    let counting: &mut BtfTracePoint = program(&mut object, COUNTING)?;
    counting.load("inet_sock_set_state", &btf).map_err(|error| anyhow!(load_failure(&error)))?;
    let rings = rings::Making::begin(&object, Layout::NONE)?.finish()?;
    let started = host::monotonic();
    let (link, program) = attach_main(&mut object, COUNTING)?;
    let hook = Hook {
        attach: Attach::TpBtf,
        started,
        program,
        rings,
        half_open: false,
        links: vec![link],
        programs: Vec::new(),
        aggregation: None,
    };
    finish(object, options, hook, Holders::open(), vec![only_counts()])
}

/// Where the running kernel keeps what the programs read, and its types.
pub(super) fn kernel_btf() -> anyhow::Result<(Offsets, Outline)> {
    let raw = fs::read(KERNEL_BTF)
        .map_err(|error| anyhow!("no BTF of the running kernel: {KERNEL_BTF}: {error}"))?;
    read_btf(&raw)
}

/// Attaches one program; also returns a descriptor of it.
pub(super) fn attach_main(object: &mut Ebpf, name: &str) -> anyhow::Result<(Link, OwnedFd)> {
    let program: &mut BtfTracePoint = program(object, name)?;
    let link = program.attach().with_context(|| format!("attaching {name} to inet_sock_set_state"))?;
    Ok((Box::new(program.take_link(link)?), program.fd()?.as_fd().try_clone_to_owned()?))
}

/// Lets both programs begin, with these bits of [`live`] and in the mode that was asked for; returns the way to switch
/// that, if it may be switched or rows are to be taken out.
fn go_live(object: &mut Ebpf, live: u64, choice: ModeChoice) -> anyhow::Result<Option<Arc<Aggregation>>> {
    let map = object.take_map("LIVE").context("the eBPF object has no map LIVE")?;
    let mode = match choice {
        ModeChoice::Only(Mode::Stream) => {
            Array::try_from(map)?.set(0, live, 0).context("starting the programs")?;
            return Ok(None);
        }
        ModeChoice::Only(mode) => mode,
        ModeChoice::Auto => Mode::Stream,
    };
    let aggregation = Aggregation::new(object, Array::try_from(map)?, live)?;
    aggregation.switch(mode)?;
    Ok(Some(Arc::new(aggregation)))
}

/// The main hook as a perf tracepoint; `reason` is why `tp_btf` was not to be had, if it was tried.
fn attach_tracepoint(options: &Options, reason: Option<&anyhow::Error>) -> anyhow::Result<Attached> {
    let because = reason.map(|error| format!(" (tp_btf: {error:#})")).unwrap_or_default();
    if options.filter.netns != 0 || options.filter.cgroup_ids[0] != 0 {
        return Err(unsupported(&format!(
            "--netns and --cgroup need tp_btf: the perf tracepoint does not show a socket's namespace or cgroup{because}"
        )));
    }
    if let ModeChoice::Only(Mode::Aggregate | Mode::Count) = options.mode {
        return Err(unsupported(&format!(
            "--mode aggregate and --mode count need tp_btf: the program of the perf tracepoint can only send{because}"
        )));
    }
    let ground = Ground { offsets: Offsets::NONE, helpers: false, half_open: false };
    let mut object = load(Loader::begin(), options, ground)
        .map_err(|error| unsupported(&format!("the kernel refuses BPF maps: {error:#}{because}")))?;
    let rings = rings::Making::begin(&object, options.buffers)?.finish()?;
    let program: &mut TracePoint = program(&mut object, "set_state_tracepoint")?;
    program.load().map_err(|error| {
        unsupported(&format!("the kernel refuses the tracepoint program: {}{because}", load_failure(&error)))
    })?;
    let started = host::monotonic();
    let link = tracefs::with_checked_layout(|| {
        let link = program.attach("sock", "inet_sock_set_state")?;
        Ok(program.take_link(link)?)
    })
    .map_err(|error| {
        unsupported(&format!(
            "the tracepoint sock:inet_sock_set_state cannot be attached: {error:#}{because}"
        ))
    })?;
    let program = program.fd()?.as_fd().try_clone_to_owned()?;
    let mut degradations = vec![
        match reason {
            Some(error) => no_tp_btf(&format!("{error:#}")),
            None => no_tp_btf("not tried: --attach tracepoint"),
        },
        no_half_open("it needs tp_btf, whose socket cookies join a request to its connection"),
    ];
    if options.mode == ModeChoice::Auto {
        degradations.push(no_aggregation(
            "it needs tp_btf, whose socket cookies join a transition to the one before",
            "a kernel of 5.9 or later with CONFIG_DEBUG_INFO_BTF",
        ));
    }
    let hook = Hook {
        attach: Attach::Tracepoint,
        started,
        program,
        rings,
        half_open: false,
        links: vec![Box::new(link)],
        programs: Vec::new(),
        aggregation: None,
    };
    finish(object, options, hook, Holders::open(), degradations)
}

/// What was attached.
struct Hook {
    attach: Attach,
    started: Timestamp,
    program: OwnedFd,
    rings: Rings,
    half_open: bool,
    links: Vec<Link>,
    /// Names of the optional programs.
    programs: Vec<String>,
    aggregation: Option<Arc<Aggregation>>,
}

fn finish(
    mut object: Ebpf,
    options: &Options,
    hook: Hook,
    holders: anyhow::Result<Holders>,
    mut degradations: Vec<Degradation>,
) -> anyhow::Result<Attached> {
    let Hook { attach, started, program, rings, half_open, links, mut programs, aggregation } = hook;
    let take = |object: &mut Ebpf, name| {
        object.take_map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
    };
    let counting = options.mode == ModeChoice::Only(Mode::Count);
    let fills = match options.mode {
        ModeChoice::Auto => Some(rings.fills().context("watching the ring buffers")?),
        ModeChoice::Only(_) => None,
    };
    let map = PerCpuArray::try_from(take(&mut object, "CPUS")?)?;
    let log = if options.debug { Some(EbpfLogger::init(&mut object)?) } else { None };
    let watched = half_open || programs.iter().any(|name| name == "request_queued");
    let requests = object.map("REQUESTS").filter(|_| watched).map(Requests::new).transpose()?;
    let holders = match holders {
        _ if !host::sees_all_processes() => {
            degradations.push(no_processes());
            None
        }
        Ok(holders) => {
            programs.push("holders".to_owned());
            Some(holders)
        }
        Err(error) => {
            degradations.push(no_holders(&format!("{error:#}")));
            None
        }
    };
    programs.sort_unstable();
    let info = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let info = File::open(&info).inspect_err(|error| log::info!("{info}: {error}")).ok();
    Ok(Attached {
        attach,
        started,
        live: host::monotonic(),
        half_open,
        degradations,
        rings,
        counts: Arc::new(Counts { map, _program: program, info, counting }),
        aggregation,
        fills,
        programs,
        requests,
        holders,
        links,
        instead: None,
        in_place: None,
        object: Some(object),
        log,
    })
}

//! The object: its globals, its maps, its programs by name.

use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{BtfTracePoint, Program},
};
use rustix::{
    process::chroot,
    thread::{UnshareFlags, unshare_unsafe},
};
use tcp_trace_common::{
    config::{Offsets, Settings},
    filter::Filter,
    packed::PackedChange,
};
use tcp_trace_core::mode::Mode;
use zerocopy::IntoBytes as _;

use super::{
    ModeChoice, Options, layout, optional,
    placeholders::Filled,
    rings::{self, Layout, Rings, possible_cpus},
};
use crate::host::{self, NO_THREAD};

/// The compiled eBPF object; empty in a build that was told to do without.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcp-trace.bpf.o"));

/// BTF of the running kernel.
pub(super) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the programs may count on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) offsets: Offsets,
    /// Whether the helpers that came with 5.11 and 5.12 are to be used.
    pub(super) helpers: bool,
    /// Whether requests are watched from their SYN on.
    pub(super) half_open: bool,
}

impl Ground {
    pub(super) fn settings(self, buffers: Layout, filtering: bool) -> Settings {
        Settings {
            wake_mask: wake_mask(buffers.each),
            // The reader comes by itself in time, unless the rate is beyond all that a buffer of this size is for.
            wake_bytes: buffers.each as u64 / 4,
            half_open: self.half_open.into(),
            filtering: filtering.into(),
            cookie_helper: self.helpers.into(),
            task_btf: self.helpers.into(),
        }
    }
}

/// A loader in the making. aya reads and builds all of the kernel's BTF whenever one is made, before it can be told that
/// an outline will do (`aya::EbpfLoader::new`, 0.14): tens of milliseconds, and of megabytes.
pub(super) struct Loader(Option<JoinHandle<EbpfLoader<'static>>>);

impl Loader {
    /// Begins to make one. Where there is no room for a thread only time is lost.
    pub(super) fn begin() -> Self {
        let make = || {
            lose_sight_of_files();
            let mut loader = EbpfLoader::new();
            // If it could be read nevertheless, taking it apart again takes time, too.
            loader.btf(None);
            loader
        };
        Self(thread::Builder::new().name("tcp-trace-load".to_owned()).spawn(make).ok())
    }

    pub(super) fn finish<'a>(self) -> EbpfLoader<'a> {
        self.0.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// Gives this thread a root directory in which no file is found by its name. Where that is not permitted (it takes
/// CAP_SYS_CHROOT) only time is lost.
fn lose_sight_of_files() {
    // SAFETY: how this thread finds files, which is about to end, is nobody else's business.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::FS) };
    if let Err(error) = unshared.and_then(|()| chroot("/proc/self/fdinfo")) {
        log::debug!("aya reads all of the kernel's BTF: {error}");
    }
}

/// Creates the maps, with the globals set.
pub(super) fn load(loader: Loader, options: &Options, ground: Ground) -> anyhow::Result<Ebpf> {
    let settings = ground.settings(options.buffers, options.filter != Filter::NONE);
    let log_level = if options.debug { aya_log::Level::Debug as u8 } else { 0 };
    let mut loader = loader.finish();
    if options.mode == ModeChoice::Only(Mode::Stream) {
        loader.map_max_entries("AGGREGATES", 1).map_max_entries("SINCE", 1);
    }
    loader
        .map_max_entries("RINGS", possible_cpus())
        .override_global("OFFSETS", ground.offsets.as_bytes(), true)
        .override_global("SETTINGS", settings.as_bytes(), true)
        .override_global("FILTER", options.filter.as_bytes(), true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .load(Filled::new(OBJECT, &ground.offsets)?.as_bytes())
        .map_err(|error| {
            let old = host::kernel_version().filter(|version| *version < (5, 8));
            match old {
                Some((major, minor)) => {
                    anyhow!("kernel {major}.{minor} has no BPF ring buffer (first kernel: 5.8)")
                }
                None => anyhow!(error),
            }
        })
}

/// The two programs of the main hook.
pub(super) const MAIN: [&str; 2] = ["set_state", "set_state_nested"];

/// Makes the maps and loads the main programs: with the helpers of 5.12 or, if they are refused, without. Which ones
/// there are is not asked of the kernel's version, because distributions carry later work back.
pub(super) fn load_main(
    loader: Loader,
    options: &Options,
    offsets: Offsets,
    outline: Outline,
) -> anyhow::Result<Main> {
    let ground = Ground { offsets, helpers: true, half_open: true };
    let object = load(loader, options, ground)?;
    let btf = outline.finish()?;
    let (object, ground, rings) = load_main_of(object, options, ground, &btf)?;
    Ok(Main { object, ground, btf, rings })
}

/// The same of an object whose maps are there.
pub(super) fn load_main_of(
    mut object: Ebpf,
    options: &Options,
    mut ground: Ground,
    btf: &Btf,
) -> anyhow::Result<(Ebpf, Ground, Rings)> {
    loop {
        let rings = rings::Making::begin(&object, options.buffers)?;
        match load_main_programs(&mut object, btf) {
            Ok(()) => return Ok((object, ground, rings.finish()?)),
            Err(NotLoaded { retry: true, .. }) if ground.helpers => {
                ground.helpers = false;
                object = load(Loader::begin(), options, ground)?;
            }
            Err(NotLoaded { error, .. }) => return Err(error),
        }
    }
}

/// The main programs, loaded, and what goes with them.
pub(super) struct Main {
    pub(super) object: Ebpf,
    pub(super) ground: Ground,
    pub(super) btf: Btf,
    pub(super) rings: Rings,
}

/// A main program that the kernel does not take.
struct NotLoaded {
    error: anyhow::Error,
    /// Whether it may take one that asks for less.
    retry: bool,
}

/// Both at once: the kernel's verifier takes longer over them than everything else at the start.
fn load_main_programs(object: &mut Ebpf, btf: &Btf) -> Result<(), NotLoaded> {
    let programs = object.programs_mut().filter(|(name, _)| MAIN.contains(name));
    let programs: Vec<_> = programs.map(|(_, program)| program).collect();
    if programs.len() != MAIN.len() {
        let error = anyhow!("the eBPF object lacks one of the programs {}", MAIN.join(" and "));
        return Err(NotLoaded { error, retry: false });
    }
    thread::scope(|scope| {
        let failed = |error: anyhow::Error| NotLoaded { error, retry: false };
        let load = |program| {
            let thread = thread::Builder::new().name("tcp-trace-load".to_owned());
            let spawned = thread.spawn_scoped(scope, move || load_main_program(program, btf));
            spawned.map_err(|error| failed(anyhow!(error).context(NO_THREAD)))
        };
        let loading: Vec<_> = programs.into_iter().map(load).collect::<Result<_, _>>()?;
        let panicked = || failed(anyhow!("loading a main program panicked"));
        loading.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_panic| Err(panicked())))
    })
}

fn load_main_program(program: &mut Program, btf: &Btf) -> Result<(), NotLoaded> {
    let program: &mut BtfTracePoint = program.try_into().map_err(|_other| NotLoaded {
        error: anyhow!("a main program of the eBPF object is of another type"),
        retry: false,
    })?;
    program.load("inet_sock_set_state", btf).map_err(|error| NotLoaded {
        retry: !optional::is_forbidden(&error),
        error: anyhow!(load_failure(&error)),
    })
}

/// The object for a program that needs none of its maps: they are made as small as can be.
pub(super) fn load_small(ground: Ground) -> anyhow::Result<Ebpf> {
    let mut loader = Loader::begin().finish();
    for map in ["REQUESTS", "UNCLAIMED", "HELD", "TIME_WAITS", "AGGREGATES", "SINCE"] {
        loader.map_max_entries(map, 1);
    }
    let settings = ground.settings(Layout::NONE, false);
    loader
        .map_max_entries("RINGS", possible_cpus())
        .override_global("OFFSETS", ground.offsets.as_bytes(), true)
        .override_global("SETTINGS", settings.as_bytes(), true);
    Ok(loader.load(Filled::new(OBJECT, &ground.offsets)?.as_bytes())?)
}

/// How often to look at a buffer's filling: at least four times while it is filled.
fn wake_mask(bytes: usize) -> u64 {
    const RECORD_HEADER: usize = 8;
    let records = bytes / (size_of::<PackedChange>() + RECORD_HEADER);
    // Not oftener: a reader that is behind is awake, and waking it costs microseconds all the same.
    let every = (records / 4).max(1);
    // The largest power of two that is not larger.
    (1_u64 << every.ilog2()) - 1
}

/// As much of the kernel's BTF as aya needs, in the making: it is needed only when the maps are there.
pub(super) struct Outline(JoinHandle<anyhow::Result<Btf>>);

impl Outline {
    pub(super) fn finish(self) -> anyhow::Result<Btf> {
        self.0.join().map_err(|_panic| anyhow!("it panicked")).flatten().context("reading the kernel's BTF")
    }
}

/// Where the running kernel keeps what the programs read, from its raw BTF, and as much of that as aya needs.
pub(super) fn read_btf(raw: &[u8]) -> anyhow::Result<(Offsets, Outline)> {
    let btf = super::btf::Btf::parse(raw)?;
    let outline = btf.outline();
    let outline = thread::Builder::new()
        .name("tcp-trace-btf".to_owned())
        .spawn(move || Ok(Btf::parse(&outline, aya::Endianness::default())?))
        .context(NO_THREAD)?;
    Ok((find_offsets(&btf)?, Outline(outline)))
}

fn find_offsets(btf: &super::btf::Btf<'_>) -> anyhow::Result<Offsets> {
    // `btf_trace_NAME` is `void (*)(void *, const struct sock *, const int, const int)`.
    match btf.prototype_len("btf_trace_inet_sock_set_state") {
        Some(4) => layout::offsets(btf).map_err(|text| anyhow!(text)),
        Some(len) => Err(anyhow!(
            "inet_sock_set_state takes {} arguments in this kernel, expected 3",
            len.saturating_sub(1)
        )),
        None => Err(anyhow!("this kernel's BTF does not declare the tracepoint inet_sock_set_state")),
    }
}

/// A program of the object.
pub(super) fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    let program = object.program_mut(name).ok_or_else(|| anyhow!("the eBPF object has no program {name}"))?;
    program.try_into().map_err(|_other| anyhow!("the eBPF program {name} is of another type"))
}

/// Why a program could not be loaded, in a sentence, with the kernel's error number where it gave one.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct LoadFailure {
    text: String,
    pub(super) errno: Option<i32>,
}

/// The verifier's log is long; its last words are the reason. Without a log it was not the verifier.
pub(super) fn load_failure(error: &aya::programs::ProgramError) -> LoadFailure {
    const STATISTICS: [&str; 4] = ["processed ", "verification time ", "stack depth ", "}"];
    log::info!("{error:?}");
    let aya::programs::ProgramError::LoadError { io_error, verifier_log } = error else {
        return LoadFailure { text: error.to_string(), errno: None };
    };
    let log = verifier_log.to_string();
    let is_reason = |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|s| line.starts_with(s));
    let text = match log.lines().rev().map(str::trim).find(is_reason) {
        Some(reason) => format!("the verifier refuses the program: {reason} (whole log: -v)"),
        None => format!("the kernel refuses the program: {io_error}"),
    };
    LoadFailure { text, errno: io_error.raw_os_error() }
}

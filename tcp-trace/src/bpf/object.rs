//! Loads the programs, sets their globals, attaches what can be attached.
//!
//! The main hook is chosen by trying; what could not be had becomes a [`Degradation`] that every report
//! carries. Nothing is pinned and every attachment is a file descriptor, so that nothing stays behind when
//! this process ends, however it ends.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, PerCpuArray, PerCpuValues, RingBuf},
    programs::{BtfTracePoint, CgroupAttachMode, SockOps, TracePoint, sock_ops::SockOpsLink},
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use tcp_trace_common::{
    config::{MISSING, Offsets, Settings},
    counters::Counters,
    event::StateChange,
    filter::Filter,
    nesting::Taken,
};
use tcp_trace_core::{
    session::{Attach, Degradation},
    time::Timestamp,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{cgroup, layout, tracefs};
use crate::{exit::Unsupported, host};

/// The compiled eBPF object; empty in a build that was told to do without.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcp-trace.bpf.o"));

/// BTF of the running kernel.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The ring buffer in the kernel program.
pub type Ring = RingBuf<MapData>;

/// How to hang on the main hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachChoice {
    /// `tp_btf`, or the perf tracepoint where that fails.
    Auto,
    /// This one or none.
    Only(Attach),
}

/// What the programs are to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Main hook.
    pub attach: AttachChoice,
    /// What to let through.
    pub filter: Filter,
    /// Size of the ring buffer: a power of two, a multiple of the page size.
    pub buffer_bytes: u32,
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
    /// Whether requests are watched from their SYN on.
    pub half_open: bool,
    /// What could not be had.
    pub degradations: Vec<Degradation>,
    /// The stream.
    pub ring: Ring,
    /// How much it can hold.
    pub ring_bytes: usize,
    /// The counters.
    pub counts: Counts,
    links: Vec<Link>,
    /// Holds the programs and the other maps.
    _object: Ebpf,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// An attachment of any kind, which ends when it is dropped.
type Link = Box<dyn std::any::Any + Send>;

/// The kernel's counters.
#[expect(missing_debug_implementations, reason = "the map has none")]
pub struct Counts {
    map: PerCpuArray<MapData, [u64; COUNTER_WORDS]>,
    /// `/proc/self/fdinfo` of the main program.
    fdinfo: String,
}

const COUNTER_WORDS: usize = size_of::<Counters>() / 8;

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
    /// Detaches every program, in the order in which they were attached, and keeps the maps readable.
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
            let counters = Counters::ref_from_bytes(cpu.as_bytes())
                .map_err(|_size| anyhow!("the kernel's counters have an unexpected size"))?;
            sum.add(counters);
        }
        Ok(sum)
    }

    /// How often the kernel has skipped the main program, because it (or, for a perf tracepoint, any BPF
    /// program) was already running on that CPU. The kernel tells since 5.12. Read it *before* the counters,
    /// whose `rescued` are among these.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let info = fs::read_to_string(&self.fdinfo).unwrap_or_default();
        info.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok()).unwrap_or(0)
    }
}

fn unsupported(text: &str) -> anyhow::Error {
    Unsupported(text.to_owned()).into()
}

fn check_privileges() -> anyhow::Result<()> {
    let missing = host::missing_capabilities();
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().unwrap_or_else(|_unknown| "tcp-trace".into());
    Err(unsupported(&format!(
        "tracing is not permitted: this process lacks {}; run it as root (sudo), or give the program the \
         capabilities once: setcap cap_bpf,cap_perfmon,cap_net_admin,cap_dac_read_search+ep {}",
        missing.join(" and "),
        program.display()
    )))
}

/// The main hook as `tp_btf`, with everything that builds on it.
fn attach_tp_btf(options: &Options) -> anyhow::Result<Attached> {
    let raw = fs::read(KERNEL_BTF)
        .map_err(|error| anyhow!("no BTF of the running kernel: {KERNEL_BTF}: {error}"))?;
    let offsets = read_offsets(&raw)?;
    if options.filter.cgroup_id != 0 && offsets.sk_cgroup == MISSING {
        return Err(anyhow!(
            "--cgroup needs a kernel of 5.15 or later, which keeps a socket's cgroup as a pointer"
        ));
    }
    let btf = Btf::parse(&raw, aya::Endianness::default()).context("reading the kernel's BTF")?;
    let mut object = load(options, &offsets, Some(&btf), true)?;
    let mut degradations = Vec::new();
    let mut links: Vec<Link> = Vec::new();
    match attach_half_open(&mut object) {
        Ok(link) => links.push(Box::new(link)),
        Err(error) => degradations.push(no_half_open(&format!("{error:#}"))),
    }
    let half_open = !links.is_empty();
    let started = host::monotonic();
    // The kernel calls them in the order in which they were attached, and their protocol relies on that.
    let (link, fd) = attach_btf_program(&mut object, "set_state", &btf)?;
    links.push(link);
    let (link, _) = attach_btf_program(&mut object, "set_state_nested", &btf)?;
    links.push(link);
    go_live(&mut object)?;
    let hook = Hook { attach: Attach::TpBtf, started, program_fd: fd, half_open, links };
    finish(object, options, hook, degradations)
}

/// Loads and attaches one program; also returns its descriptor, which lives as long as the object.
fn attach_btf_program(object: &mut Ebpf, name: &str, btf: &Btf) -> anyhow::Result<(Link, i32)> {
    let program: &mut BtfTracePoint = program(object, name)?;
    program.load("inet_sock_set_state", btf).map_err(|error| anyhow!(load_failure(&error)))?;
    let link = program.attach().with_context(|| format!("attaching {name} to inet_sock_set_state"))?;
    Ok((Box::new(program.take_link(link)?), program.fd()?.as_fd().as_raw_fd()))
}

/// Lets both programs begin, on all CPUs.
fn go_live(object: &mut Ebpf) -> anyhow::Result<()> {
    let map = object.take_map("TAKEN").context("the eBPF object has no map TAKEN")?;
    let mut taken: PerCpuArray<_, [u64; size_of::<Taken>() / 8]> = PerCpuArray::try_from(map)?;
    let live = zerocopy::transmute!(Taken { live: 1, ..Taken::default() });
    let cpus = nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
    taken.set(0, PerCpuValues::try_from(vec![live; cpus])?, 0).context("starting the programs")
}

/// The main hook as a perf tracepoint; `reason` is why `tp_btf` was not to be had, if it was tried.
fn attach_tracepoint(options: &Options, reason: Option<&anyhow::Error>) -> anyhow::Result<Attached> {
    let because = reason.map(|error| format!(" (tp_btf: {error:#})")).unwrap_or_default();
    if options.filter.netns != 0 || options.filter.cgroup_id != 0 {
        return Err(unsupported(&format!(
            "--netns and --cgroup need tp_btf: the perf tracepoint does not show a socket's namespace or cgroup{because}"
        )));
    }
    let mut object = load(options, &Offsets::NONE, None, false)
        .map_err(|error| unsupported(&format!("the kernel refuses BPF maps: {error:#}{because}")))?;
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
    let fd = program.fd()?.as_fd().as_raw_fd();
    let degradations = vec![
        match reason {
            Some(error) => no_tp_btf(&format!("{error:#}")),
            None => no_tp_btf("not tried: --attach tracepoint"),
        },
        no_half_open("it needs tp_btf, whose socket cookies join a request to its connection"),
    ];
    let links: Vec<Link> = vec![Box::new(link)];
    let hook = Hook { attach: Attach::Tracepoint, started, program_fd: fd, half_open: false, links };
    finish(object, options, hook, degradations)
}

/// What was attached.
struct Hook {
    attach: Attach,
    started: Timestamp,
    program_fd: i32,
    half_open: bool,
    links: Vec<Link>,
}

fn finish(
    mut object: Ebpf,
    options: &Options,
    hook: Hook,
    mut degradations: Vec<Degradation>,
) -> anyhow::Result<Attached> {
    let Hook { attach, started, program_fd, half_open, links } = hook;
    let take = |object: &mut Ebpf, name| {
        object.take_map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))
    };
    let ring = RingBuf::try_from(take(&mut object, "EVENTS")?)?;
    let map = PerCpuArray::try_from(take(&mut object, "COUNTERS")?)?;
    let log = if options.debug { Some(EbpfLogger::init(&mut object)?) } else { None };
    degradations.push(no_snapshot());
    Ok(Attached {
        attach,
        started,
        half_open,
        degradations,
        ring,
        ring_bytes: options.buffer_bytes as usize,
        counts: Counts { map, fdinfo: format!("/proc/self/fdinfo/{program_fd}") },
        links,
        _object: object,
        log,
    })
}

/// Creates the maps, with the globals set.
fn load(options: &Options, offsets: &Offsets, btf: Option<&Btf>, half_open: bool) -> anyhow::Result<Ebpf> {
    let settings = Settings {
        wake_mask: wake_mask(options.buffer_bytes),
        half_open: half_open.into(),
        filtering: (options.filter != Filter::NONE).into(),
    };
    let log_level = if options.debug { aya_log::Level::Debug as u8 } else { 0 };
    EbpfLoader::new()
        .btf(btf)
        .map_max_entries("EVENTS", options.buffer_bytes)
        .override_global("OFFSETS", offsets.as_bytes(), true)
        .override_global("SETTINGS", settings.as_bytes(), true)
        .override_global("FILTER", options.filter.as_bytes(), true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .load(OBJECT)
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

/// Wakes the reader when the CPUs together may have filled a quarter of the buffer.
fn wake_mask(buffer_bytes: u32) -> u64 {
    const RECORD_HEADER: usize = 8;
    let records = buffer_bytes as usize / (size_of::<StateChange>() + RECORD_HEADER);
    let cpus = nr_cpus().unwrap_or(1).max(1);
    let every = (records / 4 / cpus).max(1);
    // The largest power of two that is not larger.
    (1_u64 << every.ilog2()) - 1
}

fn read_offsets(raw: &[u8]) -> anyhow::Result<Offsets> {
    let btf = super::btf::Btf::parse(raw)?;
    // `btf_trace_NAME` is `void (*)(void *, const struct sock *, const int, const int)`.
    match btf.prototype_len("btf_trace_inet_sock_set_state") {
        Some(4) => layout::offsets(&btf).map_err(|text| anyhow!(text)),
        Some(len) => Err(anyhow!(
            "inet_sock_set_state takes {} arguments in this kernel, expected 3",
            len.saturating_sub(1)
        )),
        None => Err(anyhow!("this kernel's BTF does not declare the tracepoint inet_sock_set_state")),
    }
}

fn attach_half_open(object: &mut Ebpf) -> anyhow::Result<SockOpsLink> {
    let path = cgroup::mount_point().context("no cgroup2 hierarchy is mounted")?;
    let root = fs::File::open(&path).with_context(|| path.display().to_string())?;
    if !cgroup::is_root(&root) {
        return Err(anyhow!(
            "{} is not the root of the cgroup2 hierarchy but a container's part of it",
            path.display()
        ));
    }
    let program: &mut SockOps = program(object, "half_open")?;
    program.load().map_err(|error| anyhow!(load_failure(&error)))?;
    // Links are several by nature; asking for it by flag is EINVAL.
    let link = program.attach(root, CgroupAttachMode::Single).with_context(|| path.display().to_string())?;
    Ok(program.take_link(link)?)
}

fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    let program = object.program_mut(name).ok_or_else(|| anyhow!("the eBPF object has no program {name}"))?;
    program.try_into().map_err(|_other| anyhow!("the eBPF program {name} is of another type"))
}

/// The verifier's log is long; its last words are the reason. Without a log it was not the verifier.
fn load_failure(error: &aya::programs::ProgramError) -> String {
    const STATISTICS: [&str; 4] = ["processed ", "verification time ", "stack depth ", "}"];
    log::info!("{error:?}");
    let aya::programs::ProgramError::LoadError { io_error, verifier_log } = error else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let is_reason = |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|s| line.starts_with(s));
    match log.lines().rev().map(str::trim).find(is_reason) {
        Some(reason) => format!("the verifier refuses the program: {reason} (whole log: -v)"),
        None => format!("the kernel refuses the program: {io_error}"),
    }
}

fn no_tp_btf(reason: &str) -> Degradation {
    Degradation {
        feature: "tp_btf".into(),
        reason: format!(
            "{reason}; so owners are known only of sockets seen at connect() or listen(), and cookies, \
             namespaces, cgroups, socket errors and TIME_WAIT are not known; and the kernel skips the program \
             while another one is at work on that CPU, which it counts since 6.7 only"
        ),
        remedy: Some("a kernel of 5.12 or later with CONFIG_DEBUG_INFO_BTF".into()),
    }
}

fn no_half_open(reason: &str) -> Degradation {
    Degradation {
        feature: "half_open".into(),
        reason: format!(
            "{reason}; so half-open durations come from the kernel's own round-trip sample, and are unknown \
             where the SYN-ACK was retransmitted"
        ),
        remedy: Some(
            "a mounted cgroup2 hierarchy (mount -t cgroup2 none /sys/fs/cgroup) and CAP_NET_ADMIN".into(),
        ),
    }
}

fn no_snapshot() -> Degradation {
    Degradation {
        feature: "snapshot".into(),
        reason: "sockets that existed before the start show from their next transition on; until then they \
                 are not among the live ones"
            .into(),
        remedy: None,
    }
}

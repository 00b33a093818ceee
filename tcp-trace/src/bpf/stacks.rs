//! The programs of `--stacks`, in an object of their own: what they cost and what they fail at does not touch the main
//! ones.

use std::{fs, os::fd::AsFd as _};

use anyhow::{Context as _, anyhow};
use aya::{
    Btf, Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, FExit, ProgramError},
};
use tcp_trace_common::{
    counters::PerCpu,
    stack::{StackSettings, registers},
};
use tcp_trace_core::session::{Attach, Degradation};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    btf, layout,
    loading::{Ground, KERNEL_BTF, Loader, OBJECT, load_failure, program},
    object::{Attached, Link},
    optional::{self, Hook, Refusal, Tried},
    placeholders::Filled,
    rings::Layout,
};

/// Bytes of the buffer: some 3,500 stacks, while whoever takes them out is reading a large program's debug information.
const BUFFER: u32 = 16 << 20;

/// Bytes of a task's kernel stack on x86-64 without KASAN (`THREAD_SIZE`, `arch/x86/include/asm/page_64_types.h`), with
/// `pt_regs` at its end; for kernels before 5.15, which have no FRED. User space checks what is found there.
const THREAD_SIZE: u32 = 16 << 10;

/// What is needed to take stacks, at work. Dropping it detaches the programs.
#[expect(missing_debug_implementations, reason = "the maps have none")]
pub struct Stacks {
    /// Stacks as they were dumped.
    pub(crate) ring: RingBuf<MapData>,
    /// Names of the programs.
    programs: Vec<String>,
    counts: PerCpuArray<MapData, [u64; PER_CPU_WORDS]>,
    _links: Vec<Link>,
    _object: Ebpf,
}

const PER_CPU_WORDS: usize = size_of::<PerCpu>() / 8;

impl Stacks {
    /// How many stacks have found no room.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to read the map.
    pub fn lost(&self) -> anyhow::Result<u64> {
        let mut lost = 0;
        for cpu in self.counts.get(&0, 0).context("reading how many stacks were lost")?.iter() {
            let cpu = PerCpu::ref_from_bytes(cpu.as_bytes())
                .map_err(|_size| anyhow!("the kernel's counters have an unexpected size"))?;
            lost += cpu.counters.side_lost;
        }
        Ok(lost)
    }
}

impl Attached {
    /// Takes note of what [`attach`] has come to.
    pub fn with_stacks(&mut self, attached: StacksOrNot) -> Option<Stacks> {
        let (stacks, degradations) = attached;
        if self.attach == Attach::Tracepoint {
            let reason = "it needs tp_btf, whose socket cookies join a stack to its connection; so where connections were \
                          opened is not known";
            self.degradations
                .push(degraded(reason.into(), "a kernel of 5.12 or later with CONFIG_DEBUG_INFO_BTF"));
            return None;
        }
        self.degradations.extend(degradations);
        if let Some(stacks) = &stacks {
            self.programs.extend_from_slice(&stacks.programs);
            self.programs.sort_unstable();
        }
        stacks
    }
}

/// The programs, if they can be had, and what cannot.
pub type StacksOrNot = (Option<Stacks>, Vec<Degradation>);

/// Attaches the programs. What cannot be had, or all of it, is in the degradations.
#[must_use]
pub fn attach() -> StacksOrNot {
    let mut degradations = Vec::new();
    match try_attach(&mut degradations) {
        Ok(stacks) => (Some(stacks), degradations),
        Err(error) => {
            let reason = format!("{error:#}; so where connections were opened is not known");
            (None, vec![degraded(reason, "a kernel of 5.12 or later with CONFIG_DEBUG_INFO_BTF")])
        }
    }
}

fn degraded(reason: String, remedy: &str) -> Degradation {
    Degradation { feature: "stacks".into(), reason, remedy: Some(remedy.into()) }
}

/// Name, hook, target and loss of each program.
pub(super) const NAMES: [(&str, Hook, &str, &str); 3] = [
    (STATE, Hook::TpBtf, SET_STATE, "--stacks is not to be had"),
    (
        ACCEPTED,
        Hook::FExit,
        ACCEPT,
        "--stacks tells where an accepted connection was first read from instead",
    ),
    (
        READ,
        Hook::TpBtf,
        ADJUST,
        "--stacks tells of accepted connections only where stack_accepted can be had",
    ),
];
const STATE: &str = "stack_state";
const ACCEPTED: &str = "stack_accepted";
const READ: &str = "stack_read";
const SET_STATE: &str = "inet_sock_set_state";
const ACCEPT: &str = "inet_accept";
const ADJUST: &str = "tcp_rcv_space_adjust";

/// Loads, attaches and detaches each for itself.
///
/// # Errors
///
/// If not even the first could be loaded.
pub(super) fn try_each() -> anyhow::Result<Vec<Tried>> {
    let (ground, settings, outline) = prepare()?;
    let settings = StackSettings { reads: 1, ..settings };
    let mut object = load(ground, settings, &outline)?;
    let mut attach = |name: &str, hook, target: &str| -> Result<(), Refusal> {
        if hook == Hook::FExit {
            let attached = attach_accepted(&mut object, &outline).map(|_detached| ());
            return attached.map_err(|error| optional::refusal(error, target));
        }
        let attached = attach_tracepoint(&mut object, &outline, name, target).map(|_detached| ());
        attached.map_err(|error| Refusal { reason: format!("{error:#}"), forbidden: false })
    };
    let tried = |(name, hook, target, loss)| {
        let result = attach(name, hook, target);
        Tried { name, hook, target, loss, result }
    };
    Ok(NAMES.into_iter().map(tried).collect())
}

/// What all of them need.
fn prepare() -> anyhow::Result<(Ground, StackSettings, Btf)> {
    let raw = fs::read(KERNEL_BTF)
        .map_err(|error| anyhow!("no BTF of the running kernel: {KERNEL_BTF}: {error}"))?;
    let kernel = btf::Btf::parse(&raw)?;
    let offsets = layout::offsets(&kernel).map_err(|text| anyhow!(text))?;
    let outline =
        Btf::parse(&kernel.outline(), aya::Endianness::default()).context("reading the kernel's BTF")?;
    Ok((Ground { offsets, helpers: true, half_open: false }, find_registers(&kernel), outline))
}

fn try_attach(degradations: &mut Vec<Degradation>) -> anyhow::Result<Stacks> {
    let (ground, mut settings, outline) = prepare()?;
    let mut accepted = load(ground, settings, &outline)?;
    let mut links = Vec::new();
    let mut programs = Vec::new();
    // Whoever accepts is known where the kernel allows a program on its functions; else, who reads first.
    let mut object = match attach_accepted(&mut accepted, &outline) {
        Ok(link) => {
            links.push(link);
            programs.push(ACCEPTED.to_owned());
            accepted
        }
        Err(error) => {
            log::info!("stack_accepted: {error}");
            settings.reads = 1;
            degradations.push(degraded(
                format!("{}; so of an accepted connection the stack is that of its first read, and of one that is never read from there is none", optional::why(&error)),
                "a kernel that is not locked down (without Secure Boot, or lockdown=none)",
            ));
            drop(accepted);
            load(ground, settings, &outline)?
        }
    };
    if settings.reads != 0 {
        links.push(attach_tracepoint(&mut object, &outline, READ, ADJUST)?);
        programs.push(READ.to_owned());
    }
    links.push(attach_tracepoint(&mut object, &outline, STATE, SET_STATE)?);
    programs.push(STATE.to_owned());
    if settings.registers == registers::NONE {
        degradations.push(degraded(
            "how this kernel keeps a task's registers is not known; so stacks lack the function that called the C library's connect() or accept(), and are followed by frame pointers alone".to_owned(),
            "an x86-64 kernel",
        ));
    }
    let mut map =
        |name: &str| object.take_map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"));
    let ring = RingBuf::try_from(map("DUMPS")?)?;
    let counts = PerCpuArray::try_from(map("CPUS")?)?;
    Ok(Stacks { ring, programs, counts, _links: links, _object: object })
}

/// Where a task's registers are, as far as that is known of this kernel.
fn find_registers(kernel: &btf::Btf<'_>) -> StackSettings {
    let found = kernel.members(["task_struct.stack", "pt_regs.ip", "pt_regs.sp", "pt_regs.bp", "pt_regs.ss"]);
    let [Some(stack), Some(ip), Some(sp), Some(bp), Some(last)] = found else { return StackSettings::NONE };
    StackSettings {
        registers: registers::HELPER,
        task_stack: stack.offset,
        ip: ip.offset,
        sp: sp.offset,
        bp: bp.offset,
        below: THREAD_SIZE - (last.offset + last.size).next_multiple_of(8),
        ..StackSettings::NONE
    }
}

/// Makes the maps: none larger than these programs need.
fn load(ground: Ground, settings: StackSettings, btf: &Btf) -> anyhow::Result<Ebpf> {
    let mut object = load_with(ground, settings)?;
    // `bpf_task_pt_regs` came with 5.15; distributions carry it back.
    let Err(error) = load_tracepoint(&mut object, btf, STATE, SET_STATE) else {
        return Ok(object);
    };
    log::info!("stack_state with bpf_task_pt_regs: {}", load_failure(&error));
    let settings = StackSettings {
        registers: if settings.registers == registers::HELPER {
            registers::STACK
        } else {
            settings.registers
        },
        ..settings
    };
    object = load_with(ground, settings)?;
    load_tracepoint(&mut object, btf, STATE, SET_STATE).map_err(|error| anyhow!(load_failure(&error)))?;
    Ok(object)
}

fn load_with(ground: Ground, settings: StackSettings) -> anyhow::Result<Ebpf> {
    let mut loader = Loader::begin().finish();
    for map in ["REQUESTS", "HELD", "TIME_WAITS", "AGGREGATES", "SINCE"] {
        loader.map_max_entries(map, 1);
    }
    let common = ground.settings(Layout::NONE, false);
    loader
        .map_max_entries("DUMPS", BUFFER)
        .override_global("OFFSETS", ground.offsets.as_bytes(), true)
        .override_global("SETTINGS", common.as_bytes(), true)
        .override_global("STACKS", settings.as_bytes(), true);
    Ok(loader.load(Filled::new(OBJECT, &ground.offsets)?.as_bytes())?)
}

fn attach_accepted(object: &mut Ebpf, btf: &Btf) -> Result<Link, ProgramError> {
    let missing = |_error| ProgramError::NotLoaded;
    let program: &mut FExit = program(object, ACCEPTED).map_err(missing)?;
    program.load(ACCEPT, btf)?;
    let link = program.attach()?;
    Ok(Box::new(program.take_link(link)?))
}

fn load_tracepoint(object: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> Result<(), ProgramError> {
    let missing = |_error| ProgramError::NotLoaded;
    let program: &mut BtfTracePoint = program(object, name).map_err(missing)?;
    program.load(target, btf)
}

/// Attaches a tracepoint program, loading it first if that has not been done.
fn attach_tracepoint(object: &mut Ebpf, btf: &Btf, name: &str, target: &str) -> anyhow::Result<Link> {
    let loaded: &mut BtfTracePoint = program(object, name)?;
    if loaded.fd().map(|fd| fd.as_fd().try_clone_to_owned()).is_err() {
        load_tracepoint(object, btf, name, target).map_err(|error| anyhow!(load_failure(&error)))?;
    }
    let program: &mut BtfTracePoint = program(object, name)?;
    let link = program.attach().with_context(|| format!("attaching {name} to {target}"))?;
    Ok(Box::new(program.take_link(link)?))
}

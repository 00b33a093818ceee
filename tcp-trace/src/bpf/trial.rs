//! Each hook tried for real, for `tcp-trace doctor`: loaded, attached, detached at once.
//!
//! None of them comes to work: the main programs wait for a word that nobody gives them, and what they would find is
//! thrown away.

use std::{fs, io};

use anyhow::{Context as _, anyhow};
use aya::{Btf, Ebpf, programs::TracePoint};
use tcp_trace_common::{config::Offsets, filter::Filter};
use tcp_trace_core::doctor::{Attempt, BtfFacts, EPERM, Field, HookKind, Tracefs, Trial};

use super::{
    AttachChoice, Holders, Layout, ModeChoice, Options, btf, cgroup, instead, layout,
    loading::{
        Ground, KERNEL_BTF, LoadFailure, Loader, MAIN, OBJECT, load, load_failure, load_main_of, load_small,
        program,
    },
    object::{attach_main, kernel_btf},
    optional::{self, Hook, Tried},
    stacks,
    sys::{bpf, bpf_fd, command},
    tracefs,
};

/// What became of everything.
#[derive(Clone, Debug)]
pub struct Trials {
    /// Whether this build has programs at all.
    pub has_object: bool,
    /// The kernel's types.
    pub btf: BtfFacts,
    /// tracefs.
    pub tracefs: Tracefs,
    /// The ring buffer.
    pub ring_buffer: Attempt,
    /// Whether bpf(2) answers as the kernel would.
    pub bpf_reaches_kernel: bool,
    /// The hooks.
    pub hooks: Vec<Trial>,
}

/// As `tcp-trace report` has them.
const OPTIONS: Options = Options {
    attach: AttachChoice::Auto,
    filter: Filter::NONE,
    mode: ModeChoice::Auto,
    buffers: Layout::NONE,
    debug: false,
};

/// Tries everything.
#[must_use]
pub fn try_all() -> Trials {
    let kernel = kernel_btf().and_then(|(offsets, outline)| Ok((offsets, outline.finish()?)));
    let mut hooks = match &kernel {
        Ok((offsets, btf)) => with_btf(*offsets, btf),
        Err(error) => without(&format!("{error:#}")),
    };
    hooks.insert(hooks.len().min(MAIN.len()), trial(MAIN[0], HookKind::Tracepoint, TARGET, tracepoint()));
    Trials {
        has_object: !OBJECT.is_empty(),
        btf: btf_facts(kernel.map(|_| ())),
        tracefs: tracefs_facts(),
        ring_buffer: attempt(ring_buffer()),
        bpf_reaches_kernel: bpf_reaches_kernel(),
        hooks,
    }
}

const TARGET: &str = "inet_sock_set_state";
const HALF_OPEN: &str = "half_open";
const HALF_OPEN_LOSS: &str = "half-open durations come from the kernel's own round-trip sample, and are unknown after a retransmitted SYN-ACK";
const HOLDERS: &str = "holders";
const HOLDERS_LOSS: &str = "who holds a socket is looked up in /proc, which takes longer";
const INSTEAD_LOSS: &str = "transitions are lost, and counted as lost, when the stream cannot keep up";
const COUNT: &str = "count_state";
const COUNT_LOSS: &str = "--mode count is not to be had";

fn trial(name: &str, kind: HookKind, target: &str, result: anyhow::Result<()>) -> Trial {
    Trial { name: name.into(), kind, target: target.into(), attempt: attempt(result), loss: None }
}

fn attempt(result: anyhow::Result<()>) -> Attempt {
    match result {
        Ok(()) => Attempt::Works,
        Err(error) => Attempt::Refused { errno: errno(&error), reason: format!("{error:#}") },
    }
}

/// The kernel's error number, however deep it lies.
pub(crate) fn errno(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|cause| {
        let of_io = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let of_rustix = || cause.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error());
        of_io.or_else(of_rustix).or_else(|| cause.downcast_ref::<LoadFailure>()?.errno)
    })
}

/// Everything that needs the kernel's types.
fn with_btf(offsets: Offsets, btf: &Btf) -> Vec<Trial> {
    let mut trials = Vec::new();
    let ground = Ground { offsets, helpers: true, half_open: true };
    let main = load(Loader::begin(), &OPTIONS, ground)
        .and_then(|object| load_main_of(object, &OPTIONS, ground, btf));
    let object = match main {
        Ok((mut object, ground, _rings)) => {
            trials.extend(MAIN.map(|name| {
                trial(name, HookKind::TpBtf, TARGET, attach_main(&mut object, name).map(|_detached| ()))
            }));
            let instead = instead::load(&mut object, btf).map(|_in_place| ());
            let instead = trial(instead::NAME, HookKind::TpBtf, TARGET, instead);
            trials.push(Trial { loss: Some(INSTEAD_LOSS.into()), ..instead });
            Ok((object, ground.helpers))
        }
        Err(error) => {
            trials.extend(MAIN.map(|name| refused(name, HookKind::TpBtf, TARGET, None, &error)));
            // The others may be had nevertheless.
            let ground = Ground { offsets, helpers: true, half_open: false };
            load(Loader::begin(), &OPTIONS, ground).map(|object| (object, true))
        }
    };
    match object {
        Ok((mut object, helpers)) => trials.extend(others(&mut object, btf, &offsets, helpers)),
        Err(error) => {
            let of_all = |(name, kind, target, loss)| refused(name, kind, target, Some(loss), &error);
            trials.extend(others_by_name().map(of_all));
        }
    }
    let count = Trial {
        loss: Some(COUNT_LOSS.into()),
        ..trial(COUNT, HookKind::TpBtf, TARGET, counting(offsets, btf))
    };
    trials.push(count);
    match stacks::try_each() {
        Ok(tried) => trials.extend(tried.into_iter().map(of_optional)),
        Err(error) => {
            let of_all = |(name, hook, target, loss)| refused(name, kind(hook), target, Some(loss), &error);
            trials.extend(stacks::NAMES.map(of_all));
        }
    }
    trials
}

fn refused(name: &str, kind: HookKind, target: &str, loss: Option<&str>, error: &anyhow::Error) -> Trial {
    let attempt = Attempt::Refused { errno: errno(error), reason: format!("{error:#}") };
    Trial { name: name.into(), kind, target: target.into(), attempt, loss: loss.map(str::to_owned) }
}

/// Nothing was tried.
fn without(reason: &str) -> Vec<Trial> {
    let not_tried = |name: &str, kind, target: &str, loss: Option<&str>| Trial {
        name: name.into(),
        kind,
        target: target.into(),
        attempt: Attempt::NotTried(reason.to_owned()),
        loss: loss.map(str::to_owned),
    };
    let main = MAIN.map(|name| not_tried(name, HookKind::TpBtf, TARGET, None));
    let others = others_by_name().map(|(name, kind, target, loss)| not_tried(name, kind, target, Some(loss)));
    let count = not_tried(COUNT, HookKind::TpBtf, TARGET, Some(COUNT_LOSS));
    let stacks =
        stacks::NAMES.map(|(name, hook, target, loss)| not_tried(name, kind(hook), target, Some(loss)));
    main.into_iter().chain(others).chain([count]).chain(stacks).collect()
}

type Named = (&'static str, HookKind, &'static str, &'static str);

fn others_by_name() -> impl Iterator<Item = Named> {
    let optional = optional::names().map(|(name, hook, target, loss)| (name, kind(hook), target, loss));
    std::iter::once((HALF_OPEN, HookKind::SockOps, "cgroup2 root", HALF_OPEN_LOSS)).chain(optional).chain([(
        HOLDERS,
        HookKind::Iter,
        "task_file",
        HOLDERS_LOSS,
    )])
}

fn kind(hook: Hook) -> HookKind {
    match hook {
        Hook::TpBtf => HookKind::TpBtf,
        Hook::FEntry => HookKind::Fentry,
        Hook::FExit => HookKind::Fexit,
    }
}

fn others(object: &mut Ebpf, btf: &Btf, offsets: &Offsets, helpers: bool) -> Vec<Trial> {
    let half_open = cgroup::attach(object, helpers).map(|_detached| ());
    let half_open = trial(HALF_OPEN, HookKind::SockOps, "cgroup2 root", half_open);
    let mut trials = vec![Trial { loss: Some(HALF_OPEN_LOSS.into()), ..half_open }];
    trials.extend(optional::try_each(object, btf, offsets).into_iter().map(of_optional));
    let holders =
        Holders::load(object, offsets, btf).and_then(|holders| holders.read(|_| true).map(|_rows| ()));
    let holders = trial(HOLDERS, HookKind::Iter, "task_file", holders);
    trials.push(Trial { loss: Some(HOLDERS_LOSS.into()), ..holders });
    trials
}

fn of_optional(Tried { name, hook, target, loss, result }: Tried) -> Trial {
    let attempt = match result {
        Ok(()) => Attempt::Works,
        Err(refusal) => {
            Attempt::Refused { errno: refusal.forbidden.then_some(EPERM), reason: refusal.reason }
        }
    };
    Trial { name: name.into(), kind: kind(hook), target: target.into(), attempt, loss: Some(loss.into()) }
}

fn counting(offsets: Offsets, btf: &Btf) -> anyhow::Result<()> {
    let mut object = load_small(Ground { offsets, helpers: false, half_open: false })?;
    let counting: &mut aya::programs::BtfTracePoint = program(&mut object, COUNT)?;
    counting.load(TARGET, btf).map_err(|error| anyhow!(load_failure(&error)))?;
    attach_main(&mut object, COUNT).map(|_detached| ())
}

fn tracepoint() -> anyhow::Result<()> {
    let ground = Ground { offsets: Offsets::NONE, helpers: false, half_open: false };
    let mut object = load(Loader::begin(), &OPTIONS, ground)?;
    let program: &mut TracePoint = program(&mut object, "set_state_tracepoint")?;
    program.load().map_err(|error| anyhow!(load_failure(&error)))?;
    tracefs::with_checked_layout(|| {
        let link = program.attach("sock", TARGET)?;
        program.take_link(link)?;
        Ok(())
    })
}

fn btf_facts(result: anyhow::Result<()>) -> BtfFacts {
    let attempt = attempt(result);
    let raw = fs::read(KERNEL_BTF).ok();
    let members = raw.as_deref().and_then(|raw| btf::Btf::parse(raw).ok()).map(|btf| layout::found(&btf));
    let offset = |member: btf::Member| member.bits.map_or(member.offset, |(first, _)| first);
    let members = members.unwrap_or_default().into_iter();
    BtfFacts {
        attempt,
        bytes: raw.as_ref().map(|raw| raw.len() as u64),
        members: members.map(|(name, member)| (name.to_owned(), member.map(offset))).collect(),
    }
}

fn tracefs_facts() -> Tracefs {
    let found = tracefs::layout();
    let field = |(name, offset, size): (&str, u32, u32)| Field { name: name.to_owned(), offset, size };
    let (attempt, fields) = match found {
        Ok(fields) => (Attempt::Works, fields.into_iter().map(field).collect()),
        Err(error) => (attempt(Err(error)), Vec::new()),
    };
    Tracefs { mounted: tracefs::mount_point().map(str::to_owned), attempt, fields }
}

/// The front of `union bpf_attr` of `BPF_MAP_CREATE`.
#[repr(C)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

fn ring_buffer() -> anyhow::Result<()> {
    /// `BPF_MAP_TYPE_RINGBUF` (`enum bpf_map_type`). First kernel: 5.8.
    const RINGBUF: u32 = 27;
    // A power of two and a multiple of every page size.
    let mut attr = MapAttr { map_type: RINGBUF, key_size: 0, value_size: 0, max_entries: 64 << 10 };
    // SAFETY: no address in it, and it returns a descriptor.
    unsafe { bpf_fd(command::MAP_CREATE, &mut attr) }.map(|_closed| ()).context("making a ring buffer")
}

/// Whether a command that does not exist is answered as the kernel answers it. It says EPERM itself, before it looks at
/// the command, to whom it permits none (`__sys_bpf`, `kernel/bpf/syscall.c`); a seccomp filter says EPERM or ENOSYS to
/// everybody.
fn bpf_reaches_kernel() -> bool {
    const NONE: libc::c_int = 0x7fff;
    // SAFETY: no address in it.
    let answer = unsafe { bpf(NONE, &mut 0_u32) };
    let refused = |error: io::Error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS));
    !answer.is_err_and(refused)
}

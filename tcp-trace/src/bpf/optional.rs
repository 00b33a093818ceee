//! Programs that tell more where they can be had. Each is loaded and attached for itself, and a refusal is a
//! [`Degradation`] with the program's name.

use std::fs;

use anyhow::anyhow;
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, ProgramError},
    sys::SyscallError,
};
use tcp_trace_common::{
    config::{MISSING, Offsets},
    nesting::live,
};
use tcp_trace_core::session::Degradation;

use super::{
    loading::{Ground, load_failure, program},
    object::Link,
};

/// What is attached beside the main hook.
#[derive(Default)]
pub(super) struct Optional {
    /// Names.
    pub(super) programs: Vec<String>,
    pub(super) links: Vec<Link>,
    pub(super) degradations: Vec<Degradation>,
    /// Bits of [`live`] for the main programs.
    pub(super) live: u64,
}

/// How a program hangs on the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    TpBtf,
    FEntry,
    FExit,
}

/// An optional program.
struct Extra {
    name: &'static str,
    /// The programs that do it, in the order in which they are attached.
    parts: &'static [(&'static str, Hook)],
    /// The tracepoint or function.
    target: &'static str,
    /// What is not known without it.
    loss: &'static str,
}

impl Extra {
    fn hook(&self) -> Hook {
        self.parts.first().map_or(Hook::TpBtf, |(_, hook)| *hook)
    }

    /// Whether it reads members that a kernel may have elsewhere, where no verifier would notice.
    fn reads_requests(&self) -> bool {
        ["syn_ack_retransmit", "request_dropped", "request_timer"].contains(&self.name)
    }
}

const TIME_WAIT: Extra = Extra {
    name: "time_wait",
    parts: &[("time_wait", Hook::FExit)],
    target: "inet_twsk_alloc",
    loss: "TIME_WAIT is inferred from the socket's flags when it closes, and said to be",
};
const ACCEPTED: Extra = Extra {
    name: "accepted",
    parts: &[("accepted", Hook::FExit)],
    target: "inet_accept",
    loss: "the owner of an accepted connection is who reads from it first or, until then, who holds it",
};
const FIRST_READ: Extra = Extra {
    name: "first_read",
    parts: &[("first_read", Hook::TpBtf)],
    target: "tcp_rcv_space_adjust",
    loss: "the owner of an accepted connection is who makes its next transition or, until then, who holds it",
};
const LAST_CLOSE: Extra = Extra {
    name: "last_close",
    parts: &[("last_close", Hook::TpBtf)],
    target: "tcp_destroy_sock",
    loss: "who holds a connection when it is reset is who was known to hold it before",
};
const SYN_ACK_RETRANSMIT: Extra = Extra {
    name: "syn_ack_retransmit",
    parts: &[("syn_ack_retransmit", Hook::TpBtf)],
    target: "tcp_retransmit_synack",
    loss: "whether a half-open request waits for its client or for room in the accept queue is not known",
};
const REQUEST_QUEUED: Extra = Extra {
    name: "request_queued",
    parts: &[("request_queued", Hook::FEntry)],
    target: "inet_csk_reqsk_queue_hash_add",
    loss: "the beginning of a half-open request is not seen",
};
const REQUEST_DROPPED: Extra = Extra {
    name: "request_dropped",
    parts: &[("request_dropped", Hook::FExit)],
    target: "inet_csk_reqsk_queue_drop",
    loss: "half-open requests that were reset are told from those that expired by their age only",
};
const REQUEST_TIMER: Extra = Extra {
    name: "request_timer",
    parts: &[("request_timer_end", Hook::FExit), ("request_timer", Hook::FEntry)],
    target: "reqsk_timer_handler",
    loss: "that a half-open request has expired is found out when they are listed next",
};

/// All of them.
const EXTRAS: [&Extra; 8] = [
    &TIME_WAIT,
    &ACCEPTED,
    &FIRST_READ,
    &LAST_CLOSE,
    &REQUEST_QUEUED,
    &SYN_ACK_RETRANSMIT,
    &REQUEST_DROPPED,
    &REQUEST_TIMER,
];

/// Why a program could not be had.
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Nobody may have a program of this kind here.
    pub(super) forbidden: bool,
}

/// An optional program that was tried for itself.
pub(super) struct Tried {
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    pub(super) target: &'static str,
    pub(super) loss: &'static str,
    pub(super) result: Result<(), Refusal>,
}

/// Name, hook, target and loss of each.
pub(super) fn names() -> impl Iterator<Item = (&'static str, Hook, &'static str, &'static str)> {
    EXTRAS.into_iter().map(|extra| (extra.name, extra.hook(), extra.target, extra.loss))
}

/// Loads, attaches and detaches each for itself, whatever the others came to.
pub(super) fn try_each(object: &mut Ebpf, btf: &Btf, offsets: &Offsets) -> Vec<Tried> {
    EXTRAS
        .into_iter()
        .map(|extra| {
            let attach = |(name, hook): &(&str, Hook)| {
                attach_part(object, btf, name, *hook, extra.target).map(|_detached| ())
            };
            let result = match missing_member(offsets).filter(|_| extra.reads_requests()) {
                Some(member) => {
                    let reason = format!("this kernel's BTF has no {member} as expected");
                    Err(Refusal { reason, forbidden: false })
                }
                None => extra.parts.iter().try_for_each(attach),
            };
            Tried { name: extra.name, hook: extra.hook(), target: extra.target, loss: extra.loss, result }
        })
        .collect()
}

/// Attaches what can be attached.
pub(super) fn attach(object: &mut Ebpf, btf: &Btf, ground: Ground) -> Optional {
    let mut attacher = Attacher { object, btf, forbidden: None, optional: Optional::default() };
    // The cheapest to load comes first: it finds out whether the kernel allows any of them.
    if attacher.attach(&TIME_WAIT) {
        attacher.optional.live |= live::TIME_WAIT;
    }
    if !attacher.attach(&ACCEPTED) && attacher.attach(&FIRST_READ) {
        attacher.optional.live |= live::CLAIMS;
    }
    if attacher.attach(&LAST_CLOSE) {
        attacher.optional.live |= live::LAST_CLOSE;
    }
    // Without the helper a request has no cookie but from sock_ops.
    if !ground.half_open && ground.helpers {
        attacher.attach(&REQUEST_QUEUED);
    }
    for extra in [&SYN_ACK_RETRANSMIT, &REQUEST_DROPPED, &REQUEST_TIMER] {
        if let Some(member) = missing_member(&ground.offsets) {
            attacher.degrade(extra, &format!("this kernel's BTF has no {member} as expected"));
        } else {
            attacher.attach(extra);
        }
    }
    attacher.optional
}

/// What [`super::layout`] has not found of the members that these programs read at any address, where no verifier
/// would notice.
fn missing_member(offsets: &Offsets) -> Option<&'static str> {
    [
        (offsets.skc_listener, "sock_common.skc_listener"),
        (offsets.skc_state, "sock_common.skc_state"),
        (offsets.skc_refcnt, "sock_common.skc_refcnt"),
        (offsets.sk_ack_backlog, "sock.sk_ack_backlog"),
        (offsets.sk_max_ack_backlog, "sock.sk_max_ack_backlog"),
        (offsets.rsk_timer, "request_sock.rsk_timer"),
        (offsets.timer_pprev, "timer_list.entry.pprev"),
        (offsets.num_timeout_bit, "request_sock.num_timeout"),
        (offsets.acked_bit, "inet_request_sock.acked"),
        (offsets.snt_synack, "tcp_request_sock.snt_synack"),
    ]
    .into_iter()
    .find_map(|(offset, name)| (offset == MISSING).then_some(name))
}

struct Attacher<'a> {
    object: &'a mut Ebpf,
    btf: &'a Btf,
    /// Why the kernel allows no program on a function, once that is known.
    forbidden: Option<String>,
    optional: Optional,
}

impl Attacher<'_> {
    /// Whether it is attached now; if not, that is noted.
    fn attach(&mut self, extra: &Extra) -> bool {
        let on_function = extra.parts.iter().any(|(_, hook)| *hook != Hook::TpBtf);
        if let Some(reason) = self.forbidden.clone().filter(|_| on_function) {
            self.degrade(extra, &reason);
            return false;
        }
        let mut links = Vec::new();
        for (name, hook) in extra.parts {
            match attach_part(self.object, self.btf, name, *hook, extra.target) {
                Ok(link) => links.push(link),
                Err(Refusal { reason, forbidden }) => {
                    if on_function && forbidden {
                        self.forbidden = Some(reason.clone());
                    }
                    self.degrade(extra, &reason);
                    return false;
                }
            }
        }
        self.optional.links.extend(links);
        self.optional.programs.push(extra.name.to_owned());
        true
    }

    fn degrade(&mut self, extra: &Extra, reason: &str) {
        let remedy = if self.forbidden.as_deref() == Some(reason) {
            "a kernel that is not locked down (without Secure Boot, or lockdown=none)"
        } else if extra.parts.iter().any(|(_, hook)| *hook != Hook::TpBtf) {
            "a kernel of 5.5 or later for x86-64, 6.4 for arm64, with CONFIG_FUNCTION_TRACER"
        } else {
            "a kernel of 5.9 or later"
        };
        self.optional.degradations.push(Degradation {
            feature: extra.name.to_owned(),
            reason: format!("{reason}; so {}", extra.loss),
            remedy: Some(remedy.to_owned()),
        });
    }
}

fn attach_part(object: &mut Ebpf, btf: &Btf, name: &str, hook: Hook, target: &str) -> Result<Link, Refusal> {
    macro_rules! attach_as {
        ($kind:ty) => {{
            let program: &mut $kind = program(object, name)
                .map_err(|error| Refusal { reason: format!("{error:#}"), forbidden: false })?;
            program.load(target, btf).map_err(|error| refusal(error, target))?;
            let link = program.attach().map_err(|error| refusal(error, target))?;
            Ok(Box::new(program.take_link(link).map_err(|error| refusal(error, target))?))
        }};
    }
    match hook {
        Hook::TpBtf => attach_as!(BtfTracePoint),
        Hook::FEntry => attach_as!(FEntry),
        Hook::FExit => attach_as!(FExit),
    }
}

/// Why a program on a function is refused.
pub(super) fn why(error: &ProgramError) -> String {
    if is_forbidden(error) { lockdown() } else { load_failure(error).to_string() }
}

pub(super) fn refusal(error: ProgramError, target: &str) -> Refusal {
    let forbidden = is_forbidden(&error);
    let reason = match error {
        _ if forbidden => lockdown(),
        ProgramError::LoadError { .. } => load_failure(&error).to_string(),
        // No such function in BTF, or none that can be attached to.
        other => format!("{target}: {:#}", anyhow!(other)),
    };
    Refusal { reason, forbidden }
}

/// Whether the kernel permits nobody to do this. The verifier says "permission denied" with another number.
pub(super) fn is_forbidden(error: &ProgramError) -> bool {
    let io_error = match error {
        ProgramError::LoadError { io_error, .. }
        | ProgramError::SyscallError(SyscallError { io_error, .. }) => io_error,
        _ => return false,
    };
    io_error.raw_os_error() == Some(libc::EPERM)
}

/// Why programs on functions are refused although tracepoints are not. The file is there if securityfs is mounted.
fn lockdown() -> String {
    let state = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    match state.split(['[', ']']).nth(1) {
        Some(mode) if mode != "none" => {
            format!("the kernel permits no programs on its functions (lockdown={mode})")
        }
        _ => "the kernel permits no programs on its functions (locked down, or its text is read-only)"
            .to_owned(),
    }
}

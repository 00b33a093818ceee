//! From facts to the document.

use super::{
    capability::Capability,
    cause::{self, Cause, EPERM, cause},
    document::{
        CapabilityRow, Check, Diagnosis, HookRow, Layout, Member, Next, Outcome, SCHEMA, Status, Tier, Works,
    },
    facts::{Attempt, CgroupMode, Facts, HookKind, Trial},
    remedy,
};

/// The main program of each way to attach.
const MAIN: &str = "set_state";
/// The program that tells half-opens from their SYN on.
const HALF_OPEN: &str = "half_open";
/// The iterator over descriptors.
const HOLDERS: &str = "holders";

/// Judges what was found.
#[must_use]
pub fn diagnose(facts: &Facts) -> Diagnosis {
    let judge = Judge { facts };
    Diagnosis {
        schema: SCHEMA,
        host: facts.host.clone(),
        ready: judge.ready(),
        checks: judge.checks(),
        capabilities: Capability::ALL.map(|one| judge.capability(one)).into(),
        layout: Layout {
            tracepoint: facts.tracefs.fields.clone(),
            members: facts
                .btf
                .members
                .iter()
                .map(|(name, offset)| Member { name: name.clone(), offset: *offset })
                .collect(),
        },
        cgroup_mode: facts.cgroup.mode,
        hooks: facts.hooks.iter().map(|trial| judge.hook(trial)).collect(),
        tiers: judge.tiers(),
        next: judge.next(),
    }
}

struct Judge<'a> {
    facts: &'a Facts,
}

/// Something that could be had, and why it is not.
type Lack = (&'static str, Cause);

impl Judge<'_> {
    fn works(&self, name: &str, kind: HookKind) -> bool {
        self.facts.hooks.iter().any(|trial| trial.name == name && trial.kind == kind && trial.attempt.works())
    }

    /// What `tcp-trace report` asks for before it tries anything, and one of the main hooks.
    fn ready(&self) -> bool {
        let effective = self.facts.privileges.effective;
        effective.allow(Capability::Bpf)
            && effective.allow(Capability::Perfmon)
            && (self.works(MAIN, HookKind::TpBtf) || self.works(MAIN, HookKind::Tracepoint))
    }

    fn cause_of(&self, name: &str, kind: HookKind) -> Option<Cause> {
        let trial = self.facts.hooks.iter().find(|trial| trial.name == name && trial.kind == kind)?;
        cause(self.facts, trial.kind, &trial.attempt)
    }

    fn hook(&self, trial: &Trial) -> HookRow {
        let cause = cause(self.facts, trial.kind, &trial.attempt);
        HookRow {
            name: trial.name.clone(),
            kind: trial.kind,
            target: trial.target.clone(),
            outcome: match trial.attempt {
                Attempt::Works => Outcome::Ok,
                Attempt::Refused { .. } => Outcome::Refused,
                Attempt::NotTried(_) => Outcome::NotTried,
            },
            cause: cause.as_ref().map(Cause::id),
            reason: cause.as_ref().map(Cause::sentence),
            loss: trial.loss.clone(),
        }
    }

    fn capability(&self, capability: Capability) -> CapabilityRow {
        let rights = &self.facts.privileges;
        let old = self.facts.kernel.is_some_and(|version| version < (5, 11));
        CapabilityRow {
            name: capability.name(),
            held: rights.effective.has(capability),
            needed: match capability {
                Capability::SysResource => old,
                Capability::Bpf | Capability::Perfmon => !rights.effective.has(Capability::SysAdmin),
                _ => true,
            },
            purpose: capability.purpose(),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.kernel(), self.lockdown()];
        checks.extend(self.sysctls());
        checks.extend(self.walls());
        checks.extend([self.btf(), self.tracefs(), self.ring_buffer(), self.cgroup(), self.runtimes()]);
        checks.extend([self.sock_diag(), self.destroy(), self.namespaces(), self.holders()]);
        checks
    }

    fn kernel(&self) -> Check {
        let old = self.facts.kernel.is_some_and(|version| version < (5, 8));
        let note = old.then(|| "older than 5.8, the first with a BPF ring buffer".to_owned());
        check("kernel", if old { Status::Limits } else { Status::Ok }, self.facts.host.kernel.clone(), note)
    }

    fn lockdown(&self) -> Check {
        match &self.facts.lockdown {
            Ok(mode) if mode == "none" => check("lockdown", Status::Ok, mode.clone(), None),
            Ok(mode) => {
                let note = "no programs on kernel functions: TIME_WAIT and accept() are inferred";
                check("lockdown", Status::Limits, mode.clone(), Some(note.into()))
            }
            Err(reason) => check("lockdown", Status::Unknown, "not known".into(), Some(reason.clone())),
        }
    }

    fn sysctls(&self) -> [Check; 2] {
        let value =
            |value: Option<i64>| value.map_or_else(|| "not known".to_owned(), |value| value.to_string());
        let tracing = self.facts.privileges.effective.allow(Capability::Perfmon);
        let paranoid = self.facts.perf_event_paranoid;
        let binds = paranoid.is_some_and(|level| level >= 0) && !tracing;
        let note = if binds {
            "binds who lacks CAP_PERFMON, as this process does"
        } else {
            "CAP_PERFMON is exempt from it"
        };
        let status = if binds { Status::Limits } else { Status::Info };
        let unprivileged = self.facts.unprivileged_bpf_disabled;
        let may = self.facts.privileges.effective.allow(Capability::Bpf);
        let bpf =
            if may { "CAP_BPF is exempt from it" } else { "tracing programs need CAP_BPF whatever it says" };
        [
            check("perf_event_paranoid", status, value(paranoid), Some(note.into())),
            check("unprivileged_bpf_disabled", Status::Info, value(unprivileged), Some(bpf.into())),
        ]
    }

    /// What stands around this process; nothing of it is shown where nothing does.
    fn walls(&self) -> Vec<Check> {
        let rights = &self.facts.privileges;
        let mut walls = Vec::new();
        if !rights.first_user_namespace {
            let note = "capabilities count only in the first one; kernel programs need those";
            walls.push(check("user_namespace", Status::Limits, "its own".into(), Some(note.into())));
        }
        if !rights.first_pid_namespace {
            let note = "only its processes can be named: start it with --pid=host";
            walls.push(check("pid_namespace", Status::Limits, "its own".into(), Some(note.into())));
        }
        if rights.seccomp {
            let blocks = !rights.bpf_reaches_kernel && rights.effective.allow(Capability::Bpf);
            let (status, note) = if blocks {
                (Status::Limits, Some("it keeps bpf(2) from the kernel".to_owned()))
            } else {
                (Status::Info, None)
            };
            walls.push(check("seccomp", status, "a filter is in force".into(), note));
        }
        let old = self.facts.kernel.is_some_and(|version| version < (5, 11));
        if let (true, Some(bytes)) = (old, rights.memlock) {
            let note = "kernels before 5.11 charge maps to it; raising it takes CAP_SYS_RESOURCE";
            walls.push(check("memlock", Status::Limits, format!("{} KiB", bytes / 1024), Some(note.into())));
        }
        walls
    }

    fn btf(&self) -> Check {
        let btf = &self.facts.btf;
        let found = btf.members.iter().filter(|(_, offset)| offset.is_some()).count();
        match &btf.attempt {
            Attempt::Works => {
                let size = btf.bytes.map_or_else(String::new, |bytes| format!("{} KiB, ", bytes / 1024));
                let value = format!("{size}{found} of {} members found", btf.members.len());
                let absent: Vec<_> = btf
                    .members
                    .iter()
                    .filter(|(_, offset)| offset.is_none())
                    .map(|(name, _)| name.as_str())
                    .collect();
                let note = (!absent.is_empty()).then(|| format!("this kernel has no {}", absent.join(", ")));
                check("btf", Status::Ok, value, note)
            }
            Attempt::Refused { reason, .. } | Attempt::NotTried(reason) => {
                let note = "no owners, cookies, namespaces: the perf tracepoint has only its record";
                check("btf", Status::Limits, reason.clone(), Some(note.into()))
            }
        }
    }

    fn tracefs(&self) -> Check {
        let tracefs = &self.facts.tracefs;
        let value = match &tracefs.mounted {
            Some(path) => path.clone(),
            None => "not mounted".to_owned(),
        };
        let fields = tracefs.fields.len();
        let (status, note) = match (cause::tracefs(self.facts), &tracefs.mounted) {
            (None, Some(_)) => {
                (Status::Ok, format!("the record has the {fields} fields where they are expected"))
            }
            (None, None) => {
                (Status::Ok, format!("mounted for the trial alone: {fields} fields where they are expected"))
            }
            // Only the perf tracepoint needs it.
            (Some(cause), _) => {
                (Status::Info, format!("{}; only the perf tracepoint needs it", cause.sentence()))
            }
        };
        check("tracefs", status, value, Some(note))
    }

    fn ring_buffer(&self) -> Check {
        match (&self.facts.ring_buffer, cause(self.facts, HookKind::TpBtf, &self.facts.ring_buffer)) {
            (Attempt::Refused { errno: Some(EPERM), .. } | Attempt::NotTried(_), Some(cause)) => {
                check("ring_buffer", Status::Unknown, "not permitted to try".into(), Some(cause.sentence()))
            }
            (Attempt::Refused { reason, .. }, _) => {
                check("ring_buffer", Status::Limits, reason.clone(), Some("first kernel: 5.8".into()))
            }
            _ => check("ring_buffer", Status::Ok, "one can be made".into(), None),
        }
    }

    fn cgroup(&self) -> Check {
        let cgroup = &self.facts.cgroup;
        let mode = match cgroup.mode {
            CgroupMode::Unified => "unified",
            CgroupMode::Hybrid => "hybrid",
            CgroupMode::Legacy => "legacy",
            CgroupMode::None => "none mounted",
        };
        match &cgroup.cgroup2 {
            Some(path) if cgroup.is_root => {
                check("cgroup", Status::Ok, format!("{mode}, cgroup2 on {path}"), None)
            }
            Some(path) => {
                let note = format!("{path} is a container's part of the hierarchy: no handshakes of others");
                check("cgroup", Status::Limits, mode.into(), Some(note))
            }
            None => {
                let note = "without cgroup2 no program sees handshakes from their SYN on";
                check("cgroup", Status::Limits, mode.into(), Some(note.into()))
            }
        }
    }

    fn runtimes(&self) -> Check {
        let found = &self.facts.runtimes;
        let value = if found.is_empty() { "none found".to_owned() } else { found.join(", ") };
        let inside =
            self.facts.container.as_ref().map(|name| format!("this process is in a container ({name})"));
        check("containers", Status::Info, value, inside)
    }

    fn sock_diag(&self) -> Check {
        match &self.facts.sock_diag {
            Attempt::Works => check("sock_diag", Status::Ok, "lists sockets".into(), None),
            Attempt::Refused { reason, .. } | Attempt::NotTried(reason) => {
                let note = "needs CONFIG_INET_TCP_DIAG (module tcp_diag)";
                check("sock_diag", Status::Limits, reason.clone(), Some(note.into()))
            }
        }
    }

    fn destroy(&self) -> Check {
        match self.destroy_cause() {
            None => check("sock_destroy", Status::Ok, "tried on a socket of its own".into(), None),
            Some(cause) => {
                check("sock_destroy", Status::Limits, "not to be had".into(), Some(cause.sentence()))
            }
        }
    }

    fn destroy_cause(&self) -> Option<Cause> {
        let Attempt::Refused { errno, reason } = &self.facts.destroy else { return None };
        let refused = (*errno == Some(EPERM))
            .then(|| cause::refused(self.facts, &[Capability::NetAdmin], false))
            .flatten();
        Some(refused.unwrap_or_else(|| Cause::Kernel(reason.clone())))
    }

    fn namespaces(&self) -> Check {
        let (found, problems) = &self.facts.namespaces;
        let value = format!("{found} found");
        let status = if problems.is_empty() { Status::Ok } else { Status::Limits };
        check("net_namespaces", status, value, joined(problems))
    }

    fn holders(&self) -> Check {
        let problems = &self.facts.holders;
        let (status, value) = match problems.is_empty() {
            true => (Status::Ok, "all processes can be looked at"),
            false => (Status::Limits, "not all processes can be looked at"),
        };
        check("holders", status, value.into(), joined(problems))
    }
}

fn joined(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn check(name: &'static str, status: Status, value: String, note: Option<String>) -> Check {
    Check { name, status, value, note }
}

/// What will work.
impl Judge<'_> {
    fn tiers(&self) -> Vec<Tier> {
        vec![self.tier_0(), self.tier_1(), self.tier_1s(), self.tier_2(), self.tier_s(), self.tier_k()]
    }

    /// Either main hook shows every transition.
    fn tier_0(&self) -> Tier {
        let missing = if self.ready() { Vec::new() } else { self.lacks_of_main() };
        tier("0", "tracepoints", "every transition, exactly counted", works(self.ready()), missing)
    }

    fn lacks_of_main(&self) -> Vec<String> {
        let causes = [HookKind::TpBtf, HookKind::Tracepoint].map(|kind| self.cause_of(MAIN, kind));
        let mut lacks = Vec::new();
        for cause in causes.into_iter().flatten() {
            push_once(&mut lacks, cause.sentence());
        }
        lacks
    }

    fn tier_1(&self) -> Tier {
        let gives = "cookies, owners, netns, cgroup, tcp_sock facts";
        let cause = self.cause_of(MAIN, HookKind::TpBtf);
        let on_tracepoints: Vec<_> = self.optional(false).collect();
        let mut missing: Vec<String> = cause.iter().map(Cause::sentence).collect();
        let all = on_tracepoints.iter().all(|trial| trial.attempt.works());
        if cause.is_none() {
            missing.extend(self.missing(&on_tracepoints));
        }
        let works = match (self.works(MAIN, HookKind::TpBtf), all) {
            (true, true) => Works::Yes,
            (true, false) => Works::Partly,
            _ => Works::No,
        };
        tier("1", "BTF", gives, works, missing)
    }

    /// The tier of sock_ops is only of use to `tp_btf`, which joins a request to its connection.
    fn tier_1s(&self) -> Tier {
        let base = self.cause_of(MAIN, HookKind::TpBtf);
        let own = self.cause_of(HALF_OPEN, HookKind::SockOps);
        let works = works(base.is_none() && own.is_none() && self.works(HALF_OPEN, HookKind::SockOps));
        let missing = base.or(own).iter().map(Cause::sentence).collect();
        tier("1s", "sock_ops", "true half-open times, from the SYN on", works, missing)
    }

    fn optional(&self, on_function: bool) -> impl Iterator<Item = &Trial> {
        let of_kind = move |trial: &&Trial| {
            trial.loss.is_some()
                && match trial.kind {
                    HookKind::Fentry | HookKind::Fexit => on_function,
                    HookKind::TpBtf | HookKind::Iter => !on_function,
                    HookKind::SockOps | HookKind::Tracepoint => false,
                }
        };
        self.facts.hooks.iter().filter(of_kind)
    }

    /// Why programs are not to be had, with their names.
    fn missing(&self, trials: &[&Trial]) -> Vec<String> {
        let mut found: Vec<(String, Vec<&str>)> = Vec::new();
        for trial in trials {
            let Some(cause) = cause(self.facts, trial.kind, &trial.attempt) else { continue };
            let sentence = cause.sentence();
            match found.iter_mut().find(|(other, _)| *other == sentence) {
                Some((_, names)) => names.push(&trial.name),
                None => found.push((sentence, vec![&trial.name])),
            }
        }
        found.into_iter().map(|(sentence, names)| format!("{}: {sentence}", names.join(", "))).collect()
    }

    fn tier_2(&self) -> Tier {
        let gives = "exact TIME_WAIT, accept() owners, ends of half-opens";
        let trials: Vec<_> = self.optional(true).collect();
        let base = self.cause_of(MAIN, HookKind::TpBtf);
        let on = trials.iter().filter(|trial| trial.attempt.works()).count();
        let works = match (on, base.is_none()) {
            (0, _) | (_, false) => Works::No,
            (on, true) if on == trials.len() => Works::Yes,
            _ => Works::Partly,
        };
        let missing = match base {
            Some(cause) => vec![cause.sentence()],
            None => self.missing(&trials),
        };
        tier("2", "fentry", gives, works, missing)
    }

    fn tier_s(&self) -> Tier {
        let gives = "older sockets, queues, TIME_WAIT, holders";
        let mut missing = Vec::new();
        if let Attempt::Refused { reason, .. } | Attempt::NotTried(reason) = &self.facts.sock_diag {
            missing.push(reason.clone());
        }
        missing.extend(self.facts.namespaces.1.iter().chain(&self.facts.holders).cloned());
        if !self.facts.privileges.first_pid_namespace {
            missing.push("this is a pid namespace of its own: only its processes can be named".into());
        }
        let works = match (self.facts.sock_diag.works(), missing.is_empty()) {
            (false, _) => Works::No,
            (true, true) => Works::Yes,
            (true, false) => Works::Partly,
        };
        tier("S", "snapshot", gives, works, missing)
    }

    fn tier_k(&self) -> Tier {
        let cause = self.destroy_cause();
        let missing = cause.iter().map(Cause::sentence).collect();
        tier("K", "kill", "tcp-trace kill: destroys leaked sockets", works(cause.is_none()), missing)
    }

    /// Of what is missing, in the order of what it is worth, the first that a command gets; else the first that something
    /// gets.
    fn next(&self) -> Option<Next> {
        if !self.ready() {
            return Some(self.to_the_main_job());
        }
        let all = self.lacks().into_iter().filter(|(_, cause)| !matches!(cause, Cause::Unknown(_)));
        let mut all = all.map(|(gives, cause)| remedy::next(self.facts, gives, &cause)).peekable();
        let first = all.peek().cloned();
        all.find(|next| next.command.is_some()).or(first)
    }

    /// Of two hooks one will do: the one that a command opens, before the one that takes another kernel.
    fn to_the_main_job(&self) -> Next {
        const GIVES: &str = "the main job: every transition, with its owner";
        let causes: Vec<_> = [HookKind::TpBtf, HookKind::Tracepoint]
            .into_iter()
            .filter_map(|kind| self.cause_of(MAIN, kind))
            .collect();
        let helps = |cause: &&Cause| remedy::next(self.facts, GIVES, cause).command.is_some();
        let cause = causes.iter().find(helps).or(causes.first()).cloned();
        let cause = cause.unwrap_or(Cause::Kernel("neither main hook could be tried".into()));
        remedy::next(self.facts, GIVES, &cause)
    }

    fn lacks(&self) -> Vec<Lack> {
        let facts = self.facts;
        let mut lacks: Vec<Lack> = Vec::new();
        let mut lack = |gives, cause: Option<Cause>| lacks.extend(cause.map(|cause| (gives, cause)));
        lack("tier 1: owners, cookies, containers", self.cause_of(MAIN, HookKind::TpBtf));
        lack("tier 1s: true half-open times, from the SYN on", self.cause_of(HALF_OPEN, HookKind::SockOps));
        let read = [Capability::SysPtrace, Capability::DacReadSearch];
        let unknown = |text: &Vec<String>| joined(text).map(Cause::Unknown);
        let hidden =
            unknown(&facts.holders).map(|other| cause::refused(facts, &read, false).unwrap_or(other));
        lack("tier S: who holds the sockets of other users", hidden);
        let closed = unknown(&facts.namespaces.1)
            .map(|other| cause::refused(facts, &[Capability::SysAdmin], false).unwrap_or(other));
        lack("tier S: sockets in other network namespaces", closed);
        lack("tier S: holders of sockets, from the kernel", self.cause_of(HOLDERS, HookKind::Iter));
        let functions = self.optional(true).find_map(|trial| cause(facts, trial.kind, &trial.attempt));
        lack("tier 2: exact TIME_WAIT, accept() owners, ends of half-opens", functions);
        lack("tcp-trace kill", self.destroy_cause());
        lacks
    }
}

fn works(yes: bool) -> Works {
    if yes { Works::Yes } else { Works::No }
}

fn tier(
    tier: &'static str,
    name: &'static str,
    gives: &'static str,
    works: Works,
    missing: Vec<String>,
) -> Tier {
    Tier { tier, name, works, gives, missing }
}

fn push_once(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

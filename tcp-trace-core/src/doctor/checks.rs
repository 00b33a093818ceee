//! The facts of a host, each judged.

use super::{
    capability::Capability,
    cause::{self, EPERM, cause},
    diagnosis::Judge,
    document::{Check, Status},
    facts::{Attempt, CgroupMode, HookKind, Privileges},
};

impl Judge<'_> {
    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.kernel(), self.lockdown()];
        checks.extend(self.sysctls());
        checks.extend(self.walls());
        checks.push(self.sandbox());
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

    /// What this process can take away from its own threads.
    fn sandbox(&self) -> Check {
        let Privileges { landlock, filters, .. } = self.facts.privileges;
        let landlock = landlock.map(|abi| format!("Landlock (version {abi})"));
        let filters = filters.then(|| "filters of system calls".to_owned());
        let note = match (&landlock, &filters) {
            (Some(_), Some(_)) => None,
            (None, Some(_)) => Some("no Landlock (since 5.13, with lsm=landlock): files are not fenced off"),
            (Some(_), None) => Some("no filters of system calls: any call can be made"),
            (None, None) => Some("capabilities are all that threads give up"),
        };
        let found: Vec<_> = landlock.into_iter().chain(filters).collect();
        let value = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        check("sandbox", Status::Info, value, note.map(str::to_owned))
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

/// Sentences as one.
pub(super) fn joined(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn check(name: &'static str, status: Status, value: String, note: Option<String>) -> Check {
    Check { name, status, value, note }
}

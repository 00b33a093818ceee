//! One survey: looks at the namespaces, the kernel programs' map of requests, and the holders, and says what it found
//! as records.

use std::{collections::BTreeSet, fs::File, os::fd::AsRawFd as _, path::Path};

use rustc_hash::FxHashSet;
use tcp_trace_core::{
    record::kind,
    state::TcpState,
    survey::{
        Facts, Holder, ListenerFacts, NamespaceFacts, ProcessFacts, RequestRow, SocketRow, SurveyBegin,
        SurveyEnd, encode_holders, encode_requests, encode_sockets, scope,
    },
    time::Timestamp,
};

use super::{
    containers::Containers,
    holders,
    namespaces::{self, Namespace, Namespaces},
    netstat, processes,
    sock_diag::{self, Dump, States},
};
use crate::{bpf, host, source::Batch};

/// Rows of one record.
const ROWS: usize = 4096;
/// Processes of one record: some hundred bytes each, at most 8 KiB.
const PROCESSES: usize = 256;
/// A batch is full when it is this long.
const BATCH_BYTES: usize = 1 << 20;
/// Sockets of a namespace that are all listed for each report: some 20 ms.
const FEW: u64 = 16_384;
/// Problems told of per survey.
const PROBLEMS: usize = 16;

/// What a survey is for; each looks at more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Half-open requests, and only if there are any.
    Requests,
    /// What a report needs.
    Report,
    /// Everything: at the start, and after a loss.
    All,
}

/// Whoever looks, with what it has found out before.
#[expect(missing_debug_implementations, reason = "the maps have none")]
pub struct Surveyor {
    /// The kernel programs' map of requests; `None` where nothing fills it.
    pub requests: Option<bpf::Requests>,
    /// The kernel's own look at the descriptors; `None` where /proc has to do.
    pub holders: Option<bpf::Holders>,
    /// When the transitions began to be seen: what was queued before may have completed unseen.
    pub started: Timestamp,
    /// The only namespace wanted.
    pub netns: Option<u32>,
    /// The way into that namespace, where only a descriptor keeps it.
    door: Option<File>,
    /// Every process of the host is visible.
    everyone: bool,
    containers: Containers,
    /// Requests of the map that were not listed by the last survey.
    unlisted: FxHashSet<u64>,
}

/// What was found, before it becomes records.
#[derive(Default)]
struct Found {
    rows: Vec<SocketRow>,
    /// After which of them the clock was read.
    read: Vec<(usize, Timestamp)>,
    namespaces: Vec<NamespaceFacts>,
    listeners: Vec<ListenerFacts>,
    /// Those that were listed whole.
    complete: Vec<u32>,
    problems: Vec<String>,
}

/// Who holds the sockets.
struct Held {
    holders: Vec<Holder>,
    /// Every process could be looked at.
    complete: bool,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::All => scope::ALL,
            Self::Report => scope::REPORT,
            Self::Requests => scope::REQUESTS,
        }
    }

    fn states(self) -> States {
        use TcpState::{CloseWait, Closing, FinWait1, FinWait2, LastAck, Listen, NewSynReceived, TimeWait};
        match self {
            Self::All => States::ALL,
            Self::Report => States::of(&[
                Listen,
                NewSynReceived,
                CloseWait,
                TimeWait,
                FinWait1,
                FinWait2,
                Closing,
                LastAck,
            ]),
            Self::Requests => States::of(&[NewSynReceived]),
        }
    }

    /// What is listed of the calling thread's namespace: for a report also what is established, where that is little, as
    /// it takes a look to tell who holds a connection on which nothing happens.
    fn states_here(self) -> States {
        let few = || netstat::in_use().is_some_and(|sockets| sockets <= FEW);
        let states = self.states();
        if self == Self::Report && few() { states.and(TcpState::Established) } else { states }
    }
}

impl Surveyor {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(netns: Option<u32>) -> Self {
        let containers = Containers::new();
        let started = Timestamp::default();
        Self {
            requests: None,
            holders: None,
            started,
            netns,
            door: None,
            everyone: host::sees_all_processes(),
            containers,
            unlisted: FxHashSet::default(),
        }
    }

    /// What the kernel has counted in each namespace by now, as a record of its own: what the first report counts from.
    #[must_use]
    pub fn baseline(&mut self) -> Batch {
        let Namespaces { all, .. } = self.namespaces();
        let mut facts = Facts::default();
        // What cannot be looked at the survey will tell of.
        let _ = namespaces::for_each(&all, |namespace| facts.namespaces.push(netstat::facts(namespace)));
        let mut batch = Batch::default();
        push_json(&mut batch, kind::FACTS, &facts);
        batch
    }

    /// What to send before the survey: transitions from here on know better than it does.
    #[must_use]
    pub fn begin(scope: Scope) -> (Batch, Timestamp) {
        let time = host::monotonic();
        let mut batch = Batch::default();
        push_json(&mut batch, kind::SURVEY_BEGIN, &SurveyBegin { time, scope: scope.name().to_owned() });
        (batch, time)
    }

    /// Looks. The records are to be sent after every transition up to now.
    #[must_use]
    pub fn look(&mut self, scope: Scope, begin: Timestamp, last: bool) -> Vec<Batch> {
        let before = self.pending();
        let mut found = Found::default();
        // Unless nothing is half-open, and nothing else is asked for.
        let states = if scope != Scope::Requests || !before.is_empty() || self.requests.is_none() {
            self.dump(scope, &mut found);
            scope.states().numbers()
        } else {
            Vec::new()
        };
        let mut dead = self.dead(&before, &found.rows, begin);
        if last && !self.unlisted.is_empty() {
            // There is no later survey to confirm by that a request is gone.
            let mut again = Found::default();
            self.dump(Scope::Requests, &mut again);
            dead.extend(self.dead(&before, &again.rows, begin));
        }
        let (held, facts) = match scope {
            Scope::Requests => (None, Facts::default()),
            Scope::All | Scope::Report => {
                let (held, facts) = self.people(&mut found, begin);
                (Some(held), facts)
            }
        };
        found.problems.truncate(PROBLEMS);
        let end = SurveyEnd {
            time: host::monotonic(),
            states,
            namespaces: found.complete,
            holders: held.is_some(),
            holders_complete: held.as_ref().is_some_and(|held| held.complete),
            problems: found.problems,
        };
        let mut batches = Batches::default();
        let mut start = 0;
        for (end, time) in found.read {
            for rows in found.rows.get(start..end).unwrap_or_default().chunks(ROWS) {
                batches.next().push(kind::SOCKETS, &encode_sockets(time, rows));
            }
            start = end;
        }
        for holders in held.iter().flat_map(|held| held.holders.chunks(ROWS)) {
            batches.next().push(kind::HOLDERS, &encode_holders(holders));
        }
        for requests in dead.chunks(ROWS) {
            batches.next().push(kind::REQUESTS, &encode_requests(requests));
        }
        for processes in facts.processes.chunks(PROCESSES) {
            let facts = Facts { processes: processes.to_vec(), ..Facts::default() };
            push_json(batches.next(), kind::FACTS, &facts);
        }
        let Found { namespaces, listeners, .. } = found;
        let facts = Facts { namespaces, listeners, processes: Vec::new(), ..facts };
        if facts != Facts::default() {
            push_json(batches.next(), kind::FACTS, &facts);
        }
        push_json(batches.next(), kind::SURVEY_END, &end);
        batches.0
    }

    /// Facts of single processes, as a record of their own; empty if all of them have gone.
    #[must_use]
    pub fn facts_of(containers: &mut Containers, wanted: &[tcp_trace_core::process::ProcessId]) -> Batch {
        let mut facts = Facts::default();
        for id in wanted {
            // The pid may be another process's by now.
            let process = processes::facts(id.pid, containers).filter(|process| process.id == *id);
            facts.processes.extend(process);
        }
        let mut batch = Batch::default();
        if !facts.processes.is_empty() {
            push_json(&mut batch, kind::FACTS, &facts);
        }
        batch
    }

    /// Requests whose handshake has not completed.
    fn pending(&self) -> Vec<RequestRow> {
        let Some(requests) = &self.requests else { return Vec::new() };
        let mut rows = requests.read();
        rows.retain(|row| row.queued >= self.started);
        rows
    }

    /// Requests that were in the map before the kernel's list was made, are there still, and were not listed, twice.
    /// Once is not enough: the kernel makes its list in steps, between which a place in it may shift.
    fn dead(&mut self, before: &[RequestRow], listed: &[SocketRow], begin: Timestamp) -> Vec<RequestRow> {
        let Some(requests) = &self.requests else { return Vec::new() };
        if before.is_empty() {
            return Vec::new();
        }
        let listed: FxHashSet<u64> = listed.iter().map(|row| row.cookie.get()).collect();
        let still: FxHashSet<u64> = self.pending().iter().map(|row| row.cookie.get()).collect();
        let mut unlisted = FxHashSet::default();
        let mut dead = Vec::new();
        for row in before {
            let cookie = row.cookie.get();
            if row.queued < begin && still.contains(&cookie) && !listed.contains(&cookie) {
                if self.unlisted.contains(&cookie) {
                    dead.push(*row);
                } else {
                    unlisted.insert(cookie);
                }
            }
        }
        self.unlisted = unlisted;
        requests.forget(&dead.iter().map(|row| row.cookie).collect::<Vec<_>>());
        dead
    }

    /// The sockets of every namespace.
    fn dump(&mut self, scope: Scope, found: &mut Found) {
        let Namespaces { all, problems } = self.namespaces();
        found.problems.extend(problems);
        let mut visit = |namespace: &Namespace| {
            let request =
                Dump { states: scope.states_here(), info: scope != Scope::Requests, netns: namespace.inum };
            match sock_diag::dump(&request, &mut found.rows) {
                Ok(true) => found.complete.push(namespace.inum),
                Ok(false) => {}
                Err(error) => found.problems.push(format!("namespace {}: {error}", namespace.inum)),
            }
            found.read.push((found.rows.len(), host::monotonic()));
            if scope != Scope::Requests {
                // Where they cannot be read they are not known.
                found.listeners.extend(sock_diag::drops().unwrap_or_default());
            }
            found.namespaces.push(netstat::facts(namespace));
        };
        match namespaces::for_each(&all, &mut visit) {
            Ok(problems) => found.problems.extend(problems),
            Err(error) => found.problems.push(error.to_string()),
        }
    }

    fn namespaces(&mut self) -> Namespaces {
        let found = namespaces::find(self.netns);
        let Some(wanted) = self.netns.filter(|_| found.all.is_empty()) else { return found };
        self.door = self.door.take().or_else(|| namespaces::open_among_descriptors(wanted));
        match &self.door {
            Some(file) => {
                namespaces::find_at(wanted, Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
            }
            None => found,
        }
    }

    /// Who holds the sockets, and who those are.
    fn people(&mut self, found: &mut Found, begin: Timestamp) -> (Held, Facts) {
        let wanted: FxHashSet<u32> = found.rows.iter().filter_map(|row| row.inode).collect();
        let held = self.find_holders(&wanted, &mut found.problems);
        let pids: BTreeSet<u32> = held.holders.iter().map(|holder| holder.pid).collect();
        let anchor = host::clock_anchor();
        let mut facts = Facts::default();
        for pid in pids {
            // A process that began after the look at the descriptors has only inherited the pid.
            let old = |process: &ProcessFacts| {
                process.id.start_ns.is_some_and(|start| anchor.monotonic_of_boottime(start) <= begin)
            };
            facts.processes.extend(processes::facts(pid, &mut self.containers).filter(old));
        }
        let cgroups: BTreeSet<u64> = found.rows.iter().filter_map(|row| row.cgroup_id).collect();
        for id in cgroups {
            if let Some((path, container)) = self.containers.of_cgroup_id(id) {
                facts.cgroups.push((id, path, container));
            }
        }
        (held, facts)
    }

    fn find_holders(&self, wanted: &FxHashSet<u32>, problems: &mut Vec<String>) -> Held {
        if wanted.is_empty() {
            return Held { holders: Vec::new(), complete: true };
        }
        if let Some(holders) = &self.holders {
            match holders.read() {
                Ok(mut all) => {
                    all.retain(|holder| wanted.contains(&holder.inode));
                    return Held { holders: all, complete: self.everyone };
                }
                Err(error) => log::info!("looking at /proc for holders instead: {error:#}"),
            }
        }
        let (holders, found) = holders::scan(Some(wanted));
        let complete = self.everyone && found.is_empty();
        problems.extend(found);
        Held { holders, complete }
    }
}

/// What a survey comes to, in pieces: a recording is read block by block, and a host can have a million sockets.
#[derive(Default)]
struct Batches(Vec<Batch>);

impl Batches {
    /// Where the next record goes.
    fn next(&mut self) -> &mut Batch {
        if self.0.last().is_none_or(|last| last.as_bytes().len() >= BATCH_BYTES) {
            self.0.push(Batch::default());
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }
}

fn push_json(batch: &mut Batch, kind: u16, value: &impl serde::Serialize) {
    // Numbers and texts always serialise.
    if let Ok(bytes) = serde_json::to_vec(value) {
        batch.push(kind, &bytes);
    }
}

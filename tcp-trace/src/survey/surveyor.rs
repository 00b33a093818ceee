//! One survey: looks at the namespaces, the kernel programs' map of requests, and the holders, and says what it found
//! as records.

use std::{collections::BTreeSet, fs::File, os::fd::AsRawFd as _, path::Path, thread};

use rustc_hash::FxHashSet;
use tcp_trace_core::{
    record::kind,
    survey::{
        Facts, Holder, ProcessFacts, RequestRow, SurveyBegin, SurveyEnd, encode_holders, encode_requests,
    },
    time::{ClockAnchor, Timestamp},
};

use super::{
    cmdline,
    containers::Containers,
    found::{BATCH_BYTES, Found, Outlet},
    holders,
    namespaces::{self, Namespaces},
    netstat, proc, processes,
    scope::Scope,
};
use crate::{bpf, host, source::Batch};

/// Rows of one record.
const ROWS: usize = 4096;
/// Processes of one record: some hundred bytes each, at most 8 KiB.
const PROCESSES: usize = 256;
/// Problems told of per survey.
const PROBLEMS: usize = 16;

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
    /// The clocks when it began.
    clocks: ClockAnchor,
    containers: Containers,
    /// Requests of the map that were not listed by the last survey.
    unlisted: FxHashSet<u64>,
    /// Found for the next survey.
    ready: Option<Namespaces>,
}

/// Who holds the sockets.
struct Held {
    holders: Vec<Holder>,
    /// Every process could be looked at.
    complete: bool,
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
            clocks: host::clock_anchor(),
            containers,
            unlisted: FxHashSet::default(),
            ready: None,
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

    /// Finds out where there is something to look at, for the next look.
    pub fn prepare(&mut self) {
        self.ready = Some(self.namespaces());
    }

    /// Looks, and delivers what it finds. Whether this is the last survey is asked for before it looks at what a report
    /// needs, and returned; `None` if nobody wants it any more.
    pub(crate) fn look(
        &mut self,
        scope: Scope,
        begin: Timestamp,
        mut is_last: impl FnMut() -> bool,
        outlet: &dyn Outlet,
    ) -> Option<bool> {
        let before = self.pending();
        let mut last = false;
        let mut found = Found::new(Some(outlet), &before);
        // Unless nothing is half-open, and nothing else is asked for.
        let idle = scope == Scope::Requests && before.is_empty() && self.requests.is_some();
        let namespaces = self.ready.take();
        let early = if idle {
            last = is_last();
            None
        } else {
            self.visit(scope, namespaces, &mut found, || last = is_last())
        };
        let mut dead = self.dead(&before, &found.listed, begin);
        if last && !self.unlisted.is_empty() {
            // There is no later survey to confirm by that a request is gone.
            let mut again = Found::new(None, &before);
            self.visit(Scope::Requests, None, &mut again, || {});
            dead.extend(self.dead(&before, &again.listed, begin));
        }
        let time = host::monotonic();
        // It takes two grace periods; owners are looked for meanwhile.
        let mut wanted = outlet.settle();
        let held = (scope > Scope::Requests).then(|| self.hold(&mut found, early));
        let facts = held.as_ref().map(|held| self.facts(held, &found, begin)).unwrap_or_default();
        let mut problems = if held.is_some() { self.own_problems() } else { Vec::new() };
        found.problems.retain(|problem| !problems.contains(problem));
        problems.append(&mut found.problems);
        problems.truncate(PROBLEMS);
        let end = SurveyEnd {
            time,
            states: if idle { Vec::new() } else { scope.states().numbers() },
            namespaces: found.complete,
            holders: held.is_some(),
            holders_complete: held.as_ref().is_some_and(|held| held.complete),
            problems,
        };
        let Found { namespaces, listeners, .. } = found;
        for batch in concluding(&dead, Facts { namespaces, listeners, ..facts }, &end) {
            wanted = wanted && outlet.deliver(batch);
        }
        wanted.then_some(last)
    }

    /// What is wrong with this host, whatever is looked at.
    fn own_problems(&self) -> Vec<String> {
        let mut problems = host::clock_news(&self.clocks, &host::clock_anchor());
        // Whoever holds a socket is known from the kernel all the same, where that tells; not who that is.
        problems.extend(proc::hides_others().then(|| proc::HIDDEN.to_owned()));
        problems.extend(cmdline::problems());
        problems
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
    fn dead(&mut self, before: &[RequestRow], listed: &FxHashSet<u64>, begin: Timestamp) -> Vec<RequestRow> {
        let Some(requests) = &self.requests else { return Vec::new() };
        if before.is_empty() {
            return Vec::new();
        }
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

    /// The sockets of every namespace. `halfway` is before what a report needs. Returns who held any sockets meanwhile,
    /// where that is known.
    fn visit(
        &mut self,
        scope: Scope,
        namespaces: Option<Namespaces>,
        found: &mut Found<'_>,
        halfway: impl FnOnce(),
    ) -> Option<Vec<Holder>> {
        let Namespaces { all, problems } = namespaces.unwrap_or_else(|| self.namespaces());
        found.problems.extend(problems);
        let holders = self.holders.as_ref().filter(|_| scope == Scope::All);
        // The two take about as long where every socket is asked for, and need not wait for each other.
        let early = thread::scope(|threads| {
            let early = holders.and_then(|holders| {
                let read = || holders.read(|_| true);
                thread::Builder::new().name("holders".to_owned()).spawn_scoped(threads, read).ok()
            });
            if scope == Scope::All {
                found.dump(scope, true, &all);
            }
            halfway();
            found.dump(scope, false, &all);
            early.and_then(|early| early.join().ok()).and_then(Result::ok)
        });
        found.flush();
        early
    }

    /// Looks for the holders of the sockets that were found, and delivers them.
    fn hold(&self, found: &mut Found<'_>, early: Option<Vec<Holder>>) -> Held {
        found.inodes.sort_unstable();
        found.inodes.dedup();
        let held = self.find_holders(&found.inodes, early, &mut found.problems);
        for holders in held.holders.chunks(ROWS) {
            found.push(kind::HOLDERS, &encode_holders(holders));
        }
        found.flush();
        held
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

    /// Who the holders are, and what the cgroups.
    fn facts(&mut self, held: &Held, found: &Found<'_>, begin: Timestamp) -> Facts {
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
        for id in &found.cgroups {
            if let Some((path, container)) = self.containers.of_cgroup_id(*id) {
                facts.cgroups.push((*id, path, container));
            }
        }
        facts
    }

    /// The holders of the sockets with these numbers. `early`: all that there were while the sockets were listed.
    fn find_holders(&self, wanted: &[u32], early: Option<Vec<Holder>>, problems: &mut Vec<String>) -> Held {
        if wanted.is_empty() {
            return Held { holders: Vec::new(), complete: true };
        }
        if let Some(mut all) = early {
            all.retain(|holder| wanted.binary_search(&holder.inode).is_ok());
            // One that got its file, or another holder, between the two looks has to be looked for again before it is
            // said that nobody holds it.
            let has_holder = |inode: &u32| all.binary_search_by_key(inode, |holder| holder.inode).is_ok();
            if wanted.iter().all(has_holder) {
                return Held { holders: all, complete: self.everyone };
            }
        }
        if let Some(holders) = &self.holders {
            match holders.read(|holder| wanted.binary_search(&holder.inode).is_ok()) {
                Ok(all) => return Held { holders: all, complete: self.everyone },
                Err(error) => log::info!("looking at /proc for holders instead: {error:#}"),
            }
        }
        let wanted: FxHashSet<u32> = wanted.iter().copied().collect();
        let (holders, found) = holders::scan(Some(&wanted));
        let complete = self.everyone && found.is_empty();
        problems.extend(found);
        Held { holders, complete }
    }
}

/// The records that conclude a survey.
fn concluding(dead: &[RequestRow], facts: Facts, end: &SurveyEnd) -> Vec<Batch> {
    let mut batches = Batches::default();
    for requests in dead.chunks(ROWS) {
        batches.next().push(kind::REQUESTS, &encode_requests(requests));
    }
    for processes in facts.processes.chunks(PROCESSES) {
        let facts = Facts { processes: processes.to_vec(), ..Facts::default() };
        push_json(batches.next(), kind::FACTS, &facts);
    }
    let facts = Facts { processes: Vec::new(), ..facts };
    if facts != Facts::default() {
        push_json(batches.next(), kind::FACTS, &facts);
    }
    push_json(batches.next(), kind::SURVEY_END, end);
    batches.0
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

//! `tcp-trace snapshot`: looks at the host once, and prints what is there.

use std::{
    io::{self, BufWriter},
    path::Path,
};

use anyhow::Context as _;
use rustc_hash::{FxHashMap, FxHashSet};
use tcp_trace_core::{
    doctor::{Feature, names},
    session::Degradation,
    snapshot::{Gathered, Selection, snapshot},
    state::TcpState,
    survey::{ContainerFacts, Facts, Holder, NamespaceFacts, ProcessFacts, SocketRow},
};

use crate::{
    cli::{
        args::{FilterArgs, SnapshotArgs},
        settings,
    },
    confine::{self, Duty},
    exit::{Exit, Output, Unsupported, Usage},
    host, sink,
    survey::{
        containers::Containers,
        holders,
        namespaces::{self, Namespace, Namespaces},
        netstat, processes,
        sock_diag::{Dump, States, dump},
    },
};

/// Problems of one kind that are told: more say the same.
const MAX_PROBLEMS: usize = 8;

/// Runs the command.
///
/// # Errors
///
/// [`Unsupported`] if not a single network namespace can be looked at; [`Usage`] if a filter names what is not there.
pub fn run(args: &SnapshotArgs) -> anyhow::Result<Exit> {
    confine::assume_alone(&Duty::Survey);
    let mut containers = Containers::new();
    let container = args.filter.container.as_deref().map(|text| containers.resolve(text)).transpose();
    let selection = Selection {
        // A container is known by its processes here, and not only by the cgroups of its sockets.
        filter: settings::filter_spec(&FilterArgs { container: None, ..args.filter.clone() })?,
        states: wanted(&args.states),
        container: container
            .map_err(|error| Usage(format!("--container: {error}")))?
            .map(|found| found.facts.id),
        sockets: args.sockets,
    };
    let file = args.filter.netns.as_deref().filter(|text| text.contains('/')).map(Path::new);
    let found = match (selection.filter.netns, file) {
        (Some(inum), Some(file)) => namespaces::find_at(inum, file),
        (only, _) => namespaces::find(only),
    };
    let gathered = gather(&selection, found, containers)?;
    let document = snapshot(&gathered, &selection);
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    sink::snapshot(&mut out, &document, args.json).map_err(Output::from).context("writing the snapshot")?;
    Ok(Exit::Done)
}

/// Whoever says SYN_RECV means half-open, which to the kernel is another state.
fn wanted(states: &[TcpState]) -> Vec<TcpState> {
    let requests = states.contains(&TcpState::SynReceived).then_some(TcpState::NewSynReceived);
    states.iter().copied().chain(requests).collect()
}

/// The states that have to be listed: listeners too, as they have their half-opens and those that nobody accepted to
/// answer for.
fn listed(selection: &Selection) -> States {
    if selection.states.is_empty() {
        return States::ALL;
    }
    let states: Vec<_> = selection.states.iter().copied().chain([TcpState::Listen]).collect();
    States::of(&states)
}

/// The sockets of some namespaces.
#[derive(Default)]
struct Visit {
    rows: Vec<SocketRow>,
    facts: Vec<NamespaceFacts>,
    problems: Vec<String>,
}

impl Visit {
    fn to(namespaces: &[Namespace], states: States) -> io::Result<Self> {
        let mut visit = Self::default();
        let problems = namespaces::for_each(namespaces, |namespace| {
            let request = Dump { states, info: true, netns: namespace.inum };
            match dump(&request, &mut visit.rows) {
                Ok(complete) => {
                    visit.facts.push(netstat::facts(namespace));
                    if !complete {
                        let what = format!(
                            "the list of sockets in network namespace {} is not whole",
                            namespace.inum
                        );
                        visit.problems.push(what);
                    }
                }
                Err(error) => visit.problems.push(format!("network namespace {}: {error}", namespace.inum)),
            }
        })?;
        visit.problems.extend(problems);
        Ok(visit)
    }
}

fn gather(selection: &Selection, found: Namespaces, mut containers: Containers) -> anyhow::Result<Gathered> {
    let states = listed(selection);
    let (anchor, time) = (host::clock_anchor(), host::monotonic());
    let mut visit = Visit::to(&found.all, states)?;
    if visit.facts.is_empty() {
        let mut reasons = found.problems;
        reasons.append(&mut visit.problems);
        let one = selection.filter.netns.map(|inum| format!("network namespace {inum} is not to be found"));
        reasons.extend(one.filter(|_| found.all.is_empty()));
        return Err(Unsupported(format!("no socket can be listed: {}", reasons.join("; "))).into());
    }
    let looked = host::clock_anchor().boottime_ns;
    let (holders, mut problems) = look_for_holders(&mut visit.rows, &found.all, states)?;
    if !host::sees_all_processes() {
        problems
            .push("only the processes of this pid namespace can be seen; run it in the host's".to_owned());
    }
    let facts = Facts {
        processes: facts_of(&holders, &found.all, looked, &mut containers),
        cgroups: cgroups(&visit.rows, &mut containers),
        namespaces: std::mem::take(&mut visit.facts),
        ..Facts::default()
    };
    let holders_complete = problems.is_empty();
    // Who may already has no remedy: something else is in the way.
    let (may_enter, may_read) = (host::may_enter_namespaces(), host::may_read_descriptors());
    let remedy = |may: bool, feature: Feature| {
        (!may).then(|| format!("run it as root, or with {}", names(feature.capabilities())))
    };
    let read = remedy(may_read, Feature::Holders);
    let degradations = degraded("namespaces", found.problems, read.as_deref())
        .chain(degraded("sockets", visit.problems, remedy(may_enter, Feature::Namespaces).as_deref()))
        .chain(degraded("owners", problems, read.as_deref()))
        .collect();
    Ok(Gathered {
        host: host::host(),
        anchor,
        time,
        sockets: visit.rows,
        holders,
        holders_complete,
        has_requests: states.contains(TcpState::NewSynReceived),
        facts,
        degradations,
    })
}

/// Who holds the sockets. One that has a file and no holder may have been closed, or handed on, between the two looks:
/// it is looked at again before anything is said about it.
fn look_for_holders(
    rows: &mut Vec<SocketRow>,
    namespaces: &[Namespace],
    states: States,
) -> io::Result<(Vec<Holder>, Vec<String>)> {
    let wanted: FxHashSet<u32> = rows.iter().filter_map(|row| row.inode).collect();
    let (mut found, problems) = holders::scan(Some(&wanted));
    let held: FxHashSet<u32> = found.iter().map(|holder| holder.inode).collect();
    let is_lost = |row: &SocketRow| row.inode.is_some_and(|inode| !held.contains(&inode));
    let places: FxHashSet<u32> = rows.iter().filter(|row| is_lost(row)).map(|row| row.netns).collect();
    // Who may not look will not see more the second time.
    if places.is_empty() || !host::may_read_descriptors() {
        return Ok((found, problems));
    }
    let again: Vec<_> = namespaces.iter().filter(|one| places.contains(&one.inum)).cloned().collect();
    let again = Visit::to(&again, states)?;
    let now: FxHashMap<u64, SocketRow> = again.rows.into_iter().map(|row| (row.cookie.get(), row)).collect();
    rows.retain_mut(|row| {
        if !is_lost(row) {
            return true;
        }
        let newer = now.get(&row.cookie.get()).cloned();
        let is_there = newer.is_some();
        newer.into_iter().for_each(|newer| *row = newer);
        is_there
    });
    let wanted: FxHashSet<u32> = rows.iter().filter(|row| is_lost(row)).filter_map(|row| row.inode).collect();
    if !wanted.is_empty() {
        found.extend(holders::scan(Some(&wanted)).0);
    }
    Ok((found, problems))
}

/// The holders, and one process of each namespace. One that was started after the look at the descriptors began may have
/// the pid of a holder that has ended since, and nothing is said of it.
fn facts_of(
    holders: &[Holder],
    namespaces: &[Namespace],
    looked_ns: u64,
    containers: &mut Containers,
) -> Vec<ProcessFacts> {
    let inhabitants = namespaces.iter().filter_map(|namespace| namespace.pid);
    let mut pids: Vec<u32> = holders.iter().map(|holder| holder.pid).chain(inhabitants).collect();
    pids.sort_unstable();
    pids.dedup();
    let is_of_then = |facts: &ProcessFacts| facts.id.start_ns.is_some_and(|start| start <= looked_ns);
    pids.into_iter().filter_map(|pid| processes::facts(pid, containers)).filter(is_of_then).collect()
}

/// The cgroups that sockets were made in, each once.
fn cgroups(rows: &[SocketRow], containers: &mut Containers) -> Vec<(u64, String, Option<ContainerFacts>)> {
    let ids: FxHashSet<u64> = rows.iter().filter_map(|row| row.cgroup_id).collect();
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    let cgroup = |id| containers.of_cgroup_id(id).map(|(path, container)| (id, path, container));
    ids.into_iter().filter_map(cgroup).collect()
}

fn degraded<'a>(
    feature: &'a str,
    problems: Vec<String>,
    remedy: Option<&'a str>,
) -> impl Iterator<Item = Degradation> + 'a {
    problems.into_iter().take(MAX_PROBLEMS).map(move |reason| Degradation {
        feature: feature.to_owned(),
        reason,
        remedy: remedy.map(str::to_owned),
    })
}

//! The look: which sockets of the process are in CLOSE_WAIT, who else holds them, and what speaks against destroying them.

use rustc_hash::{FxHashMap, FxHashSet};
use tcp_trace_core::{
    kill::{Entry, Named, Verdict, Wish, judge},
    process::ProcessId,
    snapshot::SocketHolder,
    state::TcpState,
    survey::{CloseWaitKind, Holder, SocketRow},
};

use crate::{
    bpf,
    exit::{Unsupported, Usage},
    host,
    survey::{
        holders,
        namespaces::{self, Namespace},
        processes,
        sock_diag::{Dump, States, dump_each, message::Handle},
    },
};

/// A socket of the process.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What is known of it, for the record.
    pub entry: Entry,
    /// What speaks against destroying it.
    pub refusal: Option<String>,
    pub(super) inode: u32,
    pub(super) handle: Handle,
}

impl Candidate {
    /// Whether nothing speaks against it.
    #[must_use]
    pub fn is_to_be_destroyed(&self) -> bool {
        self.refusal.is_none()
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The process, for good.
    pub process: ProcessId,
    /// Its sockets that are meant.
    pub candidates: Vec<Candidate>,
    /// What could not be looked at, and what else should be known.
    pub problems: Vec<String>,
    pub(super) namespaces: Vec<Namespace>,
}

/// Looks.
///
/// # Errors
///
/// [`Usage`] if there is no such process; [`Unsupported`] if no socket can be listed.
pub fn look(pid: u32, wish: &Wish, netns: Option<u32>) -> anyhow::Result<Look> {
    let process =
        processes::id(pid).ok_or_else(|| Usage(format!("--pid {pid}: there is no such process")))?;
    let named = Named {
        pid,
        comm: processes::comm(pid).unwrap_or_default(),
        start_time: process.start_ns.map(|start| host::clock_anchor().wall_of_boottime(start)),
    };
    let found = namespaces::find(netns);
    let mut problems = found.problems;
    let (sockets, listed) = sockets(&found.all, &mut problems)?;
    if listed == 0 {
        return Err(Unsupported(format!("no socket can be listed: {}", problems.join("; "))).into());
    }
    let wanted: FxHashSet<u32> = sockets.iter().filter_map(|(row, _)| row.inode).collect();
    let (holders, hidden) = holders_of(&wanted);
    let complete = hidden.as_deref().map_or(Ok(()), Err);
    let mut by_inode: FxHashMap<u32, Vec<Holder>> = FxHashMap::default();
    for holder in holders {
        by_inode.entry(holder.inode).or_default().push(holder);
    }
    let held =
        |row: &SocketRow| row.inode.and_then(|inode| by_inode.get(&inode)).map_or(&[][..], Vec::as_slice);
    let is_his = |row: &SocketRow| held(row).iter().any(|holder| holder.pid == pid);
    let candidates: Vec<_> = sockets
        .iter()
        .filter(|(row, _)| is_his(row))
        .filter_map(|(row, handle)| {
            let refusal = match judge(wish, row, pid, held(row), complete) {
                Verdict::Pass => return None,
                Verdict::Destroy => None,
                Verdict::Refuse(reason) => Some(reason),
            };
            let entry = Entry::new(named.clone(), row, fds_of(pid, held(row)), others(pid, held(row)));
            Some(Candidate { entry, refusal, inode: row.inode?, handle: *handle })
        })
        .collect();
    problems.extend(never_accepted(&sockets, is_his));
    Ok(Look { process, candidates, problems, namespaces: found.all })
}

/// Sockets in CLOSE_WAIT, and listeners; and in how many namespaces they could be listed.
fn sockets(
    namespaces: &[Namespace],
    problems: &mut Vec<String>,
) -> anyhow::Result<(Vec<(SocketRow, Handle)>, usize)> {
    let (mut sockets, mut listed, mut failed) = (Vec::new(), 0, Vec::new());
    let states = States::of(&[TcpState::CloseWait, TcpState::Listen]);
    let refused = namespaces::for_each(namespaces, |namespace| {
        let request = Dump { states, info: true, netns: namespace.inum };
        match dump_each(&request, |row, handle| sockets.push((row, handle))) {
            Ok(_complete) => listed += 1,
            Err(error) => failed.push(format!("network namespace {}: {error}", namespace.inum)),
        }
    })?;
    problems.extend(refused);
    problems.extend(failed);
    Ok((sockets, listed))
}

/// Who holds these, and why there may be others. The kernel's own list of descriptors is whole; that of `/proc` has
/// processes in it that may not be read.
fn holders_of(wanted: &FxHashSet<u32>) -> (Vec<Holder>, Option<String>) {
    if !host::sees_all_processes() {
        let hidden = "this is a pid namespace of its own, and processes outside of it cannot be seen";
        return (holders::scan(Some(wanted)).0, Some(hidden.to_owned()));
    }
    match bpf::Holders::open().and_then(|holders| holders.read(|holder| wanted.contains(&holder.inode))) {
        Ok(holders) => (holders, None),
        Err(error) => {
            log::info!("the kernel does not list descriptors: {error:#}");
            let (holders, problems) = holders::scan(Some(wanted));
            (holders, (!problems.is_empty()).then(|| problems.join("; ")))
        }
    }
}

fn fds_of(pid: u32, holders: &[Holder]) -> Vec<u32> {
    holders.iter().filter(|holder| holder.pid == pid).map(|holder| holder.fd).collect()
}

fn others(pid: u32, holders: &[Holder]) -> Vec<SocketHolder> {
    let mut pids: Vec<u32> = holders.iter().map(|holder| holder.pid).filter(|other| *other != pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let other = |pid| SocketHolder { pid, comm: processes::comm(pid), fds: fds_of(pid, holders) };
    pids.into_iter().map(other).collect()
}

/// What waits at listeners of the process for `accept()`: it has no descriptor, and nobody who could be told.
fn never_accepted(sockets: &[(SocketRow, Handle)], is_his: impl Fn(&SocketRow) -> bool) -> Option<String> {
    let is_listener = |row: &&SocketRow| row.state == TcpState::Listen && is_his(row);
    let ports: FxHashSet<(u32, u16)> = sockets
        .iter()
        .map(|(row, _)| row)
        .filter(is_listener)
        .map(|row| (row.netns, row.local.port))
        .collect();
    let waits = |row: &SocketRow| {
        CloseWaitKind::of(row) == Some(CloseWaitKind::NeverAccepted)
            && ports.contains(&(row.netns, row.local.port))
    };
    let count = sockets.iter().filter(|(row, _)| waits(row)).count();
    (count > 0).then(|| {
        format!("{count} more in CLOSE_WAIT wait to be accepted from a listener of this process: they have no owner, and are left alone")
    })
}

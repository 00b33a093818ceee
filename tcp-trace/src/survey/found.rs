//! What a survey finds in the namespaces: rows, which go on at once, and what is noted of them.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;
use tcp_trace_core::{
    record::kind,
    survey::{ListenerFacts, NamespaceFacts, RequestRow, SocketRow, encode_sockets},
};

use super::{
    namespaces::{self, Namespace},
    netstat,
    scope::Scope,
    sock_diag::{self, Dump},
};
use crate::{host, source::Batch};

/// A batch is full when it is this long. So many bytes of rows there are at a time, with those that wait, however many
/// sockets the host has.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Where records go as they are found. Both return `false` if nobody wants them any more.
pub(crate) trait Outlet: Sync {
    /// A batch, behind those before it.
    fn deliver(&self, batch: Batch) -> bool;
    /// What is delivered from now on is to stand behind every transition up to now.
    fn settle(&self) -> bool;
}

/// What was found in the namespaces, but for the rows, which have gone on already.
pub(super) struct Found<'a> {
    outlet: Option<&'a dyn Outlet>,
    batch: Batch,
    /// Of sockets that have a file, sorted, each once.
    pub(super) inodes: Vec<u32>,
    pub(super) cgroups: BTreeSet<u64>,
    /// Requests that are looked for, and those of them that were found.
    pending: FxHashSet<u64>,
    pub(super) listed: FxHashSet<u64>,
    pub(super) namespaces: Vec<NamespaceFacts>,
    pub(super) listeners: Vec<ListenerFacts>,
    /// Those that were listed whole.
    pub(super) complete: Vec<u32>,
    /// Those that were not.
    incomplete: Vec<u32>,
    pub(super) problems: Vec<String>,
}

impl<'a> Found<'a> {
    pub(super) fn new(outlet: Option<&'a dyn Outlet>, pending: &[RequestRow]) -> Self {
        Self {
            outlet,
            batch: Batch::default(),
            inodes: Vec::new(),
            cgroups: BTreeSet::new(),
            pending: pending.iter().map(|row| row.cookie.get()).collect(),
            listed: FxHashSet::default(),
            namespaces: Vec::new(),
            listeners: Vec::new(),
            complete: Vec::new(),
            incomplete: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The sockets of these namespaces: those that are asked for first, or what is asked for then. Nothing more is asked
    /// of a namespace after that.
    pub(super) fn dump(&mut self, scope: Scope, first: bool, namespaces: &[Namespace]) {
        let visited = namespaces::for_each(namespaces, |namespace| {
            let asked = if first { scope.first() } else { Some(scope.then()) };
            let Some(what) = asked else { return };
            let request = Dump { netns: namespace.inum, ..what };
            match sock_diag::for_each(&request, |rows| self.rows(rows)) {
                Ok(true) => {}
                Ok(false) => self.incomplete.push(namespace.inum),
                Err(error) => {
                    self.incomplete.push(namespace.inum);
                    self.problems.push(format!("namespace {}: {error}", namespace.inum));
                }
            }
            if !first {
                self.note(scope, namespace);
            }
        });
        let problems = visited.unwrap_or_else(|error| vec![error.to_string()]);
        // Each visit has the same.
        let new: Vec<_> = problems.into_iter().filter(|problem| !self.problems.contains(problem)).collect();
        self.problems.extend(new);
    }

    /// Notes a namespace that was visited.
    fn note(&mut self, scope: Scope, namespace: &Namespace) {
        if !self.incomplete.contains(&namespace.inum) {
            self.complete.push(namespace.inum);
        }
        if scope > Scope::Requests {
            // Where they cannot be read they are not known.
            self.listeners.extend(sock_diag::drops().unwrap_or_default());
        }
        self.namespaces.push(netstat::facts(namespace));
    }

    /// Notes what is needed of these rows, and sends them on.
    fn rows(&mut self, rows: &[SocketRow]) {
        if rows.is_empty() {
            return;
        }
        let mut cgroup = None;
        for row in rows {
            self.inodes.extend(row.inode);
            // Neighbours are of the same one as a rule.
            if row.cgroup_id != cgroup {
                cgroup = row.cgroup_id;
                self.cgroups.extend(cgroup);
            }
            let cookie = row.cookie.get();
            if self.pending.contains(&cookie) {
                self.listed.insert(cookie);
            }
        }
        if self.outlet.is_some() {
            self.push(kind::SOCKETS, &encode_sockets(host::monotonic(), rows));
        }
    }

    pub(super) fn push(&mut self, kind: u16, payload: &[u8]) {
        self.batch.push(kind, payload);
        if self.batch.as_bytes().len() >= BATCH_BYTES {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if let Some(outlet) = self.outlet.filter(|_| !batch.is_empty())
            && !outlet.deliver(batch)
        {
            // Whoever wanted it is gone.
            self.outlet = None;
        }
    }
}

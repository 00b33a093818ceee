//! `tcp-trace kill`: which sockets of a process may be destroyed, and the record of what was done to each.

use std::net::IpAddr;

use serde::Serialize;

use crate::{
    endpoint::Endpoint,
    snapshot::SocketHolder,
    state::TcpState,
    survey::{CloseWaitKind, Holder, SocketRow, age},
    time::WallTime,
};

/// The value of `schema`.
pub const SCHEMA: &str = "tcp-trace.kill/1";

/// Which sockets are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Those that have been in CLOSE_WAIT for longer than this.
    pub older_than_ns: Option<u64>,
    /// Those of this peer.
    pub peer: Option<(IpAddr, Option<u16>)>,
    /// Those with one of these local ports, if any is given.
    pub local_ports: Vec<u16>,
    /// Also those that other processes hold, or may hold.
    pub shared: bool,
}

/// What is to be done with a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not meant.
    Pass,
    /// It is, and nothing speaks against it.
    Destroy,
    /// It is, and this speaks against it.
    Refuse(String),
}

/// Judges a socket that the process holds; `holders` are all that are known of, and `complete` whether there can be no
/// others.
#[must_use]
pub fn judge(
    wish: &Wish,
    row: &SocketRow,
    pid: u32,
    holders: &[Holder],
    complete: Result<(), &str>,
) -> Verdict {
    if row.state != TcpState::CloseWait || !is_meant(wish, row) {
        return Verdict::Pass;
    }
    if let Some(wanted) = wish.older_than_ns {
        match age(row) {
            Some(age) if age.ns >= wanted => {}
            Some(age) if age.exact => return Verdict::Pass,
            _ => {
                return Verdict::Refuse(
                    "it is not known to be that old: its age is a lower bound only".into(),
                );
            }
        }
    }
    let mut others: Vec<u32> =
        holders.iter().map(|holder| holder.pid).filter(|other| *other != pid).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() && !wish.shared {
        let pids: Vec<_> = others.iter().map(u32::to_string).collect();
        return Verdict::Refuse(format!(
            "shared with process {}; --shared destroys it for all",
            pids.join(", ")
        ));
    }
    match complete {
        Err(problem) if !wish.shared => {
            Verdict::Refuse(format!("others may hold it: {problem}; --shared destroys it all the same"))
        }
        _ => Verdict::Destroy,
    }
}

fn is_meant(wish: &Wish, row: &SocketRow) -> bool {
    let of_peer = wish.peer.is_none_or(|(address, port)| {
        row.peer.address == address && port.is_none_or(|port| row.peer.port == port)
    });
    of_peer && (wish.local_ports.is_empty() || wish.local_ports.contains(&row.local.port))
}

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: a dry run. It would be destroyed.
    WouldDestroy,
    /// It was destroyed.
    Destroyed,
    /// Nothing, for a reason.
    Refused,
    /// It was gone before it could be destroyed.
    Gone,
    /// The kernel did not destroy it.
    Failed,
}

impl Action {
    /// The word for people.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::WouldDestroy => "would destroy",
            Self::Destroyed => "destroyed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

/// The process that was named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// When it was started.
    pub start_time: Option<WallTime>,
}

/// The record of one socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// When it was done.
    pub time: WallTime,
    /// What was done.
    pub action: Action,
    /// Why not; `None` where it was, or would be.
    pub reason: Option<String>,
    /// The process.
    pub process: Named,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// The kernel's socket cookie.
    pub cookie: u64,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// How long it has been in CLOSE_WAIT.
    pub age_ns: Option<u64>,
    /// Whether it is that long exactly, or longer.
    pub age_exact: Option<bool>,
    /// The process's descriptors of it.
    pub fds: Vec<u32>,
    /// Bytes that wait to be read; they can still be when it is destroyed.
    pub unread_bytes: u32,
    /// Whose fault.
    pub kind: Option<CloseWaitKind>,
    /// Who else holds it.
    pub others: Vec<SocketHolder>,
}

impl Entry {
    /// Of a socket to which nothing was done yet.
    #[must_use]
    pub fn new(process: Named, row: &SocketRow, fds: Vec<u32>, others: Vec<SocketHolder>) -> Self {
        let age = age(row);
        Self {
            schema: SCHEMA,
            time: WallTime(0),
            action: Action::WouldDestroy,
            reason: None,
            process,
            netns: row.netns,
            cookie: row.cookie.get(),
            local: row.local,
            peer: row.peer,
            age_ns: age.map(|age| age.ns),
            age_exact: age.map(|age| age.exact),
            fds,
            // The FIN counts as one until it is read.
            unread_bytes: row.receive_queue.saturating_sub(1),
            kind: CloseWaitKind::of(row),
            others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::{TcpInfo, sample};

    const PID: u32 = 7;

    fn row() -> SocketRow {
        // The last ACK and the last data came at once: the age is exact.
        let info = TcpInfo { last_data_received_ms: 5_000, last_ack_received_ms: 5_000, ..sample::INFO };
        SocketRow { info: Some(info), receive_queue: 1, ..sample::row(TcpState::CloseWait) }
    }

    fn holders(pids: &[u32]) -> Vec<Holder> {
        pids.iter().map(|pid| Holder { inode: 1, pid: *pid, fd: 3 }).collect()
    }

    fn judged(wish: &Wish, row: &SocketRow, pids: &[u32]) -> Verdict {
        judge(wish, row, PID, &holders(pids), Ok(()))
    }

    #[test]
    fn only_close_wait_is_destroyed() {
        assert_eq!(judged(&Wish::default(), &row(), &[PID, PID]), Verdict::Destroy);
        for state in (0..=255).map(TcpState::from_number).filter(|state| *state != TcpState::CloseWait) {
            assert_eq!(judged(&Wish::default(), &SocketRow { state, ..row() }, &[PID]), Verdict::Pass);
        }
    }

    #[test]
    fn what_others_hold_or_may_hold_is_refused_unless_told() {
        let Verdict::Refuse(reason) = judged(&Wish::default(), &row(), &[PID, 9, 8, 9]) else {
            panic!("not refused")
        };
        assert_eq!(reason, "shared with process 8, 9; --shared destroys it for all");
        let unseen = |wish| judge(&wish, &row(), PID, &holders(&[PID]), Err("one cannot be read"));
        let Verdict::Refuse(reason) = unseen(Wish::default()) else { panic!("not refused") };
        assert!(reason.contains("one cannot be read"));
        let shared = Wish { shared: true, ..Wish::default() };
        assert_eq!(judged(&shared, &row(), &[PID, 8]), Verdict::Destroy);
        assert_eq!(unseen(shared), Verdict::Destroy);
    }

    #[test]
    fn an_age_must_be_known_to_be_reached() {
        let older = |ms: u64| Wish { older_than_ns: Some(ms * 1_000_000), ..Wish::default() };
        assert_eq!(judged(&older(5_000), &row(), &[PID]), Verdict::Destroy);
        assert_eq!(judged(&older(5_001), &row(), &[PID]), Verdict::Pass);
        let info = row().info.map(|info| TcpInfo { last_ack_received_ms: 1_000, ..info });
        let vague = SocketRow { info, ..row() };
        assert!(matches!(judged(&older(5_000), &vague, &[PID]), Verdict::Refuse(_)));
        assert_eq!(judged(&older(900), &vague, &[PID]), Verdict::Destroy);
        assert!(matches!(judged(&older(1), &SocketRow { info: None, ..row() }, &[PID]), Verdict::Refuse(_)));
    }

    #[test]
    fn others_are_not_meant() {
        let of = |peer: &str, port| Wish { peer: Some((peer.parse().unwrap(), port)), ..Wish::default() };
        assert_eq!(judged(&of("198.18.7.1", None), &row(), &[PID]), Verdict::Destroy);
        assert_eq!(judged(&of("198.18.7.1", Some(4000)), &row(), &[PID]), Verdict::Destroy);
        assert_eq!(judged(&of("198.18.7.1", Some(1)), &row(), &[PID]), Verdict::Pass);
        assert_eq!(judged(&of("198.18.7.2", None), &row(), &[PID]), Verdict::Pass);
        let ports = |ports: &[u16]| Wish { local_ports: ports.to_vec(), ..Wish::default() };
        assert_eq!(judged(&ports(&[1, 80]), &row(), &[PID]), Verdict::Destroy);
        assert_eq!(judged(&ports(&[1]), &row(), &[PID]), Verdict::Pass);
    }

    #[test]
    fn the_fin_is_no_data() {
        let named = Named { pid: PID, comm: "x".into(), start_time: None };
        let unread = |receive_queue| {
            Entry::new(named.clone(), &SocketRow { receive_queue, ..row() }, vec![3], vec![]).unread_bytes
        };
        assert_eq!([0, 1, 101].map(unread), [0, 0, 100]);
    }
}

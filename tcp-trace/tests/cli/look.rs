//! Surveys as a test writes them: what a look at the host would have found.

use std::num::NonZeroU64;

use tcp_trace_common::address::{AF_INET, AF_INET6};
use tcp_trace_core::{
    endpoint::Endpoint,
    process::ProcessId,
    record::kind,
    state::TcpState,
    survey::{
        ContainerFacts, Facts, Holder, NamespaceFacts, ProcessFacts, RequestRow, Runtime, SocketCounters,
        SocketRow, SurveyBegin, SurveyEnd, TcpInfo, Timer, encode_holders, encode_requests, encode_sockets,
        scope,
    },
    time::Timestamp,
};

use crate::tape::{MS, NETNS, Process, Tape, parse, start};

/// The states that a whole survey lists.
pub(crate) const ALL: &[u8] = &[1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12];
/// Those that a survey for a report lists.
pub(crate) const REPORT: &[u8] = &[6, 8, 10, 12];
/// The half-open requests.
pub(crate) const REQUESTS: &[u8] = &[12];

/// What a survey finds.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) rows: Vec<SocketRow>,
    pub(crate) holders: Vec<Holder>,
    pub(crate) dead: Vec<RequestRow>,
    pub(crate) facts: Facts,
}

impl Look {
    /// A socket; with a file, `holders` have it open.
    pub(crate) fn socket(&mut self, row: SocketRow, holders: &[(Process, u32)]) {
        let held = row.inode.into_iter().flat_map(|inode| {
            holders.iter().map(move |(process, fd)| Holder { inode, pid: process.pid, fd: *fd })
        });
        self.holders.extend(held);
        self.rows.push(row);
    }

    /// Puts the survey on the tape.
    pub(crate) fn record(self, tape: &mut Tape, states: &[u8]) {
        let Self { rows, holders, dead, facts } = self;
        let scope = match states {
            ALL => scope::ALL,
            REQUESTS => scope::REQUESTS,
            _ => scope::REPORT,
        };
        let begin = SurveyBegin { time: Timestamp(tape.now), scope: scope.into() };
        tape.push(kind::SURVEY_BEGIN, &json(&begin));
        tape.wait(3 * MS);
        tape.push(kind::SOCKETS, &encode_sockets(Timestamp(tape.now), &rows));
        tape.push(kind::HOLDERS, &encode_holders(&holders));
        if !dead.is_empty() {
            tape.push(kind::REQUESTS, &encode_requests(&dead));
        }
        tape.push(kind::FACTS, &json(&facts));
        let end = SurveyEnd {
            time: Timestamp(tape.now),
            states: states.to_vec(),
            namespaces: vec![NETNS],
            holders: states != REQUESTS,
            holders_complete: states != REQUESTS,
            problems: vec!["namespace 4026532177: Permission denied".into()],
        };
        tape.push(kind::SURVEY_END, &json(&end));
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers serialise")
}

fn end(text: &str) -> Endpoint {
    let end = parse(text);
    Endpoint { address: end.ip(), port: end.port() }
}

/// A socket with a file, whose inode number is made from its cookie.
pub(crate) fn row(cookie: u64, state: u8, local: &str, peer: &str) -> SocketRow {
    let local = end(local);
    SocketRow {
        netns: NETNS,
        cookie: NonZeroU64::new(cookie).expect("a cookie"),
        state: TcpState::from_number(state),
        local,
        peer: end(peer),
        family: if local.address.is_ipv4() { AF_INET } else { AF_INET6 },
        inode: u32::try_from(30_000 + cookie).ok(),
        cgroup_id: Some(1),
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer: Timer::Off,
        retransmits: 0,
        expires_ms: 0,
        info: None,
    }
}

/// A listener: connections that wait, and how many may.
pub(crate) fn listener(cookie: u64, local: &str, queue: (u32, u32)) -> SocketRow {
    let peer = if local.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let (receive_queue, send_queue) = queue;
    SocketRow { receive_queue, send_queue, ..row(cookie, 10, local, peer) }
}

/// In CLOSE_WAIT, with so many bytes to be read, the FIN among them; the last ACK came so long ago.
pub(crate) fn close_wait(cookie: u64, local: &str, peer: &str, unread: u32, last_ack_ms: u32) -> SocketRow {
    let info = TcpInfo {
        last_data_sent_ms: last_ack_ms + 40,
        last_data_received_ms: last_ack_ms + 20,
        last_ack_received_ms: last_ack_ms,
        srtt_us: 310,
        total_retrans: 0,
        bytes_acked: 5_120,
        bytes_received: 640,
        segments_in: 9,
        data_segments_in: 2,
        data_segments_out: 4,
    };
    SocketRow { receive_queue: unread, info: Some(info), ..row(cookie, 8, local, peer) }
}

/// A half-open request.
pub(crate) fn request(cookie: u64, local: &str, peer: &str) -> SocketRow {
    SocketRow { inode: None, timer: Timer::Retransmit, ..row(cookie, 12, local, peer) }
}

/// A request that is not listed any more, queued so long ago.
pub(crate) fn dead(tape: &Tape, cookie: u64, ago: u64, local: &str, peer: &str) -> RequestRow {
    let SocketRow { cookie, local, peer, family, .. } = row(cookie, 12, local, peer);
    RequestRow { cookie, queued: Timestamp(tape.now - ago), local, peer, family }
}

/// A time-wait socket.
pub(crate) fn time_wait(cookie: u64, state: u8, local: &str, peer: &str) -> SocketRow {
    SocketRow { inode: None, timer: Timer::TimeWait, expires_ms: 41_000, ..row(cookie, state, local, peer) }
}

/// A process of the host.
pub(crate) fn process(process: Process, exe: &str, user: &str, (fds, nofile): (u64, u64)) -> ProcessFacts {
    ProcessFacts {
        id: ProcessId::new(process.pid, Some(start(process.pid))),
        comm: String::from_utf8_lossy(process.comm).into_owned(),
        exe: Some(exe.into()),
        cmdline: vec![exe.into(), "--serve".into()],
        uid: 1_000,
        user: Some(user.into()),
        nofile: Some(nofile),
        fds: Some(fds),
        netns: Some(NETNS),
        cgroup: Some(format!("/system.slice/{user}.service")),
        container: None,
    }
}

/// A container of Docker.
pub(crate) fn container(name: &str, image: &str) -> ContainerFacts {
    ContainerFacts {
        id: "4f1c9a52e0b7".repeat(6).chars().take(64).collect(),
        name: Some(name.into()),
        runtime: Runtime::Docker,
        image: Some(image.into()),
        pod_uid: None,
        pod: None,
        namespace: None,
        qos: None,
    }
}

/// The namespace of all sockets.
pub(crate) fn namespace(counters: SocketCounters) -> NamespaceFacts {
    NamespaceFacts {
        inum: NETNS,
        name: None,
        // Narrow, as on a host that keeps its ports for something else.
        port_range: Some((32_768, 33_767)),
        syncookies: Some(1),
        synack_retries: Some(5),
        somaxconn: None,
        time_wait_reuse: Some(2),
        counters: Some(counters),
    }
}

//! The language of surveys.
//!
//! ```text
//! survey +1000ms
//! read +1005ms
//! row CLOSE_WAIT ck=7 127.0.0.1:80>127.0.0.1:4000 ns=1 inode=5 rq=1 sq=0 lastack=200|atleast=200 timer=tw|on expires=100 tries=1
//! holder inode=5 pid=100 fd=3
//! facts 100:name start=5 container=web
//! facts listener ck=1 drops=5
//! facts ns=1 resets=3 overflows=1 full_cookies=9 full_drops=9 received=1 cookies=0 range=32768-60999 retries=1 reuse=2
//! died ck=9 queued=+100ms 127.0.0.1:80>127.0.0.1:4001
//! surveyed +1010ms all|report|requests holders ns=1
//! ```

use std::{net::SocketAddr, num::NonZeroU64};

use tcp_trace_common::address::{AF_INET, AF_INET6};
use tcp_trace_core::{
    endpoint::Endpoint,
    process::ProcessId,
    state::TcpState,
    survey::{
        ContainerFacts, Facts, Holder, ListenerFacts, NamespaceFacts, ProcessFacts, RequestRow, Runtime,
        SocketCounters, SocketRow, SurveyBegin, SurveyEnd, TcpInfo, Timer, scope,
    },
    time::Timestamp,
};

use crate::dsl::{nanoseconds, time, transition, word};

pub(crate) fn begin(line: &str) -> SurveyBegin {
    SurveyBegin { time: Timestamp(time(line)), scope: scope::ALL.to_owned() }
}

fn ends(text: &str) -> (Endpoint, Endpoint) {
    let end = |text: &str| {
        let end: SocketAddr = text.parse().unwrap();
        Endpoint { address: end.ip(), port: end.port() }
    };
    let (local, peer) = text.split_once('>').unwrap_or_else(|| panic!("what is `{text}`?"));
    (end(local), end(peer))
}

fn family(end: Endpoint) -> u16 {
    if end.address.is_ipv4() { AF_INET } else { AF_INET6 }
}

pub(crate) fn row(line: &str) -> SocketRow {
    let (name, rest) = word(line);
    let (_, number) = transition(&format!("CLOSE>{name}"));
    let unknown: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let unknown = Endpoint { address: unknown.ip(), port: 0 };
    let mut row = SocketRow {
        netns: 0,
        cookie: NonZeroU64::MAX,
        state: TcpState::from_number(number),
        local: unknown,
        peer: unknown,
        family: AF_INET,
        inode: None,
        cgroup_id: None,
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer: Timer::Off,
        retransmits: 0,
        expires_ms: 0,
        info: None,
    };
    for attribute in rest.split_whitespace() {
        match attribute.split_once('=') {
            Some(("ck", value)) => row.cookie = value.parse().unwrap(),
            Some(("ns", value)) => row.netns = value.parse().unwrap(),
            Some(("inode", value)) => row.inode = Some(value.parse().unwrap()),
            Some(("cg", value)) => row.cgroup_id = Some(value.parse().unwrap()),
            Some(("rq", value)) => row.receive_queue = value.parse().unwrap(),
            Some(("sq", value)) => row.send_queue = value.parse().unwrap(),
            Some(("timer", "tw")) => row.timer = Timer::TimeWait,
            Some(("timer", "probe")) => row.timer = Timer::ZeroWindow,
            Some(("timer", "on")) => row.timer = Timer::Retransmit,
            Some(("tries", value)) => row.retransmits = value.parse().unwrap(),
            Some(("expires", value)) => row.expires_ms = value.parse().unwrap(),
            Some(("lastack", value)) => row.info = Some(info(value.parse().unwrap(), 1)),
            Some(("atleast", value)) => row.info = Some(info(value.parse().unwrap(), 1_000)),
            None => {
                (row.local, row.peer) = ends(attribute);
                row.family = family(row.local);
            }
            _ => panic!("what is `{attribute}`?"),
        }
    }
    row
}

/// The last data came so long before the last ACK.
fn info(last_ack_received_ms: u32, before: u32) -> TcpInfo {
    TcpInfo {
        last_data_sent_ms: last_ack_received_ms + 1,
        last_data_received_ms: last_ack_received_ms + before,
        last_ack_received_ms,
        srtt_us: 0,
        total_retrans: 0,
        bytes_acked: 0,
        bytes_received: 0,
        segments_in: 9,
        data_segments_in: 1,
        data_segments_out: 0,
    }
}

pub(crate) fn holder(line: &str) -> Holder {
    let mut holder = Holder { inode: 0, pid: 0, fd: 0 };
    for attribute in line.split_whitespace() {
        let (name, value) = attribute.split_once('=').unwrap();
        *match name {
            "inode" => &mut holder.inode,
            "pid" => &mut holder.pid,
            "fd" => &mut holder.fd,
            unknown => panic!("what is `{unknown}`?"),
        } = value.parse().unwrap();
    }
    holder
}

pub(crate) fn died(line: &str) -> RequestRow {
    let mut row = RequestRow {
        cookie: NonZeroU64::MAX,
        queued: Timestamp(0),
        local: Endpoint { address: [0, 0, 0, 0].into(), port: 0 },
        peer: Endpoint { address: [0, 0, 0, 0].into(), port: 0 },
        family: AF_INET,
    };
    for attribute in line.split_whitespace() {
        match attribute.split_once('=') {
            Some(("ck", value)) => row.cookie = value.parse().unwrap(),
            Some(("queued", value)) => row.queued = Timestamp(time(value)),
            _ => (row.local, row.peer) = ends(attribute),
        }
    }
    row.family = family(row.local);
    row
}

/// A process (`100:name …`) or a namespace (`ns=1 …`).
pub(crate) fn facts(line: &str) -> Facts {
    if let Some(line) = line.strip_prefix("listener ") {
        return Facts { listeners: vec![listener(line)], ..Facts::default() };
    }
    if line.starts_with("ns=") {
        return Facts { namespaces: vec![namespace(line)], ..Facts::default() };
    }
    let (ids, rest) = word(line);
    let (pid, comm) = ids.split_once(':').unwrap();
    let mut process = ProcessFacts {
        id: ProcessId::new(pid.parse().unwrap(), None),
        comm: comm.to_owned(),
        exe: Some(format!("/usr/bin/{comm}")),
        cmdline: vec![comm.to_owned(), "--serve".to_owned()],
        uid: 1000,
        user: Some("www".to_owned()),
        nofile: Some(1024),
        fds: Some(40),
        netns: None,
        cgroup: None,
        container: None,
    };
    for attribute in rest.split_whitespace() {
        match attribute.split_once('=').unwrap() {
            ("start", ms) => process.id = ProcessId::new(process.id.pid, Some(nanoseconds(ms))),
            ("fds", count) => process.fds = Some(count.parse().unwrap()),
            ("nofile", count) => process.nofile = Some(count.parse().unwrap()),
            ("container", name) => process.container = Some(container(name)),
            unknown => panic!("what is `{unknown:?}`?"),
        }
    }
    Facts { processes: vec![process], ..Facts::default() }
}

/// `ck=1 drops=5`
fn listener(line: &str) -> ListenerFacts {
    let mut facts = ListenerFacts { cookie: NonZeroU64::MAX, drops: 0 };
    for attribute in line.split_whitespace() {
        match attribute.split_once('=').unwrap() {
            ("ck", value) => facts.cookie = value.parse().unwrap(),
            ("drops", value) => facts.drops = value.parse().unwrap(),
            unknown => panic!("what is `{unknown:?}`?"),
        }
    }
    facts
}

fn container(name: &str) -> ContainerFacts {
    ContainerFacts {
        id: "c0ffee".to_owned(),
        name: Some(name.to_owned()),
        runtime: Runtime::Docker,
        image: None,
        pod_uid: None,
        pod: None,
        namespace: None,
        qos: None,
    }
}

fn namespace(line: &str) -> NamespaceFacts {
    let mut counters = SocketCounters::default();
    let mut facts = NamespaceFacts {
        inum: 0,
        name: None,
        port_range: None,
        syncookies: Some(1),
        synack_retries: None,
        somaxconn: Some(4096),
        time_wait_reuse: None,
        counters: None,
    };
    for attribute in line.split_whitespace() {
        let (name, value) = attribute.split_once('=').unwrap();
        match name {
            "ns" => facts.inum = value.parse().unwrap(),
            "resets" => counters.embryonic_resets = value.parse().unwrap(),
            "overflows" => counters.listen_overflows = value.parse().unwrap(),
            "cookies" => facts.syncookies = Some(value.parse().unwrap()),
            "full_cookies" => counters.request_queue_full_cookies = value.parse().unwrap(),
            "full_drops" => counters.request_queue_full_drops = value.parse().unwrap(),
            "received" => counters.syncookies_received = value.parse().unwrap(),
            "passive" => counters.passive_opens = value.parse().unwrap(),
            "reuse" => facts.time_wait_reuse = Some(value.parse().unwrap()),
            "retries" => facts.synack_retries = Some(value.parse().unwrap()),
            "range" => {
                let (first, last) = value.split_once('-').unwrap();
                facts.port_range = Some((first.parse().unwrap(), last.parse().unwrap()));
            }
            unknown => panic!("what is `{unknown}`?"),
        }
    }
    facts.counters = Some(counters);
    facts
}

pub(crate) fn end(line: &str) -> SurveyEnd {
    let (at, rest) = word(line);
    let mut end = SurveyEnd {
        time: Timestamp(time(at)),
        states: Vec::new(),
        namespaces: Vec::new(),
        holders: false,
        holders_complete: true,
        problems: Vec::new(),
    };
    for attribute in rest.split_whitespace() {
        match attribute {
            "all" => end.states = (1..=13).collect(),
            "report" => end.states = [4, 5, 6, 8, 9, 10, 11, 12].into(),
            "requests" => end.states = [12].into(),
            "holders" => end.holders = true,
            other => end.namespaces.push(other.strip_prefix("ns=").unwrap().parse().unwrap()),
        }
    }
    end
}

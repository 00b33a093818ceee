//! `snapshot`: what is printed, and that it works without any privilege.

use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use tcp_trace::sink;
use tcp_trace_core::{
    endpoint::Endpoint,
    process::ProcessId,
    session::{Degradation, Host},
    snapshot::{Gathered, Selection, snapshot},
    state::TcpState,
    survey::{
        ContainerFacts, Facts, Holder, NamespaceFacts, ProcessFacts, Runtime, SocketCounters, SocketRow,
        TcpInfo, Timer,
    },
    time::{ClockAnchor, Timestamp},
};

use crate::{
    schema::Schema,
    tracer::{assert_golden, run},
};

const NETNS: u32 = 4_026_531_840;

fn end(text: &str) -> Endpoint {
    let end: std::net::SocketAddr = text.parse().expect("an address");
    Endpoint { address: end.ip(), port: end.port() }
}

fn row(cookie: u64, state: TcpState, peer: &str, inode: u32) -> SocketRow {
    let info = TcpInfo {
        last_data_sent_ms: 90_000,
        last_data_received_ms: 90_000,
        last_ack_received_ms: 61_000,
        srtt_us: 300,
        total_retrans: 0,
        bytes_acked: 0,
        bytes_received: 1,
        segments_in: 3,
        data_segments_in: 0,
        data_segments_out: 0,
    };
    SocketRow {
        netns: NETNS,
        cookie: cookie.try_into().expect("not 0"),
        state,
        local: end("198.18.0.1:7001"),
        peer: end(peer),
        family: 2,
        inode: Some(inode).filter(|inode| *inode != 0),
        cgroup_id: Some(1),
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer: Timer::Off,
        retransmits: 0,
        expires_ms: 0,
        info: Some(info),
    }
}

/// A socket of each kind.
fn rows() -> Vec<SocketRow> {
    let bare = |row| SocketRow { info: None, cgroup_id: None, ..row };
    let talked = |mut row: SocketRow| {
        row.info.iter_mut().for_each(|info| info.segments_in = 9);
        row
    };
    vec![
        SocketRow {
            receive_queue: 1,
            send_queue: 128,
            info: None,
            ..row(1, TcpState::Listen, "0.0.0.0:0", 10)
        },
        row(2, TcpState::CloseWait, "198.18.7.1:2", 11),
        SocketRow { receive_queue: 101, ..talked(row(3, TcpState::CloseWait, "198.18.7.1:3", 12)) },
        SocketRow { receive_queue: 1, ..row(4, TcpState::CloseWait, "198.18.7.1:4", 0) },
        row(5, TcpState::Established, "198.18.7.1:5", 13),
        row(6, TcpState::SynSent, "198.18.7.1:6", 14),
        SocketRow {
            timer: Timer::Retransmit,
            expires_ms: 400,
            ..bare(row(7, TcpState::NewSynReceived, "198.18.7.1:7", 0))
        },
        SocketRow {
            timer: Timer::TimeWait,
            expires_ms: 12_000,
            ..bare(row(8, TcpState::TimeWait, "198.18.7.1:8", 0))
        },
        row(9, TcpState::LastAck, "[2001:db8::7]:9", 0),
    ]
}

fn process(pid: u32, comm: &str) -> ProcessFacts {
    let container = ContainerFacts {
        id: "0123456789abcdef".repeat(4),
        name: Some("web".to_owned()),
        runtime: Runtime::Docker,
        image: Some("shop:1".to_owned()),
        pod_uid: None,
        pod: None,
        namespace: None,
        qos: None,
    };
    ProcessFacts {
        id: ProcessId::new(pid, Some(5_000_000_000)),
        comm: comm.to_owned(),
        exe: Some("/usr/bin/shop".to_owned()),
        cmdline: vec!["shop".to_owned(), "--serve".to_owned()],
        uid: 33,
        user: Some("www-data".to_owned()),
        nofile: Some(1024),
        fds: Some(17),
        netns: Some(NETNS),
        cgroup: Some("/docker/0123".to_owned()),
        container: Some(container),
    }
}

pub(crate) fn gathered() -> Gathered {
    let holder = |(inode, pid, fd)| Holder { inode, pid, fd };
    let namespace = NamespaceFacts {
        inum: NETNS,
        name: Some("blue".to_owned()),
        port_range: Some((32_768, 60_999)),
        syncookies: Some(1),
        synack_retries: None,
        somaxconn: None,
        time_wait_reuse: None,
        counters: Some(SocketCounters::default()),
    };
    Gathered {
        host: Host { name: "server".to_owned(), kernel: "6.12.0".to_owned(), boot_id: None },
        anchor: ClockAnchor { monotonic_ns: 0, boottime_ns: 0, unix_ns: 1_768_446_000_000_000_000 },
        time: Timestamp(0),
        sockets: rows(),
        holders: [(10, 7, 3), (11, 7, 4), (12, 7, 5), (13, 7, 6), (13, 8, 6)].map(holder).to_vec(),
        holders_complete: true,
        has_requests: true,
        facts: Facts {
            processes: vec![process(7, "shop"), process(8, "shop\u{1b}[31m")],
            cgroups: Vec::new(),
            namespaces: vec![namespace],
            listeners: Vec::new(),
        },
        degradations: vec![Degradation {
            feature: "namespaces".to_owned(),
            reason: "2 other network namespaces cannot be entered without CAP_SYS_ADMIN: the sockets there are not listed"
                .to_owned(),
            remedy: Some("run it as root".to_owned()),
        }],
    }
}

fn printed(sockets: bool, as_json: bool) -> String {
    let selection = Selection { sockets, ..Selection::default() };
    let mut bytes = Vec::new();
    sink::snapshot(&mut bytes, &snapshot(&gathered(), &selection), as_json)
        .expect("a vector takes everything");
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn groups_and_single_sockets_are_laid_out() {
    assert_golden("snapshot.txt", printed(false, false).as_bytes());
    assert_golden("snapshot-sockets.txt", printed(true, false).as_bytes());
}

#[test]
fn the_document_keeps_to_its_schema() {
    let schema = Schema::of_snapshots();
    for sockets in [false, true] {
        let [document] = schema.documents(&printed(sockets, true)).try_into().expect("one document");
        let Value::Object(document) = document else { panic!("an object") };
        assert_eq!(document["sockets"].is_null(), !sockets);
    }
}

#[test]
fn it_works_without_any_privilege() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("it has an address").port();
    let client = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let output = run(&format!("snapshot --json --sockets -L {port} --state listen,estab")).good();
    let document = Schema::of_snapshots().documents(&output).remove(0);
    let sockets = document["sockets"].as_array().expect("asked for");
    let states: Vec<_> = sockets.iter().map(|socket| socket["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["ESTABLISHED", "LISTEN"], "{document:#}");
    for socket in sockets {
        assert_eq!(
            socket["holders"][0]["pid"],
            std::process::id(),
            "its own, or that of the listener: {socket:#}"
        );
    }
    assert_eq!(sockets[0]["owner_state"], "never_accepted");
    assert_eq!(document["listeners"][0]["accept_queue"]["length"], 1);
    assert_eq!(
        run(&format!("snapshot -L {port} -p {}", u32::MAX)).good().lines().count(),
        2 + lines_lacking(&document)
    );
    drop(client);
}

/// How many lines a table has for what could not be looked at on this host.
fn lines_lacking(document: &Value) -> usize {
    let lacking = document["degradations"].as_array().map_or(0, Vec::len);
    if lacking == 0 {
        0
    } else {
        run("snapshot --state closing")
            .good()
            .lines()
            .skip_while(|line| !line.starts_with("Not available"))
            .count()
            + 1
    }
}

#[test]
fn what_is_not_there_cannot_be_asked_for() {
    let unknown = run("snapshot --netns 1");
    assert_eq!(unknown.code, Some(3), "{unknown:?}");
    assert!(unknown.stderr.contains("network namespace 1 is not to be found"), "{unknown:?}");
    let state = run("snapshot --state OPEN");
    assert_eq!(state.code, Some(2), "{state:?}");
    let container = run("snapshot --container no-such-container");
    assert_eq!(container.code, Some(2), "{container:?}");
}

//! Obituaries against processes that logged what each of them did with its sockets: no owner is wrong.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Instant,
};

use serde_json::{Value, json};
use tcp_trace_testkit::{
    NetNs,
    scale::scaled,
    truth::{Role, SocketTruth, Truth, TruthPlan},
};

use crate::{Test, tracer::Tracer};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_comparison_finds_every_fault", the_comparison_finds_every_fault),
    ("a_port_may_be_taken_again", a_port_may_be_taken_again),
    ("no_owner_is_wrong", no_owner_is_wrong),
];

/// Of every hundred owners so many may be unknown.
const UNKNOWN_PERCENT: usize = 1;
/// A lifetime is at least the time between a process's first and last look at the socket, but for the time that its
/// log line took.
const SLACK_NS: u64 = 50_000_000;

/// What is wrong with a socket's obituary; the number is how many sockets.
type Faults = BTreeMap<&'static str, Vec<String>>;

fn no_owner_is_wrong() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["stream", "--closed", "--json", "--netns", &ns.inum().to_string()]);
    let began = Instant::now();
    let truth = Truth::of(&ns, &TruthPlan { connections: scaled(2_000, 100) }).unwrap();
    let took = began.elapsed();
    let lines = tracer.lines();
    let (faults, unknown) = compare(&truth, &lines);
    let (sockets, processes) = (truth.sockets.len(), truth.processes().len());
    eprintln!(
        "{sockets} sockets of {processes} processes in {took:?}: {} obituaries, {unknown:?} unknown",
        lines.len()
    );
    for (fault, examples) in &faults {
        eprintln!(
            "{fault}: {}, such as\n  {}",
            examples.len(),
            examples[..examples.len().min(5)].join("\n  ")
        );
    }
    assert!(
        faults.is_empty(),
        "{:?}",
        faults.iter().map(|(what, all)| (*what, all.len())).collect::<Vec<_>>()
    );
    let unknown: usize = unknown.values().sum();
    assert!(unknown * 100 <= sockets * UNKNOWN_PERCENT, "{unknown} of {sockets} owners are unknown");
    assert!(processes >= 8);
}

fn address(endpoint: &Value) -> Option<SocketAddr> {
    let ip = endpoint["address"].as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(endpoint["port"].as_u64()?).ok()?))
}

/// The faults, and how many owners are unknown in each mode.
fn compare(truth: &Truth, lines: &[Value]) -> (Faults, BTreeMap<char, usize>) {
    let (mut faults, mut unknown) = (Faults::new(), BTreeMap::new());
    let mut obituaries: HashMap<_, Vec<&Value>> = HashMap::new();
    for line in lines {
        obituaries.entry((address(&line["local"]), address(&line["peer"]))).or_default().push(line);
    }
    // A client's port may be taken again when its connection is over: earlier ones come first.
    let mut sockets: Vec<&SocketTruth> = truth.sockets.iter().collect();
    sockets.sort_by_key(|socket| socket.opened_ns);
    let mut left: HashMap<_, usize> = HashMap::new();
    for socket in &sockets {
        *left.entry((socket.local, socket.peer)).or_default() += 1;
    }
    for socket in sockets {
        let ends = (socket.local, socket.peer);
        let candidates = obituaries.entry((Some(ends.0), Some(ends.1))).or_default();
        let Some(at) = obituary_of(socket, candidates, left[&ends]) else {
            faults.entry("no obituary").or_default().push(format!("{socket:?}"));
            continue;
        };
        let line = candidates.remove(at);
        *left.entry(ends).or_default() -= 1;
        for what in faults_of(line, socket, truth) {
            faults.entry(what).or_default().push(format!("{line}\n    in truth {socket:?}"));
        }
        if line["process"]["pid"].is_null() {
            *unknown.entry(socket.mode).or_default() += 1;
        }
    }
    for line in obituaries.into_values().flatten() {
        faults.entry("an obituary too many").or_default().push(line.to_string());
    }
    (faults, unknown)
}

/// By its cookie, where that is known; else in the order of the connections between the same ends.
fn obituary_of(socket: &SocketTruth, candidates: &[&Value], left: usize) -> Option<usize> {
    let cookie = socket.cookie.map(Value::from);
    let known =
        candidates.iter().position(|line| cookie.as_ref().is_some_and(|cookie| line["cookie"] == *cookie));
    known.or_else(|| (candidates.len() >= left && !candidates.is_empty()).then_some(0))
}

fn faults_of(line: &Value, socket: &SocketTruth, truth: &Truth) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let mut check = |holds: bool, what| {
        if !holds {
            faults.push(what);
        }
    };
    let owner = &line["process"];
    check(is_one_of(owner, &socket.owners, truth), "wrong owner");
    check(
        owner["pid"].is_null() == (owner["owner_source"] == "unknown"),
        "an unknown owner is not called so",
    );
    // Whoever accepted it, or whoever made the listener: both opened it.
    let openers: Vec<u32> = match socket.role {
        Role::Client => vec![socket.opened_by],
        Role::Server => {
            socket.listener.into_iter().chain([socket.opened_by]).chain(socket.holders.clone()).collect()
        }
    };
    check(line["opened_by"].is_null() || is_one_of(&line["opened_by"], &openers, truth), "wrong opener");
    check(line["event"] == "tcp.connection_closed", "wrong event");
    check(unless_null(&line["cookie"], socket.cookie.map(Value::from)), "wrong cookie");
    check(unless_null(&line["netns"], Some(socket.netns.into())), "wrong namespace");
    check(line["role"] == if socket.role == Role::Client { "client" } else { "server" }, "wrong role");
    let closer = socket.closed_first().map(|first| if first { "active" } else { "passive" });
    check(line["closer"] == closer.map_or(Value::Null, Value::from), "wrong closer");
    check(endings(socket).contains(&line["ending"].as_str().unwrap_or("null")), "wrong ending");
    // What was never read is not in the processes' own figures.
    if matches!(socket.mode, 'c' | 's' | 'h') {
        check(unless_null(&line["bytes_sent"], Some(socket.sent.into())), "wrong bytes sent");
        check(unless_null(&line["bytes_received"], Some(socket.received.into())), "wrong bytes received");
        let seen_ns = socket.left_ns.zip(socket.opened_ns).map_or(0, |(left, opened)| left - opened);
        // A half-closed one is over for the kernel when its peer has closed too, however late its program does.
        let lives = |ns: u64| socket.mode == 'h' || ns + SLACK_NS >= seen_ns;
        check(line["duration_ns"].as_u64().is_none_or(lives), "too short a life");
    }
    check(line["complete"] == true, "not the whole life");
    faults
}

/// The process is not known, or one of these, under its own name.
fn is_one_of(process: &Value, pids: &[u32], truth: &Truth) -> bool {
    let Some(pid) = process["pid"].as_u64() else { return process["pid"].is_null() };
    let Some(pid) = pids.iter().find(|one| u64::from(**one) == pid) else { return false };
    // The threads of a pool have names of their own.
    let named =
        |name: &str| truth.comms.get(pid).is_some_and(|comm| comm == name) || name.starts_with("pool-");
    process["comm"].as_str().is_none_or(named)
}

fn unless_null(value: &Value, truth: Option<Value>) -> bool {
    value.is_null() || truth.is_none_or(|truth| *value == truth)
}

fn endings(socket: &SocketTruth) -> &'static [&'static str] {
    match (socket.mode, socket.role, socket.closed_first()) {
        // Whether the peer's ACK or its FIN comes first is the network's choice.
        (_, _, Some(true)) => &["time_wait", "orphaned"],
        (_, _, Some(false)) => &["closed"],
        ('r', Role::Client, None) => &["linger_zero"],
        ('u', Role::Server, None) => &["aborted_unread"],
        ('i', Role::Server, None) => &["never_accepted"],
        _ => &["reset_by_peer"],
    }
}

/// A socket of process 7, which process 6 accepted, and an obituary that is right.
fn example() -> (Truth, Value) {
    let [local, peer]: [SocketAddr; 2] =
        ["127.0.0.1:7102", "127.0.0.1:40000"].map(|text| text.parse().unwrap());
    let socket = SocketTruth {
        cookie: Some(11),
        local,
        peer,
        netns: 5,
        role: Role::Server,
        mode: 'c',
        owners: vec![7],
        holders: vec![6, 7],
        opened_by: 6,
        listener: Some(6),
        opened_ns: Some(1_000),
        left_ns: Some(2_000_001_000),
        sent: 1,
        received: 1,
    };
    let comms = HashMap::from([(6, "master".to_owned()), (7, "worker".to_owned())]);
    let line = json!({
        "event": "tcp.connection_closed",
        "local": {"address": "127.0.0.1", "port": 7102},
        "peer": {"address": "127.0.0.1", "port": 40000},
        "cookie": 11, "netns": 5,
        "process": {"pid": 7, "comm": "worker", "owner_source": "task"},
        "opened_by": {"pid": 6, "comm": "master", "owner_source": "listen"},
        "role": "server", "closer": "passive", "ending": "closed",
        "duration_ns": 2_000_100_000_u64, "bytes_sent": 1, "bytes_received": 1, "complete": true
    });
    (Truth { sockets: vec![socket], comms }, line)
}

fn a_port_may_be_taken_again() {
    let (mut truth, first) = example();
    let again = SocketTruth {
        cookie: Some(13),
        opened_ns: Some(5_000_000_000),
        left_ns: None,
        mode: 's',
        ..truth.sockets[0].clone()
    };
    truth.sockets.insert(0, again);
    let mut second = first.clone();
    for (place, value) in
        [("/cookie", json!(13)), ("/closer", json!("active")), ("/ending", json!("time_wait"))]
    {
        *second.pointer_mut(place).unwrap() = value;
    }
    let faults = |lines: &[Value]| compare(&truth, lines).0.into_keys().collect::<Vec<_>>();
    assert_eq!(faults(&[first.clone(), second.clone()]), [""; 0]);
    assert_eq!(faults(std::slice::from_ref(&first)), ["no obituary"]);
    assert_eq!(faults(std::slice::from_ref(&second)), ["no obituary"]);
    let nameless = |line: &Value| {
        let mut line = line.clone();
        line["cookie"] = Value::Null;
        line
    };
    assert_eq!(faults(&[nameless(&first), nameless(&second)]), [""; 0], "by their order");
}

fn the_comparison_finds_every_fault() {
    let (truth, line) = example();
    let faults = |lines: &[Value]| compare(&truth, lines).0.into_keys().collect::<Vec<_>>();
    assert_eq!(faults(std::slice::from_ref(&line)), [""; 0]);
    assert_eq!(faults(&[]), ["no obituary"]);
    assert_eq!(faults(&[line.clone(), line.clone()]), ["an obituary too many"]);
    let changes = [
        ("/process/pid", json!(6), "wrong owner"),
        ("/process/comm", json!("master"), "wrong owner"),
        ("/process/owner_source", json!("unknown"), "an unknown owner is not called so"),
        ("/opened_by/pid", json!(8), "wrong opener"),
        ("/cookie", json!(12), "wrong cookie"),
        ("/netns", json!(4), "wrong namespace"),
        ("/role", json!("client"), "wrong role"),
        ("/closer", json!("active"), "wrong closer"),
        ("/ending", json!("time_wait"), "wrong ending"),
        ("/bytes_sent", json!(2), "wrong bytes sent"),
        ("/duration_ns", json!(20_000), "too short a life"),
        ("/complete", json!(false), "not the whole life"),
    ];
    for (place, value, fault) in changes {
        let mut changed = line.clone();
        *changed.pointer_mut(place).unwrap() = value;
        assert_eq!(faults(&[changed]), [fault]);
    }
    let mut other = line.clone();
    other["local"]["port"] = 1.into();
    assert_eq!(faults(&[line.clone(), other]), ["an obituary too many"]);
    let mut modest = line;
    modest["process"] = json!({"pid": null, "comm": null, "owner_source": "unknown"});
    for key in ["cookie", "bytes_sent", "duration_ns", "opened_by"] {
        modest[key] = Value::Null;
    }
    let (faults, unknown) = compare(&truth, &[modest]);
    assert_eq!((faults.len(), unknown), (0, BTreeMap::from([('c', 1)])), "not known is not wrong");
}

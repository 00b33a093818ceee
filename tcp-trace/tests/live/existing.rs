//! Sockets that were there before the program.

use std::{
    collections::HashMap,
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tcp_trace_testkit::{
    NetNs,
    clock::monotonic_ns,
    leak::{Leak, LeakKind, Leaked, UNREAD_BYTES, crowd},
    scale::scaled,
};

use crate::{
    Test,
    tracer::{Tracer, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_comparison_finds_every_fault", the_comparison_finds_every_fault),
    ("a_leak_from_before_the_start_is_listed", a_leak_from_before_the_start_is_listed),
    ("a_hundred_thousand_sockets_are_reported_at_once", a_hundred_thousand_sockets_are_reported_at_once),
];

/// A lower bound may be above the truth by a tick alone.
const TICK_NS: u64 = 10_000_000;
/// An exact age may be off by what one clock tick of the kernel (`jiffies`, at 100 a second) and the time between the
/// sample and the end of the window make it.
const TOLERANCE_NS: u64 = 100_000_000;

fn word(kind: LeakKind) -> &'static str {
    match kind {
        LeakKind::ForgotClose => "forgot_close",
        LeakKind::NeverLooked => "never_looked",
        LeakKind::UnreadData => "unread_data",
        LeakKind::NeverAccepted => "never_accepted",
    }
}

fn a_leak_from_before_the_start_is_listed() {
    let ns = NetNs::new().unwrap();
    let each = scaled(125, 10);
    let leak = Leak::start(&ns, each, 7_001).unwrap();
    sleep(Duration::from_millis(1_500));
    let netns = ns.inum().to_string();
    let arguments =
        ["report", "--json", "--duration", "1s", "--close-wait-after", "500ms", "--netns", &netns];
    let output = Tracer::run(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let close_wait = &report["close_wait"];
    assert_eq!(close_wait["lingering"], 4 * each, "{close_wait}");
    assert_eq!(close_wait["live"], 4 * each, "{close_wait}");
    let faults = faults_of(close_wait, &leak.sockets, window_end(&report));
    assert!(
        faults.is_empty(),
        "{} faults, such as\n{}",
        faults.len(),
        faults[..faults.len().min(10)].join("\n")
    );
    let rows = close_wait["processes"].as_array().unwrap();
    let exact = rows.iter().flat_map(|row| row["sockets"].as_array().unwrap());
    let exact = exact.filter(|socket| socket["age_exact"] == true).count();
    eprintln!("{} leaked sockets from before the start, the ages of {exact} are exact", 4 * each);
}

/// CLOCK_MONOTONIC at the window's end, by this process's own look at both clocks.
fn window_end(report: &Value) -> u64 {
    let anchor = tcp_trace::host::clock_anchor();
    let end: jiff::Timestamp = report["window"]["end"].as_str().unwrap().parse().unwrap();
    anchor.monotonic_ns + u64::try_from(end.as_nanosecond()).unwrap() - anchor.unix_ns
}

fn faults_of(close_wait: &Value, truth: &[Leaked], end_ns: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let mut by_process: HashMap<u32, Vec<&Leaked>> = HashMap::new();
    for socket in truth {
        by_process.entry(socket.pid).or_default().push(socket);
    }
    let rows = close_wait["processes"].as_array().cloned().unwrap_or_default();
    if rows.len() != by_process.len() {
        faults.push(format!("{} processes, in truth {}", rows.len(), by_process.len()));
    }
    for (pid, sockets) in by_process {
        match rows.iter().find(|row| row["process"]["pid"] == pid) {
            Some(row) => faults_of_process(row, &sockets, end_ns, &mut faults),
            None => faults.push(format!("process {pid} ({}) is missing", word(sockets[0].kind))),
        }
    }
    faults
}

fn faults_of_process(row: &Value, truth: &[&Leaked], end_ns: u64, faults: &mut Vec<String>) {
    let kind = word(truth[0].kind);
    let mut kinds = json!({"forgot_close": 0, "never_looked": 0, "unread_data": 0, "never_accepted": 0});
    kinds[kind] = truth.len().into();
    if row["count"] != truth.len() || row["kinds"] != kinds {
        faults.push(format!("{kind}: {} sockets, kinds {}", row["count"], row["kinds"]));
    }
    // The list may be shorter than the count, but not empty, and the oldest are on it.
    let sockets = row["sockets"].as_array().cloned().unwrap_or_default();
    if sockets.is_empty() {
        faults.push(format!("{kind}: no socket is listed"));
    }
    let by_peer: HashMap<String, &Leaked> = truth.iter().map(|one| (one.peer.to_string(), *one)).collect();
    for socket in &sockets {
        match by_peer.get(&endpoint(&socket["peer"])) {
            Some(one) => {
                let found = faults_of_socket(socket, one, end_ns);
                faults.extend(found.into_iter().map(|fault| format!("{kind}: {fault} in {socket}")));
            }
            None => faults.push(format!("{kind}: a socket that is not leaked: {socket}")),
        }
    }
}

fn endpoint(value: &Value) -> String {
    let ip: Option<std::net::IpAddr> = value["address"].as_str().and_then(|text| text.parse().ok());
    let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    ip.zip(port).map_or(String::new(), |(ip, port)| SocketAddr::new(ip, port).to_string())
}

fn faults_of_socket(socket: &Value, truth: &Leaked, end_ns: u64) -> Vec<String> {
    let mut faults = Vec::new();
    if socket["kind"] != word(truth.kind) {
        faults.push(format!("kind {}", socket["kind"]));
    }
    let unread = if truth.kind == LeakKind::UnreadData { UNREAD_BYTES } else { 0 };
    if socket["unread_bytes"] != unread {
        faults.push(format!("{} bytes unread, in truth {unread}", socket["unread_bytes"]));
    }
    let fds: Value = truth.fd.into_iter().collect();
    if socket["fds"] != fds {
        faults.push(format!("fds {}, in truth {fds}", socket["fds"]));
    }
    let holders: Value = truth.fd.map(|fd| json!({"pid": truth.pid, "fd": fd})).into_iter().collect();
    if !socket["holders"].is_null() && socket["holders"] != holders {
        faults.push(format!("holders {}, in truth {holders}", socket["holders"]));
    }
    let (least, most) = (end_ns - truth.fin_before_ns, end_ns - truth.fin_after_ns);
    match (socket["age_ns"].as_u64(), socket["age_exact"].as_bool()) {
        (Some(age), Some(true)) if age + TOLERANCE_NS < least || age > most + TOLERANCE_NS => {
            faults.push(format!("exactly {age} ns old, in truth {least}..{most}"));
        }
        (Some(age), Some(false)) if age > most + TICK_NS => {
            faults.push(format!("at least {age} ns old, in truth {most} at most"));
        }
        (Some(_), Some(_)) | (None, _) => {}
        (Some(_), None) => faults.push("an age that is neither exact nor a bound".into()),
    }
    faults
}

fn a_hundred_thousand_sockets_are_reported_at_once() {
    let ns = NetNs::new().unwrap();
    let connections = scaled(50_000, 500);
    let began = Instant::now();
    let _crowd = crowd(&ns, connections, 900).unwrap();
    eprintln!("{} sockets made in {:?}", 2 * connections, began.elapsed());
    let netns = ns.inum().to_string();
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let duration = Duration::from_millis(1);
        let began = Instant::now();
        let output = Tracer::run(&["report", "--json", "--duration", "1ms", "--netns", &netns]);
        let took = began.elapsed() - duration;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["states"]["ESTABLISHED"]["live"], 2 * connections, "{}", report["states"]);
        best = best.min(took);
    }
    eprintln!("from exec to the end of the first full report, {} sockets: {best:?}", 2 * connections);
    // Loose, for busy and emulated machines: a scan that is quadratic takes minutes.
    assert!(best < Duration::from_secs(20), "{best:?}");
}

fn the_comparison_finds_every_fault() {
    let now = monotonic_ns();
    let leaked = Leaked {
        kind: LeakKind::UnreadData,
        pid: 7,
        fd: Some(5),
        local: "127.0.0.1:7001".parse().unwrap(),
        peer: "127.0.0.1:40000".parse().unwrap(),
        fin_after_ns: now - 2_000_100_000,
        fin_before_ns: now - 2_000_000_000,
    };
    let socket = json!({
        "peer": {"address": "127.0.0.1", "port": 40000}, "kind": "unread_data", "unread_bytes": 100, "fds": [5],
        "holders": [{"pid": 7, "fd": 5}], "age_ns": 2_000_050_000_u64, "age_exact": true
    });
    let row = |socket: &Value| {
        let kinds = json!({"forgot_close": 0, "never_looked": 0, "unread_data": 1, "never_accepted": 0});
        json!({"processes": [{"process": {"pid": 7}, "count": 1, "kinds": kinds, "sockets": [socket]}]})
    };
    let count = |socket: &Value| faults_of(&row(socket), &[leaked], now).len();
    assert_eq!(faults_of(&row(&socket), &[leaked], now), [""; 0]);
    let changes = [
        ("/kind", json!("never_looked")),
        ("/unread_bytes", json!(101)),
        ("/fds", json!([])),
        ("/holders/0/pid", json!(8)),
        ("/age_ns", json!(1_800_000_000_u64)),
        ("/age_exact", json!(null)),
        ("/peer/port", json!(1)),
    ];
    for (place, value) in changes {
        let mut changed = socket.clone();
        *changed.pointer_mut(place).unwrap() = value;
        assert_eq!(count(&changed), 1, "{place}");
    }
    let mut bound = socket.clone();
    bound["age_exact"] = false.into();
    bound["age_ns"] = 1_000_000_000_u64.into();
    assert_eq!(count(&bound), 0, "a lower bound may be low");
    bound["age_ns"] = 2_200_000_000_u64.into();
    assert_eq!(count(&bound), 1, "but not above the truth");
    assert_eq!(faults_of(&json!({"processes": []}), &[leaked], now).len(), 2);
}

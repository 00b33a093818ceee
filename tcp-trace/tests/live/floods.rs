//! Bounded SYN floods in namespaces of their own: what is reported agrees with the kernel's counters and with what
//! the clients did.

use std::{collections::HashMap, thread::sleep, time::Duration};

use serde_json::{Value, json};
use tcp_trace_testkit::{
    ListenOptions, NetNs, World,
    peer::{Flood, PATIENCE, clients_of},
    sock::{self, TcpState},
    workload::{ChurnPlan, churn_for},
    world::SERVER,
};

use crate::{
    Test,
    tracer::{Tracer, assert_whole},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_comparisons_find_faults", the_comparisons_find_faults),
    ("silent_clients_are_live_then_expired", silent_clients_are_live_then_expired),
    ("a_busy_host_does_not_forget_requests", a_busy_host_does_not_forget_requests),
    ("late_answers_and_resets_are_told_apart", late_answers_and_resets_are_told_apart),
    ("without_cookies_the_rest_is_dropped", without_cookies_the_rest_is_dropped),
    ("with_cookies_the_rest_gets_cookies", with_cookies_the_rest_gets_cookies),
    ("cookies_for_all_leave_no_request", cookies_for_all_leave_no_request),
    ("bad_cookies_are_counted", bad_cookies_are_counted),
    ("a_full_accept_queue_is_no_silent_client", a_full_accept_queue_is_no_silent_client),
    ("prefixes_and_sources_of_five_hundred", prefixes_and_sources_of_five_hundred),
];

/// With one repeated SYN-ACK a request dies 3 s after its SYN; timers of a busy machine may be late.
const ALL_DEAD: Duration = Duration::from_millis(4_500);
/// For SYN-ACKs that do not come.
const SHORT: Duration = Duration::from_secs(1);
/// SYN-ACKs repeated once: dead after 3 s.
const ONCE: u8 = 1;
/// SYN-ACKs repeated three times: they live for 15 s, longer than any test takes.
const THRICE: u8 = 3;

/// A namespace whose requests are never dropped before their time.
fn world(cookies: u8, synack_retries: u8) -> World {
    let world = World::new().unwrap();
    world.ns.sysctl("net.ipv4.tcp_syncookies", cookies).unwrap();
    world.ns.sysctl("net.ipv4.tcp_synack_retries", synack_retries).unwrap();
    world.ns.sysctl("net.ipv4.tcp_max_syn_backlog", 4_096).unwrap();
    world
}

fn backlog(backlog: i32) -> ListenOptions {
    ListenOptions { backlog, ..ListenOptions::default() }
}

fn tracer(world: &World) -> Tracer {
    Tracer::start(&["report", "--json", "--netns", &world.ns.inum().to_string()])
}

/// Requests that the kernel has now.
fn requests(world: &World) -> u64 {
    sock::table(&world.ns).unwrap().iter().filter(|entry| entry.state == TcpState::SynRecv).count() as u64
}

fn answered(flood: &mut Flood, timeout: Duration) -> u64 {
    flood.answered(timeout).into_iter().filter(|answered| *answered).count() as u64
}

/// The listener's row; the same figures stand above it, as it is the only one.
#[track_caller]
fn listener(report: &Value) -> &Value {
    assert_whole(report);
    let half_open = &report["half_open"];
    let listeners = half_open["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 1, "{listeners:?}");
    let listener = &listeners[0];
    assert_eq!(listener["local"], json!({"address": SERVER.ip().to_string(), "port": SERVER.port()}));
    assert_eq!(listener["process"]["pid"], std::process::id());
    for key in ["expired", "reset", "dead", "live", "cookies", "unknown"] {
        assert_eq!(half_open[key], listener[key], "{key}: {half_open}");
    }
    assert_eq!(half_open["completed"]["count"], listener["completed"]["count"]);
    listener
}

/// Where the kernel lets nobody see how requests die, they are `dead`; nowhere they are guessed.
fn faults_of_deaths(row: &Value, expired: u64, reset: u64) -> Vec<String> {
    let [found_expired, found_reset, dead] = ["expired", "reset", "dead"].map(|key| row[key].as_u64());
    let mut faults = Vec::new();
    let known = [(found_expired, expired, "expired"), (found_reset, reset, "reset")];
    for (found, truth, what) in known {
        if found.is_some_and(|found| found > truth) {
            faults.push(format!("{found:?} {what}, in truth {truth}"));
        }
    }
    let sum: u64 = [found_expired, found_reset, dead].into_iter().flatten().sum();
    let nothing_known = found_expired.is_none() && found_reset.is_none() && dead.is_none();
    if !nothing_known && sum != expired + reset {
        faults.push(format!("{sum} dead in all, in truth {}", expired + reset));
    }
    faults
}

#[track_caller]
fn assert_deaths(row: &Value, expired: u64, reset: u64) {
    assert_eq!(faults_of_deaths(row, expired, reset), [""; 0], "{row}");
    eprintln!("expired {}, reset {}, dead {}", row["expired"], row["reset"], row["dead"]);
}

/// The kernel's own counters of the namespace, which was made for this test: they began at 0. (What the report shows
/// is the difference over its window, which began before the flood.)
const COUNTERS: [(&str, &str); 8] = [
    ("listen_overflows", "TcpExt.ListenOverflows"),
    ("listen_drops", "TcpExt.ListenDrops"),
    ("syncookies_sent", "TcpExt.SyncookiesSent"),
    ("syncookies_received", "TcpExt.SyncookiesRecv"),
    ("syncookies_failed", "TcpExt.SyncookiesFailed"),
    ("request_queue_full_cookies", "TcpExt.TCPReqQFullDoCookies"),
    ("request_queue_full_drops", "TcpExt.TCPReqQFullDrop"),
    ("embryonic_resets", "TcpExt.EmbryonicRsts"),
];

fn faults_of_counters(report: &Value, netns: u32, kernel: &HashMap<String, i64>) -> Vec<String> {
    let rows = report["half_open"]["namespaces"].as_array();
    let Some(row) = rows.into_iter().flatten().find(|row| row["netns"] == netns) else {
        return vec![format!("no counters of namespace {netns}")];
    };
    let differs = |(ours, kernels): &(&str, &str)| row[ours] != kernel[*kernels];
    let tell = |(ours, kernels): (&str, &str)| format!("{ours} {}, {kernels} {}", row[ours], kernel[kernels]);
    COUNTERS.into_iter().filter(differs).map(tell).collect()
}

/// Ends the tracer; its counters are the kernel's.
#[track_caller]
fn report(world: &World, tracer: Tracer) -> Value {
    let report = tracer.report();
    let kernel = sock::counters(&world.ns).unwrap();
    assert_eq!(faults_of_counters(&report, world.ns.inum(), &kernel), [""; 0], "{}", report["half_open"]);
    report
}

fn silent_clients_are_live_then_expired() {
    for wait_for_death in [false, true] {
        let world = world(0, if wait_for_death { ONCE } else { THRICE });
        let _server = world.listen(&backlog(256)).unwrap();
        let tracer = tracer(&world);
        let mut flood = world.peer.flood(SERVER, clients_of(7, 60)).unwrap();
        assert_eq!(answered(&mut flood, PATIENCE), 60);
        let (live, dead) = if wait_for_death { (0, 60) } else { (60, 0) };
        // Before a SYN-ACK was sent once more, nobody can say that the clients are silent.
        sleep(if wait_for_death { ALL_DEAD } else { Duration::from_millis(1_300) });
        assert_eq!(requests(&world), live);
        let report = report(&world, tracer);
        let row = listener(&report);
        assert_eq!(row["completed"]["count"], 0, "{row}");
        assert!(row["live"].is_null() || row["live"] == live, "{row}");
        assert_deaths(row, dead, 0);
        assert_eq!(
            row["cause"],
            if wait_for_death { json!(row["cause"]) } else { json!("silent_clients") },
            "{row}"
        );
        if !wait_for_death {
            assert_syn_queue(row, 60);
        }
    }
}

/// Tens of thousands of handshakes a second in another namespace, which share the table of requests.
fn a_busy_host_does_not_forget_requests() {
    const BUSY: Duration = Duration::from_secs(3);
    let world = world(0, ONCE);
    let elsewhere = NetNs::new().unwrap();
    let _server = world.listen(&backlog(256)).unwrap();
    let tracer = tracer(&world);
    let mut flood = world.peer.flood(SERVER, clients_of(7, 60)).unwrap();
    assert_eq!(answered(&mut flood, PATIENCE), 60);
    churn_for(&elsewhere, BUSY, &ChurnPlan::default()).unwrap();
    sleep(ALL_DEAD.saturating_sub(BUSY) + Duration::from_secs(1));
    let report = report(&world, tracer);
    let row = listener(&report);
    assert_deaths(row, 60, 0);
    assert_eq!(row["unknown"], 0, "{row}");
}

#[track_caller]
fn assert_syn_queue(row: &Value, length: u64) {
    let queue = &row["syn_queue"];
    assert!(queue.is_null() || queue["length"] == length, "{row}");
    assert!(row["accept_queue"].is_null() || row["accept_queue"]["length"] == 0, "{row}");
}

fn late_answers_and_resets_are_told_apart() {
    let world = world(0, ONCE);
    let server = world.listen(&backlog(256)).unwrap();
    let tracer = tracer(&world);
    let mut flood = world.peer.flood(SERVER, clients_of(7, 60)).unwrap();
    sleep(Duration::from_millis(300));
    flood.complete(0..10).unwrap();
    flood.reset(10..25).unwrap();
    let _accepted: Vec<_> = (0..10).map(|_| server.accept().unwrap()).collect();
    sleep(ALL_DEAD);
    let report = report(&world, tracer);
    let row = listener(&report);
    assert_eq!(row["completed"]["count"], 10, "{row}");
    assert_eq!(row["unknown"], 0, "{row}");
    let least = row["completed"]["min_ns"].as_u64().unwrap();
    assert!(least > 250_000_000, "{least}: they waited for 300 ms");
    assert!(row["live"].is_null() || row["live"] == 0, "{row}");
    assert_deaths(row, 35, 15);
    let prefix = &row["prefixes"][0];
    assert_eq!((&prefix["requests"], &prefix["completed"]), (&60.into(), &10.into()), "{prefix}");
    assert_deaths(prefix, 35, 15);
}

/// A queue of 8 before 60 clients; returns the listener's row and how many were queued.
fn flood_a_small_queue(cookies: u8, accept: usize) -> (Value, HashMap<String, i64>, u64) {
    let world = world(cookies, THRICE);
    let server = world.listen(&backlog(8)).unwrap();
    let tracer = tracer(&world);
    let mut flood = world.peer.flood(SERVER, clients_of(7, 60)).unwrap();
    let answered = answered(&mut flood, SHORT);
    let queued = requests(&world);
    let kernel = sock::counters(&world.ns).unwrap();
    assert_eq!(answered, queued + kernel["TcpExt.SyncookiesSent"].unsigned_abs());
    // The last ones: their SYNs came when the queue was full.
    flood.complete(60 - accept..60).unwrap();
    let _accepted: Vec<_> = (0..accept).map(|_| server.accept().unwrap()).collect();
    let report = report(&world, tracer);
    (listener(&report).clone(), sock::counters(&world.ns).unwrap(), queued)
}

fn without_cookies_the_rest_is_dropped() {
    let (row, kernel, queued) = flood_a_small_queue(0, 0);
    assert!((8..=9).contains(&queued), "{queued}");
    assert_eq!(kernel["TcpExt.TCPReqQFullDrop"].unsigned_abs(), 60 - queued);
    assert!(row["live"].is_null() || row["live"] == queued, "{row}");
    assert_eq!((&row["completed"]["count"], &row["cookies"]), (&0.into(), &0.into()), "{row}");
    assert!(row["sources"].is_null() || row["sources"].as_u64().unwrap() <= 60, "{row}");
}

fn with_cookies_the_rest_gets_cookies() {
    let (row, kernel, queued) = flood_a_small_queue(1, 5);
    assert_eq!(kernel["TcpExt.SyncookiesSent"].unsigned_abs(), 60 - queued);
    assert_eq!(kernel["TcpExt.SyncookiesRecv"], 5);
    assert_eq!((&row["cookies"], &row["completed"]["count"]), (&5.into(), &0.into()), "{row}");
    assert!(row["live"].is_null() || row["live"] == queued, "{row}");
}

fn cookies_for_all_leave_no_request() {
    let (row, kernel, queued) = flood_a_small_queue(2, 5);
    assert_eq!((queued, kernel["TcpExt.SyncookiesSent"], kernel["TcpExt.SyncookiesRecv"]), (0, 60, 5));
    assert_eq!((&row["cookies"], &row["completed"]["count"]), (&5.into(), &0.into()), "{row}");
    assert!(row["live"].is_null() || row["live"] == 0, "{row}");
    assert_deaths(&row, 0, 0);
}

fn bad_cookies_are_counted() {
    let world = world(2, THRICE);
    let _server = world.listen(&backlog(8)).unwrap();
    let tracer = tracer(&world);
    let mut flood = world.peer.flood(SERVER, clients_of(7, 20)).unwrap();
    assert_eq!(answered(&mut flood, PATIENCE), 20);
    for client in &flood.clients[..7] {
        client.send_raw(tcp_trace_testkit::Flags::ACK, 1, 1, &[]).unwrap();
    }
    assert_eq!(sock::counters(&world.ns).unwrap()["TcpExt.SyncookiesFailed"], 7);
    let report = report(&world, tracer);
    assert_eq!(report["half_open"]["completed"]["count"], 0);
}

/// Three fit into an accept queue of 2; the others' last ACK is dropped, and their requests stay half open, which is
/// not the clients' fault.
fn a_full_accept_queue_is_no_silent_client() {
    let world = world(0, THRICE);
    let server = world.listen(&backlog(2)).unwrap();
    let tracer = tracer(&world);
    let mut first = world.peer.flood(SERVER, clients_of(7, 2)).unwrap();
    first.complete(0..2).unwrap();
    // Both SYNs come before the first ACK: a full accept queue takes no SYN either.
    let mut more = world.peer.flood(SERVER, clients_of(8, 2)).unwrap();
    assert_eq!(answered(&mut more, SHORT), 2);
    more.complete(0..2).unwrap();
    // The SYN-ACK is repeated after 1 s, and the ACK dropped once more.
    sleep(Duration::from_millis(1_300));
    more.complete(1..2).unwrap();
    assert_eq!(requests(&world), 1);
    let kernel = sock::counters(&world.ns).unwrap();
    assert!(kernel["TcpExt.ListenOverflows"] >= 1, "{kernel:?}");
    let report = report(&world, tracer);
    let row = listener(&report);
    assert_eq!(row["completed"]["count"], 3, "{row}");
    assert!(row["live"].is_null() || row["live"] == 1, "{row}");
    assert_eq!(row["cause"], "accept_queue_full", "{row}");
    assert_eq!(row["accept_queue"], json!({"length": 3, "limit": 2}), "{row}");
    drop(server);
}

fn prefixes_and_sources_of_five_hundred() {
    let world = world(0, THRICE);
    let _server = world.listen(&backlog(1_024)).unwrap();
    let tracer = tracer(&world);
    let clients =
        clients_of(7, 250).chain(clients_of(9, 150)).chain((20..120).flat_map(|third| clients_of(third, 1)));
    let mut flood = world.peer.flood(SERVER, clients).unwrap();
    assert_eq!(answered(&mut flood, PATIENCE), 500);
    assert_eq!(requests(&world), 500);
    let report = report(&world, tracer);
    let row = listener(&report);
    assert!(row["live"].is_null() || row["live"] == 500, "{row}");
    assert_eq!(faults_of_prefixes(row, &[("198.18.7.0/24", 250), ("198.18.9.0/24", 150)]), [""; 0], "{row}");
    let sources = row["sources"].as_u64().unwrap();
    assert!((450..=550).contains(&sources), "{sources} sources estimated, in truth 500");
}

/// The greatest prefixes come first, with their requests.
fn faults_of_prefixes(row: &Value, greatest: &[(&str, u64)]) -> Vec<String> {
    let prefixes = row["prefixes"].as_array().cloned().unwrap_or_default();
    let rows = prefixes
        .iter()
        .map(|row| (row["prefix"].as_str().unwrap_or(""), row["requests"].as_u64().unwrap_or(0)));
    let rows: Vec<(&str, u64)> = rows.collect();
    let wrong = greatest.iter().enumerate().filter(|(at, truth)| rows.get(*at) != Some(truth));
    let mut faults: Vec<String> =
        wrong.map(|(at, truth)| format!("{:?} at {at}, in truth {truth:?}", rows.get(at))).collect();
    if rows.iter().map(|(_, requests)| requests).sum::<u64>() > 500 {
        faults.push("more requests than SYNs".into());
    }
    faults
}

fn the_comparisons_find_faults() {
    let clean = [""; 0];
    let row =
        |expired: Value, reset: Value, dead: Value| json!({"expired": expired, "reset": reset, "dead": dead});
    assert_eq!(faults_of_deaths(&row(json!(35), json!(15), json!(null)), 35, 15), clean);
    assert_eq!(faults_of_deaths(&row(json!(35), json!(15), json!(0)), 35, 15), clean);
    assert_eq!(faults_of_deaths(&row(json!(null), json!(null), json!(50)), 35, 15), clean);
    assert_eq!(faults_of_deaths(&row(json!(null), json!(15), json!(35)), 35, 15), clean);
    assert_eq!(faults_of_deaths(&row(json!(null), json!(null), json!(null)), 35, 15), clean);
    assert_eq!(
        faults_of_deaths(&row(json!(null), json!(null), json!(49)), 35, 15),
        ["49 dead in all, in truth 50"]
    );
    assert_eq!(
        faults_of_deaths(&row(json!(36), json!(14), json!(null)), 35, 15),
        ["Some(36) expired, in truth 35"],
        "the sum is right"
    );
    let kernel: HashMap<String, i64> = COUNTERS.iter().map(|(_, name)| ((*name).to_owned(), 3)).collect();
    let mut counters: Value = COUNTERS.iter().map(|(name, _)| ((*name).to_owned(), Value::from(3))).collect();
    counters["netns"] = 5.into();
    let report = |row: &Value| json!({"half_open": {"namespaces": [row]}});
    assert_eq!(faults_of_counters(&report(&counters), 5, &kernel), clean);
    assert_eq!(faults_of_counters(&report(&counters), 6, &kernel), ["no counters of namespace 6"]);
    counters["listen_drops"] = Value::Null;
    let faults = faults_of_counters(&report(&counters), 5, &kernel);
    assert_eq!(faults, ["listen_drops null, TcpExt.ListenDrops 3"], "counters are files: never unknown");
    let prefixes = json!({"prefixes": [{"prefix": "198.18.7.0/24", "requests": 250}]});
    assert_eq!(faults_of_prefixes(&prefixes, &[("198.18.7.0/24", 250)]), clean);
    assert_eq!(faults_of_prefixes(&prefixes, &[("198.18.7.0/24", 249)]).len(), 1);
}

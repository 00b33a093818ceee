//! Every way in which a connection lives and dies, and what `stream --closed` says of it.
//!
//! A scenario plays in a namespace of its own and says what its obituaries must be; a test plays many before one
//! tracer. In what is expected an array means one of its values.

mod attempts;
mod closes;
mod holders;
mod listeners;
mod resets;

use std::{net::SocketAddr, ops::RangeInclusive};

use serde_json::{Value, json};
use tcp_trace_testkit::{NetNs, clock::monotonic_ns};

use crate::{Test, tracer::Tracer};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_comparison_finds_every_fault", the_comparison_finds_every_fault),
    ("orderly_closes", || play(closes::SCENARIOS)),
    ("half_closed_and_orphaned", || play(closes::HALVES)),
    ("resets", || play(resets::SCENARIOS)),
    ("aborts", || play(resets::ABORTS)),
    ("attempts", || play(attempts::SCENARIOS)),
    ("holders", || play(holders::SCENARIOS)),
    ("listeners", || play(listeners::SCENARIOS)),
    ("multipath", listeners::multipath),
];

/// What the kernel does after a `send_*` of the peer returned, it does within this time.
const SLACK_NS: u64 = 50_000_000;

type Scenario = (&'static str, fn() -> Scene);

/// What has been played.
struct Scene {
    /// Kept, as the kernel gives the number of a namespace that is gone to the next one.
    ns: NetNs,
    obituaries: Vec<Expected>,
}

/// What an obituary must say.
#[derive(Debug)]
struct Expected {
    local: SocketAddr,
    peer: SocketAddr,
    fields: Value,
    /// The keys of `states`, but for a server's SYN_RECV.
    states: Option<&'static [&'static str]>,
    /// JSON pointers to times, and their bounds in ns.
    times: Vec<(&'static str, RangeInclusive<u64>)>,
}

impl Expected {
    /// An obituary of a whole life, with an owner that is this test's process.
    fn of(local: SocketAddr, peer: SocketAddr, fields: Value) -> Self {
        let mut all = json!({
            "event": "tcp.connection_closed",
            "family": if local.is_ipv4() { "ipv4" } else { "ipv6" },
            "process": {"pid": std::process::id()},
            "complete": true
        });
        merge(&mut all, fields);
        if all["role"] == "server" {
            all["connect_ns"] = Value::Null;
        } else {
            all["half_open_ns"] = Value::Null;
        }
        Self { local, peer, fields: all, states: None, times: Vec::new() }
    }

    fn states(self, states: &'static [&'static str]) -> Self {
        Self { states: Some(states), ..self }
    }

    fn time(mut self, place: &'static str, bounds: RangeInclusive<u64>) -> Self {
        self.times.push((place, bounds));
        self
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// When something happened, in `CLOCK_MONOTONIC` ns: after the first and before the second.
#[derive(Clone, Copy, Debug)]
struct Moment(u64, u64);

/// Does it, and notes when.
fn timed<T>(what: impl FnOnce() -> T) -> (T, Moment) {
    let before = monotonic_ns();
    let result = what();
    (result, Moment(before, monotonic_ns()))
}

impl Moment {
    /// How long something lasted that this began and `end` ended.
    fn until(self, end: Self) -> RangeInclusive<u64> {
        end.0.saturating_sub(self.1 + SLACK_NS)..=end.1 - self.0 + SLACK_NS
    }
}

fn play(scenarios: &[Scenario]) {
    let tracer = Tracer::start(&["stream", "--closed", "--json"]);
    let scenes: Vec<_> = scenarios.iter().map(|(name, scenario)| (name, scenario())).collect();
    let lines = tracer.lines();
    let mut faults = Vec::new();
    for (name, scene) in scenes {
        let ours: Vec<&Value> =
            lines.iter().filter(|line| line["netns"] == scene.ns.inum() && !is_older(line)).collect();
        faults
            .extend(faults_of(&scene.obituaries, &ours).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A connection that began before anybody looked, in a namespace that had the number of one of ours before it: its
/// device is gone, and the kernel gives up what was sent there.
fn is_older(line: &Value) -> bool {
    line["role"].is_null() && line["ending"] == "unreachable" && line["complete"] == false
}

fn faults_of(obituaries: &[Expected], lines: &[&Value]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut left: Vec<&Value> = lines.to_vec();
    for expected in obituaries {
        let is_it =
            |line: &&Value| is_at(&line["local"], expected.local) && is_at(&line["peer"], expected.peer);
        match left.iter().position(is_it) {
            None => faults.push(format!("no obituary of {} - {}", expected.local, expected.peer)),
            Some(at) => compare(expected, left.remove(at), &mut faults),
        }
    }
    faults.extend(left.iter().map(|line| format!("not expected: {line}")));
    faults
}

fn is_at(endpoint: &Value, address: SocketAddr) -> bool {
    endpoint["address"] == address.ip().to_string() && endpoint["port"] == address.port()
}

fn address_of(endpoint: &Value) -> SocketAddr {
    let ip = endpoint["address"].as_str().unwrap().parse().unwrap();
    SocketAddr::new(ip, u16::try_from(endpoint["port"].as_u64().unwrap()).unwrap())
}

fn compare(expected: &Expected, line: &Value, faults: &mut Vec<String>) {
    let before = faults.len();
    differences("", &expected.fields, line, faults);
    if let Some(states) = expected.states {
        let server = line["role"] == "server";
        let of_interest = |state: &&str| !(server && *state == "SYN_RECV");
        let found = line["states"].as_object();
        let mut found: Vec<&str> = found.into_iter().flatten().map(|(state, _)| state.as_str()).collect();
        found.retain(of_interest);
        found.sort_unstable();
        let mut wanted: Vec<&str> = states.iter().copied().filter(of_interest).collect();
        wanted.sort_unstable();
        if found != wanted {
            faults.push(format!("states {found:?}, should be {wanted:?}"));
        }
    }
    for (place, bounds) in &expected.times {
        let found = line.pointer(place).and_then(Value::as_u64);
        if !found.is_some_and(|ns| bounds.contains(&ns)) {
            faults.push(format!("{place} is {found:?} ns, in truth {bounds:?}"));
        }
    }
    if faults.len() > before {
        faults.push(format!("  in {line}"));
    }
}

fn differences(place: &str, expected: &Value, found: &Value, faults: &mut Vec<String>) {
    match expected {
        Value::Object(fields) => {
            for (key, value) in fields {
                differences(&format!("{place}/{key}"), value, &found[key], faults);
            }
        }
        Value::Array(choice) if choice.contains(found) => {}
        expected if expected == found => {}
        expected => faults.push(format!("{place} is {found}, should be {expected}")),
    }
}

fn the_comparison_finds_every_fault() {
    let [local, peer]: [SocketAddr; 2] =
        ["198.18.0.1:7001", "198.18.7.1:4000"].map(|text| text.parse().unwrap());
    let line = json!({
        "event": "tcp.connection_closed", "family": "ipv4", "netns": 5,
        "local": {"address": "198.18.0.1", "port": 7001}, "peer": {"address": "198.18.7.1", "port": 4000},
        "process": {"pid": std::process::id(), "comm": "live", "owner_source": "accept"},
        "role": "server", "closer": "passive", "ending": "closed", "connect_ns": null, "half_open_ns": 40_000,
        "states": {"SYN_RECV": 9_000, "ESTABLISHED": 2_000, "CLOSE_WAIT": 300_000_000, "LAST_ACK": 1_000},
        "complete": true
    });
    let expected = |ending: Value| {
        let fields = json!({"role": "server", "closer": "passive", "ending": ending});
        let (began, ended) = (Moment(10, 20), Moment(300_000_000, 300_000_100));
        let expected = Expected::of(local, peer, fields).states(&["ESTABLISHED", "CLOSE_WAIT", "LAST_ACK"]);
        expected.time("/states/CLOSE_WAIT", began.until(ended))
    };
    let faults = |obituaries: Vec<Expected>, lines: &[&Value]| faults_of(&obituaries, lines);
    assert_eq!(faults(vec![expected(json!("closed"))], &[&line]), [""; 0]);
    assert_eq!(faults(vec![expected(json!(["orphaned", "closed"]))], &[&line]), [""; 0]);
    assert_eq!(
        faults(vec![expected(json!("time_wait"))], &[&line])[0],
        r#"/ending is "closed", should be "time_wait""#
    );
    assert_eq!(
        faults(vec![expected(json!("closed"))], &[]),
        ["no obituary of 198.18.0.1:7001 - 198.18.7.1:4000"]
    );
    assert_eq!(faults(Vec::new(), &[&line]), [format!("not expected: {line}")]);
    let mut late = line.clone();
    late["states"]["CLOSE_WAIT"] = 500_000_000.into();
    assert!(
        faults(vec![expected(json!("closed"))], &[&late])[0]
            .starts_with("/states/CLOSE_WAIT is Some(500000000)")
    );
    late["states"] = json!({"ESTABLISHED": 2_000});
    assert!(
        faults(vec![expected(json!("closed"))], &[&late])[0]
            .starts_with(r#"states ["ESTABLISHED"], should be"#)
    );
}

//! What a reader of a recording may ask for: windows and filters.

use serde_json::Value;

use crate::{schema::Schema, tracer::incident};

fn reports(command: &str) -> Vec<Value> {
    Schema::of_reports().documents(&incident(&format!("report --json {command}")).good())
}

fn events(filter: &str) -> Vec<Value> {
    Schema::of_events().documents(&incident(&format!("stream --json {filter}")).good())
}

#[track_caller]
fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} of {value}"))
}

#[test]
fn reports_of_intervals_add_up_to_the_report_of_the_whole() {
    let whole = reports("").remove(0);
    let parts = reports("--interval 2s");
    assert!(parts.len() > 3, "{} reports", parts.len());
    for path in [
        "/loss/seen",
        "/loss/delivered",
        "/loss/filtered",
        "/loss/lost",
        "/loss/missed",
        "/states/ESTABLISHED/entered",
        "/states/CLOSE_WAIT/duration/count",
        "/half_open/completed/count",
        "/time_wait/entered",
    ] {
        let sum: u64 = parts.iter().map(|part| number(part, path)).sum();
        assert_eq!(sum, number(&whole, path), "{path}");
    }
    for pair in parts.windows(2) {
        assert_eq!(pair[0]["window"]["end"], pair[1]["window"]["start"], "no gap between windows");
    }
    assert_eq!(parts[0]["window"]["start"], whole["window"]["start"]);
    assert_eq!(parts.last().map(|last| &last["window"]["end"]), Some(&whole["window"]["end"]));
    let live = |report: &Value| number(report, "/close_wait/live");
    assert_eq!(parts.last().map(live), Some(live(&whole)), "what is there now is not a matter of the window");
}

#[test]
fn an_interval_longer_than_the_recording_gives_one_report() {
    assert_eq!(reports("--interval 1h").len(), 1);
}

/// The events that a filter must let through, told from the events of the whole recording.
fn expect(filter: &str, wanted: impl Fn(&Value) -> bool) -> usize {
    let all = events("");
    let wanted: Vec<_> = all.iter().filter(|event| wanted(event)).collect();
    let mut filtered = events(filter);
    // An event that was held back until its connection's final tuple was known comes later.
    filtered.sort_by_key(|event| all.iter().position(|other| other == event));
    assert_eq!(filtered.iter().collect::<Vec<_>>(), wanted, "{filter}");
    wanted.len()
}

/// The cookies of the connections that have an event like this.
fn cookies(wanted: impl Fn(&Value) -> bool) -> Vec<u64> {
    events("").iter().filter(|event| wanted(event)).filter_map(|event| event["cookie"].as_u64()).collect()
}

#[test]
fn ports_are_those_of_the_whole_connection() {
    let local = |port: u16| move |event: &Value| event["local"]["port"] == port;
    assert_eq!(expect("-L 8080", local(8080)), 39);
    let client = cookies(local(40_514));
    let of_client = |event: &Value| event["cookie"].as_u64().is_some_and(|cookie| client.contains(&cookie));
    assert_eq!(expect("-L 40514", of_client), 5, "also CLOSE -> SYN_SENT, which had no local port yet");
    assert_eq!(expect("-D 5432", |event| event["peer"]["port"] == 5432), 6);
    assert_eq!(expect("-D 5432,9200", |event| [5432, 9200].iter().any(|p| event["peer"]["port"] == *p)), 10);
    assert_eq!(expect("-D 1", |_| false), 0);
}

#[test]
fn families_are_what_the_ends_speak() {
    assert_eq!(expect("-6", |event| event["family"] == "ipv6"), 6);
    assert_eq!(expect("-4", |event| event["family"] == "ipv4"), 93);
}

#[test]
fn a_process_is_the_owner_and_never_who_was_on_the_cpu() {
    let of = |pid: u32| move |event: &Value| event["process"]["pid"] == pid;
    assert_eq!(expect("-p 3120", of(3120)), 8);
    assert_eq!(expect("-p 1", |_| false), 0);
    // Of the leaking sockets it is only inferred whose they are, which is better than to hide the leak.
    assert_eq!(expect("-p 2301", of(2301)), 39);
}

#[test]
fn a_report_says_how_much_its_filter_turned_away() {
    let report = reports("-D 5432").remove(0);
    assert_eq!(number(&report, "/loss/delivered"), 6);
    assert_eq!(number(&report, "/loss/filtered"), 40 + 99 - 6);
    assert_eq!(report["loss"]["balanced"], true);
    assert_eq!(report["connect"].as_array().map(Vec::len), Some(1));
}

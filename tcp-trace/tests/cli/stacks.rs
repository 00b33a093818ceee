//! Where connections were opened: what a recording with stacks says to people and to programs.

use serde_json::json;
use tcp_trace_common::state::{CLOSE, CLOSE_WAIT, ESTABLISHED, LAST_ACK, SYN_SENT};
use tcp_trace_core::record::kind;

use crate::{
    schema::Schema,
    tape::{MS, Process, SECOND, Socket, Tape, session},
    tracer::{Recording, replay},
};

const POOL: Process = Process { pid: 700, comm: b"pool" };

/// Five connections that leak: three opened in one place, one in another one, one nobody knows where; and one that ends.
fn recording() -> Vec<u8> {
    let mut session = session();
    session.programs = vec!["stack_state".to_owned()];
    let mut tape = Tape::new(session);
    let mut sockets = Vec::new();
    for cookie in 1..=6 {
        let local = format!("10.0.0.1:{}", 40_000 + cookie);
        let mut socket = Socket::new(cookie, CLOSE, &local, "10.0.0.2:80");
        tape.enter(&mut socket, SYN_SENT, Some(POOL));
        tape.enter(&mut socket, ESTABLISHED, None);
        tape.enter(&mut socket, CLOSE_WAIT, None);
        sockets.push(socket);
    }
    tape.enter(&mut sockets[5], LAST_ACK, Some(POOL));
    tape.enter(&mut sockets[5], CLOSE, None);
    let frame = |function: &str, module: &str, line: Option<u32>| {
        let file = line.map(|_| "/src/pool/src/fetch.c");
        json!({"function": function, "module": module, "offset": 4660, "file": file, "line": line, "inlined": false})
    };
    let libc = frame("connect", "/lib/libc.so.6", None);
    let cut_off =
        "built without frame pointers: retry fetch.c:12 keeps none, and what called it is not there";
    let facts = json!({
        "until": tape.now,
        "stacks": [
            {"number": 0, "frames": [libc, frame("fetch", "/srv/pool", Some(88)), frame("main", "/srv/pool", Some(141))],
             "cut_off": null, "interpreter": null},
            {"number": 1, "frames": [libc, frame("\u{1b}[31mretry", "/srv/pool", Some(12))],
             "cut_off": cut_off, "interpreter": "CPython"},
        ],
        "opened": [[1, tape.now, "connected", 0], [2, tape.now, "connected", 0], [3, tape.now, "connected", 1],
                   [4, tape.now, "connected", 0], [6, 0, "connected", 0]],
        "lost": 2,
        "omitted": 0,
    });
    tape.push(kind::STACKS, facts.to_string().as_bytes());
    tape.wait(20 * SECOND + MS);
    tape.end()
}

#[test]
fn people_read_where_a_leak_comes_from() {
    let table = replay(&Recording::new("stacks", &recording()), "report").good();
    let expected = "
    3 connected at fetch fetch.c:88 ← main fetch.c:141
    1 connected at \\u{1b}[31mretry fetch.c:12 (functions of CPython, not of what
      it runs)
      stack cut off: built without frame pointers: retry fetch.c:12 keeps none,
        and what called it is not there
    1: where they were opened is not known
    LOCAL ← PEER";
    assert!(table.contains(expected), "{table}");
    assert!(table.contains("2 stacks found no room in the kernel's buffer"), "{table}");
}

#[test]
fn programs_read_every_frame() {
    let recording = Recording::new("stacks-json", &recording());
    let report = Schema::of_reports().documents(&replay(&recording, "report --json").good()).remove(0);
    let process = &report["close_wait"]["processes"][0];
    let counts: Vec<_> = process["stacks"].as_array().unwrap().iter().map(|stack| &stack["count"]).collect();
    assert_eq!(counts, [3, 1, 1]);
    assert_eq!(process["stacks"][0]["frames"][1]["line"], 88);
    assert_eq!(process["stacks"][2]["frames"], json!(null));
    let places: Vec<_> =
        process["sockets"].as_array().unwrap().iter().map(|socket| &socket["stack"]).collect();
    assert_eq!(places, [&json!(0), &json!(0), &json!(1), &json!(0), &json!(null)]);
    let closed =
        Schema::of_closed().documents(&replay(&recording, "stream --closed --json").good()).remove(0);
    assert_eq!(closed["opened_at"]["kind"], "connected");
    assert_eq!(closed["opened_at"]["frames"][2]["function"], "main");
}

#[test]
fn finished_connections_have_a_column_for_it() {
    let recording = Recording::new("stacks-closed", &recording());
    let table = replay(&recording, "stream --closed").good();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].ends_with(" OPENED AT"), "{table}");
    assert!(lines[1].ends_with(" connected at fetch fetch.c:88 ← main fetch.c:141"), "{table}");
    let csv = replay(&recording, "stream --closed -s").good();
    assert!(csv.lines().next().unwrap().ends_with(",OPENED AT"), "{csv}");
}

//! `stream --closed`: one line for each finished connection.

use serde_json::{Value, json};
use tcp_trace_common::state;

use crate::{
    schema::{self, Schema},
    stream::fields,
    tape::{Socket, Tape, session},
    tracer::{Recording, assert_golden, incident, replay},
};

fn closed() -> Vec<Value> {
    Schema::of_closed().documents(&incident("stream --closed --json").good())
}

#[test]
fn the_tables_are_what_they_were() {
    assert_golden("closed.txt", incident("stream --closed").good().as_bytes());
    assert_golden("closed-wide.txt", incident("stream --closed -w -T -t").good().as_bytes());
    assert_golden("closed.csv", incident("stream --closed -s").good().as_bytes());
    assert_golden("closed.json", incident("stream --closed --json").good().as_bytes());
}

#[test]
fn every_row_of_csv_has_the_same_fields() {
    let csv = incident("stream --closed -s").good();
    let head = "PID,COMM,LADDR,LPORT,RADDR,RPORT,ROLE,CLOSER,ENDING,LIFE_MS,OPEN_MS,SENT,RECV,RETR";
    assert_eq!(csv.lines().next(), Some(head));
    assert!(csv.lines().all(|row| fields(row).len() == 14), "{csv}");
    assert!(csv.lines().skip(1).eq(incident("stream --closed -s").good().lines().skip(1)));
}

#[test]
fn each_line_of_json_says_what_the_table_says() {
    let documents = closed();
    let table = incident("stream --closed -s").good();
    assert_eq!(documents.len(), table.lines().count() - 1);
    for (closed, row) in documents.iter().zip(table.lines().skip(1)) {
        let cells = fields(row);
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let number = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
        let ms = |value: &Value| {
            value.as_u64().map_or_else(|| "-".to_owned(), |ns| format!("{:.3}", ns as f64 / 1e6))
        };
        assert_eq!(cells[6..9], [&closed["role"], &closed["closer"], &closed["ending"]].map(word), "{row}");
        assert_eq!(cells[9], ms(&closed["duration_ns"]), "{row}");
        let open = [&closed["connect_ns"], &closed["half_open_ns"]].map(ms);
        assert!(open.contains(&cells[10]), "{row}");
        let counts = [&closed["bytes_sent"], &closed["bytes_received"], &closed["retransmits"]];
        assert_eq!(cells[11..], counts.map(number), "{row}");
    }
}

#[test]
fn the_document_tells_a_whole_life() {
    let documents = closed();
    let of = |cookie: u64| {
        documents.iter().find(|closed| closed["cookie"] == cookie).unwrap_or_else(|| panic!("{cookie}"))
    };
    let worker = of(245);
    assert_eq!(worker["process"], json!({"pid": 813, "comm": "nginx", "owner_source": "task"}));
    assert_eq!(worker["opened_by"], json!({"pid": 812, "comm": "nginx", "owner_source": "listen"}));
    assert_eq!(
        (&worker["half_open_ns"], &worker["half_open_source"]),
        (&json!(31_000_000), &json!("sock_ops"))
    );
    assert_eq!(worker["complete"], true);
    let states: u64 =
        worker["states"].as_object().into_iter().flatten().filter_map(|(_, ns)| ns.as_u64()).sum();
    assert_eq!(worker["duration_ns"], states, "no gap");
    let slow = of(270);
    assert_eq!((&slow["ending"], &slow["half_open_source"]), (&json!("linger_zero"), &json!("synack")));
    assert!(slow["duration_ns"].as_u64() > slow["half_open_ns"].as_u64(), "a life begins with its SYN");
    let old = of(13);
    assert_eq!((&old["ending"], &old["container"]["name"]), (&json!("orphaned"), &json!("orders")));
    assert_eq!(
        (&old["role"], &old["duration_ns"], &old["complete"]),
        (&Value::Null, &Value::Null, &json!(false))
    );
    assert_eq!((&of(300)["ending"], &of(300)["unread_bytes"]), (&json!("aborted_unread"), &json!(1_000)));
    assert_eq!(of(302)["opened_by"]["comm"], "java");
    assert_eq!(
        of(302)["process"]["comm"],
        Value::Null,
        "not of who killed it, and who had accepted it nobody told"
    );
    assert!(documents.iter().all(|closed| closed["cookie"] != 220_u64), "what is not closed is not finished");
}

#[test]
fn what_is_not_known_is_null_or_a_dash() {
    let mut tape = Tape::new(session());
    let mut socket = Socket::new(1, state::ESTABLISHED, "10.0.0.1:1", "10.0.0.2:2");
    (socket.wire.flags, socket.wire.cookie, socket.wire.netns, socket.wire.cgroup_id) = (0, 0, 0, 0);
    tape.enter(&mut socket, state::CLOSE, None);
    let recording = Recording::new("closed-unknown", &tape.end());
    let closed =
        Schema::of_closed().documents(&replay(&recording, "stream --closed --json").good()).remove(0);
    let null = [
        "cookie",
        "netns",
        "opened_by",
        "container",
        "cgroup_id",
        "role",
        "closer",
        "ending",
        "duration_ns",
        "connect_ns",
        "half_open_ns",
        "half_open_source",
        "retransmits",
        "srtt_us",
    ];
    assert!(null.iter().all(|key| closed[key].is_null()), "{closed}");
    let row = replay(&recording, "stream --closed").good();
    let cells: Vec<_> = row.lines().nth(1).expect("a row").split_ascii_whitespace().collect();
    assert_eq!(cells[..11], ["-", "-", "10.0.0.1", "1", "10.0.0.2", "2", "-", "-", "-", "-", "-"]);
}

#[test]
fn a_filter_lets_finished_connections_through_by_their_owner_and_ends() {
    let count = |filter: &str| incident(&format!("stream --closed {filter}")).good().lines().count() - 1;
    assert_eq!((count("-p 3120"), count("-L 9000"), count("-6"), count("-D 1")), (4, 1, 1, 0));
}

/// The page that explains them may not forget one.
#[test]
fn every_ending_is_explained() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/output-json.md");
    let page = std::fs::read_to_string(page).expect("docs/output-json.md");
    let schema = schema::read("closed.schema.json");
    let endings = schema["properties"]["ending"]["enum"].as_array().expect("an enum");
    assert_eq!(endings.len(), 16);
    for ending in endings.iter().filter_map(Value::as_str) {
        assert!(page.contains(&format!("| `{ending}` |")), "{ending} is not explained");
    }
}

//! `report`: the table and the document.

use serde_json::{Value, json};
use tcp_trace_common::state::{CLOSE, ESTABLISHED, FIN_WAIT1, FIN_WAIT2};

use crate::{
    incident,
    schema::Schema,
    tape::{MS, Process, Socket, Tape, client_life, session},
    tracer::{Recording, assert_golden, incident, replay},
};

#[test]
fn the_table_is_what_it_was() {
    let table = incident("report").good();
    assert_golden("report.txt", table.as_bytes());
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end of a line");
    }
}

#[test]
fn the_document_is_valid_and_answers_the_questions() {
    let output = incident("report --json").good();
    let reports = Schema::of_reports().documents(&output);
    let [report] = reports.as_slice() else { panic!("one report: {output}") };
    assert_eq!(report["loss"]["lost"], 4);
    assert_eq!(report["loss"]["filtered"], 40);
    let leak = &report["close_wait"];
    assert_eq!((&leak["lingering"], &leak["processes"][0]["process"]["comm"]), (&json!(7), &json!("java")));
    let peers: Vec<_> = leak["processes"][0]["peers"].as_array().expect("peers").iter().collect();
    assert_eq!(peers.iter().map(|peer| &peer["count"]).collect::<Vec<_>>(), [4, 2, 1]);
    assert_eq!(report["half_open"]["completed"]["max_ns"], 3300 * MS);
    assert_eq!(report["half_open"]["cookies"], 1);
    let refused = report["connect"].as_array().expect("rows").iter().find(|row| row["refused"] == 3);
    assert_eq!(refused.expect("the refused one")["peer"], json!({"address": "10.0.3.9", "port": 5432}));
    assert_eq!(report["time_wait"]["entered"], 7);
    let unknown = report["processes"].as_array().expect("rows").iter().find(|row| row["process"].is_null());
    assert_eq!(unknown.expect("the unknown owners")["total"], 3);
}

#[test]
fn what_lingers_is_a_matter_of_close_wait_after() {
    let lingering = |flags: &str| {
        let output = incident(&format!("report --json {flags}")).good();
        let report = Schema::of_reports().documents(&output).remove(0);
        (report["close_wait"]["lingering"].clone(), report["close_wait"]["after_ns"].clone())
    };
    assert_eq!(lingering("--close-wait-after 22500ms"), (json!(2), json!(22_500_000_000_u64)));
    assert_eq!(lingering("--close-wait-after 1h"), (json!(0), json!(3_600_000_000_000_u64)));
    let table = incident("report --close-wait-after 1h").good();
    assert!(table.contains("7 now, 0 of them for over 1h00m\n\nTIME_WAIT"), "{table}");
}

#[test]
fn twice_the_same_recording_gives_the_same_bytes() {
    let recording = Recording::new("twice", &incident::recording());
    for command in ["report", "report --json", "report --interval 2s", "stream", "stream --json"] {
        let (first, second) = (replay(&recording, command), replay(&recording, command));
        assert_eq!((first.stdout, first.stderr), (second.stdout, second.stderr), "{command}");
    }
}

#[test]
fn a_recording_without_trouble_has_no_sections_of_trouble() {
    let mut tape = Tape::new(session());
    let curl = Process { pid: 4, comm: b"curl" };
    client_life(&mut tape, curl, 1, "10.0.0.1:40000", "10.0.0.2:80", 5 * MS);
    let table = replay(&Recording::new("calm", &tape.end()), "report").good();
    for title in ["Half-open", "CLOSE_WAIT:", "Not available", "lost:"] {
        assert!(!table.contains(title), "{title}\n{table}");
    }
}

#[test]
fn a_recording_in_which_nothing_happened_has_a_report_too() {
    let recording = Recording::new("nothing", &Tape::new(session()).end());
    let table = replay(&recording, "report").good();
    assert!(table.contains("0 transitions seen = 0 delivered + 0 filtered + 0 lost (balanced)"), "{table}");
    let report = Schema::of_reports().documents(&replay(&recording, "report --json").good()).remove(0);
    assert_eq!(report["states"]["ESTABLISHED"]["duration"]["max_ns"], Value::Null);
}

#[test]
fn long_tables_are_cut_and_say_so() {
    let mut tape = Tape::new(session());
    let curl = Process { pid: 4, comm: b"curl" };
    for number in 0..25 {
        let (local, peer) = (format!("10.0.0.1:{}", 40_000 + number), format!("10.0.0.2:{}", 80 + number));
        client_life(&mut tape, curl, 1 + number, &local, &peer, MS);
    }
    let recording = Recording::new("long", &tape.end());
    let table = replay(&recording, "report").good();
    assert!(table.contains("  … and 5 more (--json has all)\n"), "{table}");
    let report = Schema::of_reports().documents(&replay(&recording, "report --json").good()).remove(0);
    assert_eq!(report["connect"].as_array().map(Vec::len), Some(25));
}

#[test]
fn an_orphan_in_fin_wait2_is_not_a_socket_in_time_wait() {
    let mut tape = Tape::new(session());
    let mut socket = Socket::new(1, ESTABLISHED, "10.0.0.1:40000", "10.0.0.2:80");
    for state in [FIN_WAIT1, FIN_WAIT2, CLOSE] {
        tape.enter(&mut socket, state, None);
    }
    let recording = Recording::new("orphan", &tape.end());
    let report = Schema::of_reports().documents(&replay(&recording, "report --json").good()).remove(0);
    assert_eq!((&report["time_wait"]["entered"], &report["time_wait"]["orphaned"]), (&json!(0), &json!(1)));
    let table = replay(&recording, "report").good();
    assert!(table.contains("\nFIN_WAIT2: 1 orphaned, which may enter TIME_WAIT unseen\n"), "{table}");
}

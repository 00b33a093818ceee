//! Findings on the command line: `--fail-on`, `--config`, and what text and JSON have of them.

use std::fs;

use serde_json::{Value, json};
use tcp_trace_common::state::{CLOSE, SYN_SENT};

use crate::{
    incident,
    schema::Schema,
    tape::{MS, Process, SECOND, Socket, Tape, client_life, session},
    tracer::{Recording, Run, incident as report_of_incident, replay},
};

const BATCH: Process = Process { pid: 3120, comm: b"nightly-import" };
const ECONNREFUSED: u16 = 111;

/// `count` attempts that are refused.
fn refused(tape: &mut Tape, first: u64, count: u64) {
    for number in 0..count {
        let mut socket = Socket::new(first + number, CLOSE, "0.0.0.0:0", "10.0.3.9:5432");
        tape.enter(&mut socket, SYN_SENT, Some(BATCH));
        socket.becomes(&format!("10.0.0.4:{}", 39_000 + number), "10.0.3.9:5432");
        socket.wire.sk_err = ECONNREFUSED;
        tape.enter(&mut socket, CLOSE, None);
        tape.wait(MS);
    }
}

/// A configuration file for the length of a test.
fn config(name: &str, text: &str) -> Recording {
    Recording::new(&format!("config-{name}"), text.as_bytes())
}

fn with_config(recording: &Recording, command: &str, config: &Recording) -> Run {
    replay(recording, &format!("{command} --config {}", config.path().display()))
}

#[test]
fn fail_on_is_5_only_if_something_as_bad_was_found() {
    let mut tape = Tape::new(session());
    refused(&mut tape, 1, 3);
    let warning = Recording::new("warning", &tape.end());
    let mut tape = Tape::new(session());
    refused(&mut tape, 1, 100);
    let critical = Recording::new("critical", &tape.end());
    let mut tape = Tape::new(session());
    client_life(&mut tape, BATCH, 1, "10.0.0.1:40000", "10.0.0.2:80", MS);
    let healthy = Recording::new("healthy", &tape.end());
    for (recording, command, code) in [
        (&warning, "report", 0),
        (&warning, "report --fail-on warning", 5),
        (&warning, "report --json --fail-on warning", 5),
        (&warning, "report --fail-on critical", 0),
        (&critical, "report --fail-on warning", 5),
        (&critical, "report --fail-on critical", 5),
        (&healthy, "report --fail-on warning", 0),
    ] {
        let run = replay(recording, command);
        assert_eq!(run.code, Some(code), "{command}: {run:#?}");
        assert!(!run.stdout.is_empty(), "the report is printed all the same");
    }
    assert!(replay(&healthy, "report").good().contains("\nFindings: none\n"));
}

#[test]
fn one_report_among_many_is_enough() {
    let mut tape = Tape::new(session());
    for round in 0..8 {
        if round == 1 {
            refused(&mut tape, 1, 3);
        }
        tape.wait(SECOND);
        tape.read_counters();
    }
    let recording = Recording::new("one-of-many", &tape.end());
    let run = replay(&recording, "report --json --interval 1s --fail-on warning");
    assert_eq!(run.code, Some(5), "{run:#?}");
    let found = |report: &Value| report["findings"].as_array().map(Vec::len);
    let course: Vec<_> = Schema::of_reports().documents(&run.stdout).iter().map(found).collect();
    // Told once more after it was found, and then over.
    assert_eq!(course[1..5], [Some(1), Some(1), Some(0), Some(0)], "{course:?}");
}

#[test]
fn strict_comes_first() {
    assert_eq!(report_of_incident("report --fail-on warning").code, Some(5));
    assert_eq!(report_of_incident("report --fail-on warning --strict").code, Some(4));
}

#[test]
fn the_thresholds_of_a_file_hold() {
    let recording = Recording::new("thresholds", &incident::recording());
    let strict = config(
        "strict",
        "[findings.connect_failures]\nmin_failures = 4\n[findings.close_wait_leak]\nold_after_s = 9999\n",
    );
    let run = with_config(&recording, "report --fail-on warning", &strict);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let mild = config("mild", "[findings.close_wait_leak]\nmin_sockets = 7\n");
    let run = with_config(&recording, "report --json", &mild);
    let report = Schema::of_reports().documents(&run.good()).remove(0);
    let ids: Vec<_> = report["findings"].as_array().expect("findings").iter().map(|f| &f["id"]).collect();
    assert_eq!(ids, ["close_wait_leak", "close_wait_leak", "connect_failures"]);
}

#[test]
fn a_file_with_a_mistake_is_a_usage_error_that_names_it() {
    let recording = Recording::new("mistakes", &incident::recording());
    let wrong = config("wrong", "[findings]\n\n[findings.close_wait_leak]\nmin_socket = 7\n");
    let run = with_config(&recording, "report", &wrong);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:#?}");
    for word in ["line 4", "unknown field `min_socket`", "min_sockets", "docs/findings.md"] {
        assert!(run.stderr.contains(word), "{word}: {run:#?}");
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/findings.md");
    let book = fs::read_to_string(path).expect("the book");
    let example =
        book.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    assert_eq!(with_config(&recording, "report", &config("example", example)).code, Some(0));
}

#[test]
fn the_document_has_the_subject_the_source_and_what_is_not_known() {
    let report = Schema::of_reports().documents(&report_of_incident("report --json").good()).remove(0);
    let findings = report["findings"].as_array().expect("an array");
    let of = |id: &str| findings.iter().find(|finding| finding["id"] == id).expect(id);
    let refused = of("connect_failures");
    assert_eq!(refused["severity"], "warning");
    assert_eq!(refused["subject"]["kind"], "destination");
    assert_eq!(refused["subject"]["process"]["comm"], "nightly-import");
    assert_eq!(refused["subject"]["peer"], json!({"address": "10.0.3.9", "port": 5432}));
    let failing: Vec<_> =
        report["connect"].as_array().expect("rows").iter().filter(|row| row["refused"] == 3).collect();
    assert_eq!(refused["since"], failing[0]["failing"][0]["first"]);
    let evidence = json!({"name": "ECONNREFUSED", "value": 3, "unit": "attempts", "source": "connect[].failing[].refused"});
    assert_eq!(refused["evidence"][0], evidence);
    // Its sockets are from before the start.
    let leak = of("close_wait_leak");
    assert_eq!((&leak["since"], &leak["subject"]["process"]["pid"]), (&Value::Null, &json!(1490)));
}

//! `report`: the table and the document.

use serde_json::{Value, json};
use tcp_trace_common::state::{CLOSE, ESTABLISHED, FIN_WAIT1, FIN_WAIT2};

use tcp_trace_core::survey::{ContainerFacts, Facts, NamespaceFacts, ProcessFacts, SocketCounters};

use crate::{
    incident::{self, EVIL},
    look::{self, ALL, Look},
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
    assert_eq!((&leak["lingering"], &leak["processes"][0]["process"]["comm"]), (&json!(9), &json!("java")));
    let peers: Vec<_> = leak["processes"][0]["peers"].as_array().expect("peers").iter().collect();
    assert_eq!(peers.iter().map(|peer| &peer["count"]).collect::<Vec<_>>(), [4, 2, 1]);
    assert_eq!(report["half_open"]["completed"]["max_ns"], 3300 * MS);
    assert_eq!(report["half_open"]["cookies"], 1);
    let refused = report["connect"].as_array().expect("rows").iter().find(|row| row["refused"] == 3);
    assert_eq!(refused.expect("the refused one")["peer"], json!({"address": "10.0.3.9", "port": 5432}));
    assert_eq!(report["time_wait"]["entered"], 7);
    assert_eq!(report["time_wait"]["inferred"], false);
    let unknown = report["processes"].as_array().expect("rows").iter().find(|row| row["process"].is_null());
    assert_eq!(unknown.expect("the unknown owners")["total"], 3);
}

#[test]
fn the_document_says_what_surveys_have_found() {
    let report = Schema::of_reports().documents(&incident("report --json").good()).remove(0);
    let at = |path: &str| report.pointer(path).unwrap_or_else(|| panic!("{path} of {report}"));
    let leak = at("/close_wait/processes/0");
    let kinds = json!({"forgot_close": 1, "never_looked": 4, "unread_data": 1, "never_accepted": 1});
    assert_eq!(leak["kinds"], kinds);
    let sockets = leak["sockets"].as_array().expect("sockets");
    let states: Vec<_> = sockets.iter().map(|socket| &socket["owner_state"]).collect();
    assert_eq!(states, ["held", "held", "shared", "held", "in_flight", "held", "never_accepted"]);
    let sources: Vec<_> = sockets.iter().map(|socket| &socket["owner_source"]).collect();
    assert_eq!(sources, ["task", "fd", "fd", "fd", "listen", "fd", "listen"]);
    assert_eq!((&sockets[3]["unread_bytes"], &sockets[3]["fds"]), (&json!(513), &json!([43])));
    assert_eq!(sockets[2]["holders"], json!([{"pid": 2301, "fd": 42}, {"pid": 813, "fd": 30}]));
    let old = at("/close_wait/processes/1");
    assert_eq!(
        (&old["oldest_exact"], &old["process"]["container"]["name"]),
        (&json!(false), &json!("orders"))
    );
    assert_eq!((&old["process"]["fds"], &old["process"]["nofile"]), (&json!(1_018), &json!(1_024)));
    let requests = ["expired", "reset", "dead", "live"].map(|key| at("/half_open")[key].as_u64());
    assert_eq!(requests, [Some(1), Some(1), Some(2), Some(3)]);
    assert_eq!(at("/half_open/listeners/0/cause"), "accept_queue_full");
    assert_eq!(at("/half_open/sources/synack"), 1);
    assert_eq!(at("/half_open/namespaces/0/listen_overflows"), 3);
    assert_eq!(at("/time_wait/destinations/0/share"), 0.04);
    assert_eq!((at("/time_wait/live"), at("/time_wait/live_orphans")), (&json!(47), &json!(1)));
    let containers = at("/containers").as_array().expect("rows");
    assert!(containers.iter().any(|row| row["container"]["runtime"] == "docker" && row["close_wait"] == 2));
}

#[test]
fn what_others_have_named_is_shown_escaped() {
    const HOSTILE: &str = "a\x1b]0;b\x07\u{202e}c\nd";
    let mut tape = Tape::new(session());
    tape.session.host.name = HOSTILE.into();
    let mut look = Look::default();
    look.socket(look::close_wait(1, "10.0.0.1:80", "10.0.0.2:4000", 1, 60_000), &[(EVIL, 3)]);
    let name = || Some(HOSTILE.to_owned());
    let container = ContainerFacts {
        id: HOSTILE.into(),
        pod: name(),
        namespace: name(),
        pod_uid: name(),
        ..look::container(HOSTILE, HOSTILE)
    };
    let cgroup = (1, HOSTILE.to_owned(), Some(container.clone()));
    let facts = ProcessFacts { container: Some(container), ..look::process(EVIL, HOSTILE, HOSTILE, (4, 9)) };
    let namespace = |listen_drops| NamespaceFacts {
        name: name(),
        ..look::namespace(SocketCounters { listen_drops, ..SocketCounters::default() })
    };
    let facts = |drops| Facts {
        processes: vec![facts.clone()],
        cgroups: vec![cgroup.clone()],
        namespaces: vec![namespace(drops)],
        listeners: Vec::new(),
    };
    tape.push(tcp_trace_core::record::kind::FACTS, &serde_json::to_vec(&facts(0)).expect("it serialises"));
    look.facts = facts(5);
    look.record(&mut tape, ALL);
    let recording = Recording::new("hostile", &tape.end());
    let table = replay(&recording, "report").good();
    assert!(table.contains("≥ 59.99 s"), "{table}");
    assert!(table.contains("ListenDrops 5"), "{table}");
    let harm = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert_eq!(table.find(harm), None, "{table}");
    assert_eq!(table.matches("\\u{1b}]0;b\\u{7}\\u{202e}c\\u{a}d").count(), 12, "{table}");
    let report = Schema::of_reports().documents(&replay(&recording, "report --json").good()).remove(0);
    assert_eq!(report["close_wait"]["processes"][0]["process"]["user"], HOSTILE, "whole, as JSON has it");
}

#[test]
fn what_lingers_is_a_matter_of_close_wait_after() {
    let lingering = |flags: &str| {
        let output = incident(&format!("report --json {flags}")).good();
        let report = Schema::of_reports().documents(&output).remove(0);
        (report["close_wait"]["lingering"].clone(), report["close_wait"]["after_ns"].clone())
    };
    assert_eq!(lingering("--close-wait-after 22s"), (json!(3), json!(22_000_000_000_u64)));
    // Of two it is only known how long at least.
    assert_eq!(lingering("--close-wait-after 1h"), (json!(2), json!(3_600_000_000_000_u64)));
    let table = incident("report --close-wait-after 1h").good();
    let title = "9 now, 2 of them for over 1h00m\n  or for a time that is not known (≥: at least)\n";
    assert!(table.contains(title), "{table}");
    let table = incident("report --close-wait-after 1h -L 8080").good();
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
    assert!(
        table.contains("\nOrphans in FIN_WAIT2: 1 entered it; they may enter TIME_WAIT unseen\n"),
        "{table}"
    );
}

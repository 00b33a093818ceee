//! `stream`: the columns, and what is in them.

use tcp_trace_common::state;

use crate::{
    schema::Schema,
    tape::{Process, Socket, Tape, session},
    tracer::{Recording, assert_golden, data, incident, replay},
};

/// Head and format of libbpf-tools' `tcpstates`, which people's scripts expect.
const TCPSTATES: &str = "SKADDR           PID     COMM       LADDR           LPORT RADDR           RPORT OLDSTATE    -> NEWSTATE    MS";

#[test]
fn the_default_columns_are_those_of_tcpstates() {
    let table = incident("stream").good();
    assert_eq!(table.lines().next(), Some(TCPSTATES));
    assert_golden("stream.txt", table.as_bytes());
}

#[test]
fn w_is_wide_enough_for_ipv6() {
    let table = incident("stream -w").good();
    let columns: Vec<_> = table.lines().next().expect("a head").split_ascii_whitespace().collect();
    let expected = "SKADDR PID COMM IP LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS";
    assert_eq!(columns.join(" "), expected);
    assert_golden("stream-wide.txt", table.as_bytes());
}

#[test]
fn time_in_utc_and_seconds_since_the_first_line_come_before_the_columns() {
    let plain = incident("stream").good();
    let both = incident("stream -T -t").good();
    assert_golden("stream-times.txt", both.as_bytes());
    for (plain, both) in plain.lines().zip(both.lines()) {
        assert_eq!(both.get(19..), Some(plain), "the columns themselves are the same");
    }
    let clock = incident("stream -T").good();
    assert!(clock.lines().nth(1).is_some_and(|row| row.starts_with("03:00:01 ffff")), "{clock}");
    let seconds = incident("stream -t").good();
    assert!(seconds.lines().nth(1).is_some_and(|row| row.starts_with("0.000000  ffff")), "{seconds}");
}

#[test]
fn csv_is_quoted_so_that_every_reader_sees_the_same_fields() {
    let csv = incident("stream -s").good();
    assert_golden("stream.csv", csv.as_bytes());
    let rows: Vec<_> = csv.lines().map(fields).collect();
    assert!(rows.iter().all(|row| row.len() == 11), "eleven fields in each row");
    let evil = rows.iter().find(|row| row[1] == "6666").expect("the process with the evil name");
    assert_eq!(evil[2], "a\"b,\\u{a}\\u{1b}[31m\u{fffd}\\");
    let timed = incident("stream -s -T -t").good();
    assert!(timed.lines().next().is_some_and(|head| head.starts_with("TIME,TIME(s),SKADDR,")), "{timed}");
    assert!(timed.lines().all(|row| fields(row).len() == 13));
}

/// RFC 4180, read the simplest way.
pub(crate) fn fields(row: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut rest = row.chars().peekable();
    while let Some(next) = rest.next() {
        let field = fields.last_mut().expect("at least one");
        match next {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

#[test]
fn no_output_holds_a_control_character_of_a_process_name() {
    for command in ["stream", "stream --closed", "report"] {
        for flags in ["", "-w", "-s", "--json"] {
            if command == "report" && flags.len() == 2 {
                continue;
            }
            let run = incident(&format!("{command} {flags}"));
            let control = |text: &str| text.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!((control(&run.stdout), control(&run.stderr)), (None, None), "{command} {flags}");
        }
    }
}

#[test]
fn each_line_of_json_is_valid_and_says_what_the_table_says() {
    let events = Schema::of_events().documents(&incident("stream --json").good());
    let table = incident("stream").good();
    assert_eq!(events.len(), table.lines().count() - 1);
    for (event, row) in events.iter().zip(table.lines().skip(1)) {
        let cells: Vec<_> = row.split_ascii_whitespace().rev().collect();
        let [ms, new, _, old, ..] = cells.as_slice() else { panic!("{row}") };
        assert_eq!((event["new_state"].as_str(), event["old_state"].as_str()), (Some(*new), Some(*old)));
        let duration = event["duration_ns"].as_u64().map(|ns| format!("{:.3}", ns as f64 / 1e6));
        assert_eq!(duration.as_deref().unwrap_or("-"), *ms, "{row}");
    }
    assert_golden(
        "stream-first.json",
        incident("stream --json").good().lines().next().unwrap_or("").as_bytes(),
    );
}

#[test]
fn what_is_not_known_is_null_or_a_dash() {
    let mut tape = Tape::new(session());
    let mut socket = Socket::new(1, state::ESTABLISHED, "10.0.0.1:1", "10.0.0.2:2");
    (socket.wire.flags, socket.wire.cookie, socket.wire.netns, socket.wire.cgroup_id) = (0, 0, 0, 0);
    tape.enter(&mut socket, 14, None);
    let recording = Recording::new("unknown", &tape.end());
    let row = replay(&recording, "stream").good();
    let cells: Vec<_> = row.lines().nth(1).expect("a row").split_ascii_whitespace().collect();
    assert_eq!(
        cells[1..],
        ["-", "-", "10.0.0.1", "1", "10.0.0.2", "2", "ESTABLISHED", "->", "STATE_14", "-"]
    );
    let events = Schema::of_events().documents(&replay(&recording, "stream --json").good());
    let null = ["duration_ns", "cookie", "netns", "cgroup_id", "container"];
    assert!(null.iter().all(|key| events[0][key].is_null()), "{}", events[0]);
    assert_eq!(
        events[0]["process"],
        serde_json::json!({"pid": null, "comm": null, "owner_source": "unknown"})
    );
    let report = Schema::of_reports().documents(&replay(&recording, "report --json").good());
    assert_eq!(report[0]["states"]["STATE_14"]["entered"], 1);
}

#[test]
fn an_accepted_connection_is_its_worker_s_and_a_container_is_named() {
    let events = Schema::of_events().documents(&incident("stream --json").good());
    let of = |cookie: u64, state: &str| {
        let found = events.iter().find(|event| event["cookie"] == cookie && event["new_state"] == state);
        found.unwrap_or_else(|| panic!("{cookie} {state}"))
    };
    let owner = serde_json::json!({"pid": 813, "comm": "nginx", "owner_source": "accept"});
    assert_eq!(of(245, "CLOSE_WAIT")["process"], owner);
    assert_eq!(of(245, "ESTABLISHED")["process"]["owner_source"], "listen", "nobody has accepted it yet");
    assert_eq!(of(13, "FIN_WAIT1")["container"]["name"], "orders");
    assert_eq!(of(200, "SYN_SENT")["container"], serde_json::Value::Null);
}

#[test]
fn a_thread_that_lends_its_name_is_not_named() {
    let mut tape = Tape::new(session());
    let mut socket = Socket::new(1, state::CLOSE, "10.0.0.1:1", "10.0.0.2:2");
    socket.wire.flags |= tcp_trace_common::event::flags::THREAD_COMM;
    tape.enter(&mut socket, state::SYN_SENT, Some(Process { pid: 9, comm: b"tokio-worker" }));
    let recording = Recording::new("thread", &tape.end());
    let events = Schema::of_events().documents(&replay(&recording, "stream --json").good());
    assert_eq!(events[0]["process"], serde_json::json!({"pid": 9, "comm": null, "owner_source": "connect"}));
}

#[test]
fn the_balance_goes_to_standard_error_where_no_report_shows_it() {
    let run = incident("stream");
    let balance = "tcp-trace: 143 transitions seen = 99 delivered + 40 filtered + 4 lost (balanced)\n";
    assert_eq!(run.stderr, balance);
    assert_eq!(incident("report").stderr, "");
    assert!(data("incident.tctrace").is_file());
}

//! `kill`: its record, and what it asks for. What it does is seen in the live tests.

use tcp_trace::sink;
use tcp_trace_core::{
    endpoint::Endpoint,
    kill::{Action, Entry, Named, SCHEMA},
    snapshot::SocketHolder,
    survey::CloseWaitKind,
    time::WallTime,
};

use crate::{
    schema::Schema,
    tracer::{assert_golden, run},
};

fn entry(action: Action, reason: Option<&str>) -> Entry {
    let end = |text: &str| {
        let end: std::net::SocketAddr = text.parse().expect("an address");
        Endpoint { address: end.ip(), port: end.port() }
    };
    let shared = action == Action::Refused;
    Entry {
        schema: SCHEMA,
        time: WallTime(1_768_446_000_000_000_000),
        action,
        reason: reason.map(str::to_owned),
        process: Named {
            pid: 71,
            comm: "shop\u{1b}[31m".to_owned(),
            start_time: Some(WallTime(1_768_400_000_000_000_000)),
        },
        netns: 4_026_531_840,
        cookie: 77,
        local: end("198.18.0.1:8080"),
        peer: end("[2001:db8::7]:4000"),
        age_ns: Some(11_520_000_000_000),
        age_exact: Some(!shared),
        fds: vec![4, 5],
        unread_bytes: 100,
        kind: Some(CloseWaitKind::UnreadData),
        others: if shared { vec![SocketHolder { pid: 8, comm: None, fds: vec![3] }] } else { vec![] },
    }
}

pub(crate) fn entries() -> [Entry; 5] {
    [
        entry(Action::WouldDestroy, None),
        entry(Action::Destroyed, None),
        entry(Action::Refused, Some("shared with process 8; --shared destroys it for all")),
        entry(Action::Gone, Some("it was closed meanwhile")),
        Entry {
            age_ns: None,
            age_exact: None,
            ..entry(Action::Failed, Some("Operation not permitted (os error 1)"))
        },
    ]
}

fn printed(as_json: bool) -> String {
    let mut out = Vec::new();
    entries().iter().for_each(|entry| sink::killed(&mut out, entry, as_json).expect("memory can be written"));
    String::from_utf8(out).expect("text")
}

#[test]
fn the_record_is_a_line_each() {
    let lines = printed(false);
    assert_eq!(lines.lines().count(), entries().len());
    assert_golden("kill.txt", lines.as_bytes());
    assert_eq!(Schema::of_kills().documents(&printed(true)).len(), entries().len());
}

#[test]
fn what_is_meant_has_to_be_said() {
    for (arguments, hint) in [
        ("kill", "--close-wait"),
        ("kill --pid 1", "--close-wait"),
        ("kill --close-wait", "--pid"),
        ("kill --close-wait --pid 0", "1.."),
        ("kill --close-wait --pid 4194303", "there is no such process"),
        ("kill --close-wait --pid 1 --peer nobody", "ADDRESS:PORT"),
        ("kill --close-wait --pid 1 --older-than soon", "give a duration"),
    ] {
        let run = run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{arguments}: {run:#?}");
        assert!(run.stderr.contains(hint), "{arguments}: {run:#?}");
    }
}

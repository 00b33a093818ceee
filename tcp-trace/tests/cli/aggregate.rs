//! A recording of a run that could not keep up: what its report says of that, to people and to programs.

use tcp_trace_common::{
    aggregate::{AggregateKey, AggregateRow, bucket, what},
    state,
};
use tcp_trace_core::{
    mode::{Mode, ModeChange, Reason},
    record::kind,
    time::Timestamp,
};

use crate::{
    schema::Schema,
    tape::{MS, NETNS, Process, SECOND, Tape, US, client_life, session, start},
    tracer::{Recording, replay},
};

const CLIENT: Process = Process { pid: 700, comm: b"crawler" };

/// A second of stream, a second of which transitions were counted in the kernel, and a second of stream again.
fn recording() -> Vec<u8> {
    let mut tape = Tape::new(session());
    client_life(&mut tape, CLIENT, 7, "10.0.0.1:40000", "10.0.0.2:80", MS);
    tape.wait(SECOND);
    tape.lose(state::CLOSE, state::SYN_SENT, 3);
    change(&mut tape, Mode::Aggregate, Reason::Lost);
    tape.wait(SECOND);
    for (old, new, pid, count) in [
        (state::CLOSE, state::SYN_SENT, 700, 1_000),
        (state::SYN_SENT, state::ESTABLISHED, 700, 1_000),
        (state::ESTABLISHED, state::CLOSE_WAIT, 0, 20),
    ] {
        let key = AggregateKey {
            process_start_ns: if pid == 0 { 0 } else { start(pid) },
            cgroup_id: 0,
            tgid: pid,
            netns: NETNS,
            listener_port: 0,
            error: 0,
            old,
            new,
            bucket: bucket(100 * US),
            what: what::TIME,
        };
        tape.aggregate(&AggregateRow { key, count });
    }
    change(&mut tape, Mode::Stream, Reason::Calm);
    tape.wait(SECOND);
    tape.end()
}

fn change(tape: &mut Tape, mode: Mode, reason: Reason) {
    let change = ModeChange { time: Timestamp(tape.now), mode, reason };
    tape.push(kind::MODE, &serde_json::to_vec(&change).expect("plain values"));
}

#[test]
fn people_are_told_when_and_what_it_means() {
    let recording = Recording::new("aggregate-1", &recording());
    let report = replay(&recording, "report").good();
    let head: Vec<_> = report.lines().skip(2).take(4).collect();
    assert_eq!(
        head,
        [
            "2,028 transitions seen = 5 delivered + 0 filtered + 3 lost + 2,020 aggregated (balanced)",
            "Aggregated in the kernel for 1.0 s (transitions were lost): counts are exact,",
            "  durations of that time are only known to lie between a power of two of",
            "  nanoseconds and the next, and owners of some accepted connections are inferred",
        ]
    );
    let stream = replay(&recording, "stream");
    assert!(stream.stderr.contains("2,020 aggregated"), "{}", stream.stderr);
    assert_eq!(stream.good().lines().count(), 6, "what was sent, and the header");
}

#[test]
fn programs_are_told_in_numbers() {
    let recording = Recording::new("aggregate-2", &recording());
    let json = replay(&recording, "report --json").good();
    let [report] = &Schema::of_reports().documents(&json)[..] else { panic!("one report") };
    let modes: Vec<_> = report["modes"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = modes.iter().map(|span| (span["mode"].clone(), span["reason"].clone())).collect();
    assert_eq!(
        names,
        [("stream", "start"), ("aggregate", "lost"), ("stream", "calm")].map(|(a, b)| (a.into(), b.into()))
    );
    assert_eq!(modes[1]["seconds"], 1.0);
    let established = &report["states"]["SYN_SENT"]["duration"];
    assert_eq!((&established["count"], &established["coarse"]), (&1_001.into(), &1_000.into()));
    assert_eq!((&established["min_ns"], &established["max_ns"]), (&65_536.into(), &2_010_000.into()));
}

//! Recordings that are cut off, corrupt, or made to do harm: an error that says where, and nothing lost that
//! stands before.

use tcp_trace::{recording::Reader, source::Batch};
use tcp_trace_common::{
    counters::Counters,
    event::StateChange,
    state::{CLOSE, ESTABLISHED, SYN_SENT},
};
use tcp_trace_core::{
    record::{CounterReading, encode_counters, kind},
    survey::{SurveyBegin, SurveyEnd},
    time::Timestamp,
};

use crate::{
    format,
    schema::Schema,
    tape::{MS, NETNS, Process, STARTED, Socket, Tape, session},
    tracer::{Recording, Run, replay, run},
};

const CURL: Process = Process { pid: 4, comm: b"curl" };

/// Three blocks of two events, and one with the counters and the end.
fn small() -> Vec<u8> {
    let mut tape = Tape::new(session());
    for cookie in 1..=3 {
        let mut socket = Socket::new(cookie, CLOSE, "10.0.0.1:40000", "10.0.0.2:80");
        tape.enter(&mut socket, SYN_SENT, Some(CURL));
        tape.wait(MS);
        tape.enter(&mut socket, ESTABLISHED, None);
        tape.block();
    }
    tape.end()
}

/// A run that ended with an error at this byte, which its last line names.
#[track_caller]
fn assert_error(run: &Run, byte: usize, what: &str) {
    assert_eq!(run.code, Some(1), "{run:#?}");
    let message = run.stderr.lines().last().unwrap_or("");
    assert!(message.starts_with("tcp-trace: error: "), "{message}");
    assert!(message.contains(&format!("{what} at byte {byte}")), "byte {byte}: {message}");
}

#[test]
fn a_recording_cut_off_anywhere_gives_what_came_before_and_says_where_it_ends() {
    let whole = small();
    let (header_end, blocks) = format::parse(&whole);
    let rows: Vec<_> =
        replay(&Recording::new("whole", &whole), "stream").good().lines().map(str::to_owned).collect();
    let recording = Recording::new("cut", &[]);
    for cut in 0..whole.len() {
        recording.rewrite(&whole[..cut]);
        let run = replay(&recording, "stream");
        assert_error(&run, cut, "cut off");
        let complete = blocks.iter().filter(|block| block.end <= cut);
        let events =
            complete.flat_map(|block| &block.records).filter(|(kind, _)| *kind == kind::EVENT).count();
        let expected = if cut < header_end { 0 } else { 1 + events };
        assert!(run.stdout.lines().eq(&rows[..expected]), "cut at {cut}: {run:#?}");
    }
}

#[test]
fn a_cut_off_recording_has_a_report_of_what_came_before() {
    let whole = small();
    let (_, blocks) = format::parse(&whole);
    let recording = Recording::new("cut-report", &[]);
    for (number, block) in blocks.iter().enumerate() {
        for cut in [block.start, block.start + 5, block.end - 1] {
            recording.rewrite(&whole[..cut]);
            let run = replay(&recording, "report --json");
            assert_error(&run, cut, "cut off");
            let reports = Schema::of_reports().documents(&run.stdout);
            assert_eq!(reports[0]["loss"]["delivered"], 2 * number, "cut at {cut}");
            let table = replay(&recording, "report");
            assert!(table.stdout.contains("transitions seen"), "{table:#?}");
        }
    }
}

/// What the library reads, up to the first error.
fn read(bytes: &[u8]) -> (Vec<Batch>, Result<(), String>) {
    let mut batches = Vec::new();
    let mut all = || {
        let (mut reader, read) = Reader::new(bytes)?;
        assert_eq!(read, session(), "a header that is not the one that was written");
        while let Some(batch) = reader.next_batch()? {
            batches.push(batch);
        }
        Ok(())
    };
    let result = all().map_err(|error: tcp_trace::recording::RecordingError| error.to_string());
    (batches, result)
}

#[test]
fn a_changed_byte_is_noticed_wherever_it_is() {
    let whole = small();
    let (good, result) = read(&whole);
    assert_eq!((good.len(), result), (4, Ok(())));
    for position in 0..whole.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[position] ^= mask;
            let (before, result) = read(&damaged);
            let error = result.expect_err("the change is noticed");
            assert!(before.len() < good.len(), "byte {position}: {error}");
            let same = before.iter().zip(&good).all(|(a, b)| a.as_bytes() == b.as_bytes());
            assert!(same, "byte {position}: what stands before is not what was written");
        }
    }
}

#[test]
fn a_changed_byte_ends_a_run_with_an_error_after_what_came_before() {
    let whole = small();
    let (header_end, blocks) = format::parse(&whole);
    let recording = Recording::new("flipped", &[]);
    let flipped = |position: usize| {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x01;
        recording.rewrite(&damaged);
        replay(&recording, "stream")
    };
    assert_error(&flipped(30), 24, "corrupt");
    assert_error(&flipped(header_end), header_end + 12, "corrupt");
    for (number, block) in blocks.iter().enumerate() {
        let run = flipped(block.end - 1);
        assert_error(&run, block.start + 12, "corrupt");
        assert_eq!(run.stdout.lines().count(), 1 + 2 * number, "{run:#?}");
        assert_error(&flipped(block.start + 4), block.start, "corrupt");
    }
}

#[test]
fn what_is_no_recording_is_told_from_one_of_another_version() {
    let recording = Recording::new("foreign", b"#!/bin/sh\n");
    let run = replay(&recording, "stream");
    assert!(run.stderr.contains("not a tcp-trace recording"), "{run:#?}");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    for (position, what, reads) in [(8, "format version 2", 1), (12, "event version 4", 3)] {
        let mut bytes = small();
        assert_eq!(bytes[position], reads);
        bytes[position] += 1;
        recording.rewrite(&bytes);
        let run = replay(&recording, "report");
        assert!(run.stderr.contains(&format!("{what}, this tcp-trace reads {reads}")), "{run:#?}");
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    }
}

#[test]
fn a_recording_that_is_not_there_is_an_error_that_names_it() {
    let run = run("stream --from /no/such/file.tctrace");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("/no/such/file.tctrace: No such file or directory"), "{run:#?}");
}

#[test]
fn a_record_of_an_unknown_kind_ends_the_run_after_what_came_before() {
    let mut tape = Tape::new(session());
    let mut socket = Socket::new(1, CLOSE, "10.0.0.1:40000", "10.0.0.2:80");
    tape.enter(&mut socket, SYN_SENT, Some(CURL));
    tape.push(99, b"from the future");
    tape.enter(&mut socket, ESTABLISHED, None);
    let bytes = tape.end();
    let (header_end, _) = format::parse(&bytes);
    let recording = Recording::new("future", &bytes);
    let run = replay(&recording, "stream");
    assert_error(&run, header_end, "corrupt");
    assert!(run.stderr.contains("record of unknown kind 99, 15 bytes long"), "{run:#?}");
    assert_eq!(run.stdout.lines().count(), 2, "{run:#?}");
    let report = replay(&recording, "report --json");
    assert_eq!(Schema::of_reports().documents(&report.stdout)[0]["loss"]["delivered"], 1);
}

/// Bytes that nobody chose, the same at every run.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

#[test]
fn events_of_any_bytes_give_valid_output_and_no_panic() {
    let mut tape = Tape::new(session());
    let mut noise = Noise(1);
    for number in 0..2_000_u32 {
        let mut bytes = [0; size_of::<StateChange>()];
        noise.fill(&mut bytes);
        bytes[..2].copy_from_slice(&1_u16.to_le_bytes());
        // The flag AGGREGATED: every tenth event only keeps live tables right.
        bytes[5] = bytes[5] & 0x7f | if number % 10 == 0 { 0x80 } else { 0 };
        if number % 2 == 0 {
            // States that exist and a few sockets only, so that the tracker has something to follow.
            (bytes[2], bytes[3], bytes[4]) = (bytes[2] % 14, bytes[3] % 14, bytes[4] | 1);
            bytes[16..24].copy_from_slice(&u64::from(number % 7).to_le_bytes());
        }
        tape.push(kind::EVENT, &bytes);
    }
    let recording = Recording::new("noise", &tape.end());
    let events = Schema::of_events().documents(&replay(&recording, "stream --json").good());
    assert_eq!(events.len(), 1_800);
    let report = Schema::of_reports().documents(&replay(&recording, "report --json").good()).remove(0);
    assert_eq!((&report["loss"]["balanced"], &report["loss"]["delivered"]), (&false.into(), &1_800.into()));
    for command in ["stream -w -T -t", "stream -s", "report", "report --interval 1s", "stream -L 80 -6 -p 1"]
    {
        replay(&recording, command).good();
    }
}

#[test]
fn surveys_of_any_bytes_give_valid_output_and_no_panic() {
    let mut noise = Noise(2);
    let mut tape = Tape::new(session());
    for round in 0..20_u8 {
        let begin = SurveyBegin { time: Timestamp(tape.now), scope: "all".into() };
        tape.push(kind::SURVEY_BEGIN, &serde_json::to_vec(&begin).expect("it serialises"));
        for (kind, row) in [(kind::SOCKETS, 132), (kind::HOLDERS, 12), (kind::REQUESTS, 56)] {
            let mut bytes = vec![0; 50 * row];
            noise.fill(&mut bytes);
            for row in bytes.chunks_mut(row).filter(|row| row.len() > 71 && round % 2 == 0) {
                // States that exist and a few sockets only.
                row[1..8].fill(0);
                row[70] %= 14;
                row[71] %= 5;
            }
            if kind == kind::SOCKETS {
                bytes.splice(..0, tape.now.to_le_bytes());
            }
            tape.push(kind, &bytes);
        }
        let end = SurveyEnd {
            time: Timestamp(tape.now),
            states: (0..16).collect(),
            namespaces: vec![NETNS],
            holders_complete: true,
            holders: true,
            problems: Vec::new(),
        };
        tape.push(kind::SURVEY_END, &serde_json::to_vec(&end).expect("it serialises"));
    }
    let recording = Recording::new("survey-noise", &tape.end());
    Schema::of_reports().documents(&replay(&recording, "report --json").good());
    Schema::of_closed().documents(&replay(&recording, "stream --closed --json").good());
    for command in ["report", "stream --closed", "report -L 80 -6 -p 1"] {
        replay(&recording, command).good();
    }
}

#[test]
fn rows_that_no_survey_wrote_end_the_run_after_what_came_before() {
    for (kind, bytes) in
        [(kind::SOCKETS, [0; 132].as_slice()), (kind::HOLDERS, &[1; 13]), (kind::FACTS, b"{]")]
    {
        let mut tape = Tape::new(session());
        tape.enter(&mut Socket::new(1, CLOSE, "10.0.0.1:40000", "10.0.0.2:80"), SYN_SENT, Some(CURL));
        tape.push(kind, bytes);
        let bytes = tape.end();
        let (header_end, _) = format::parse(&bytes);
        let run = replay(&Recording::new(&format!("rows-{kind}"), &bytes), "stream");
        assert_error(&run, header_end, "corrupt");
        assert!(run.stderr.contains(&format!("record of kind {kind} ")), "{run:#?}");
        assert_eq!(run.stdout.lines().count(), 2, "{run:#?}");
    }
}

#[test]
fn counters_of_any_size_do_not_overflow() {
    let mut tape = Tape::new(session());
    let mut counters = Box::new(Counters::ZERO);
    for slot in 0..256 {
        (counters.seen[slot], counters.filtered[slot], counters.lost[slot]) = (u64::MAX, u64::MAX, u64::MAX);
    }
    for (time, missed) in [(STARTED, u64::MAX), (u64::MAX, 0), (0, u64::MAX)] {
        let reading = CounterReading { time: Timestamp(time), missed, counters: counters.clone() };
        tape.push(kind::COUNTERS, &encode_counters(&reading));
    }
    tape.push(kind::END, &[0xff; 8]);
    let recording = Recording::new("huge", &tape.stop());
    for command in ["report --json", "report --json --interval 1s"] {
        Schema::of_reports().documents(&replay(&recording, command).good());
    }
    replay(&recording, "report").good();
    replay(&recording, "stream").good();
}

//! The format as `docs/recording-format.md` tells it, read without a line of the library's reader.

use std::mem::offset_of;

use tcp_trace_common::event::StateChange;

use crate::{
    incident,
    tape::{Tape, session},
    tracer::{Recording, replay},
};

/// A block of a recording.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where it begins in the file, and where the next one does.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Kind and length of each record.
    pub(crate) records: Vec<(u16, usize)>,
}

/// The length of the header, and the blocks.
pub(crate) fn parse(file: &[u8]) -> (usize, Vec<Block>) {
    assert_eq!(&file[..8], b"TCPTRACE");
    assert_eq!((word(file, 8), word(file, 12)), (1, 1), "format version, wire version");
    let header_end = 24 + word(file, 16);
    assert_eq!(word(file, 20), checksum(&file[24..header_end]));
    let session: serde_json::Value =
        serde_json::from_slice(&file[24..header_end]).expect("the header is JSON");
    assert!(session["anchor"]["unix_ns"].is_u64());
    let mut blocks = Vec::new();
    let mut start = header_end;
    while start < file.len() {
        let payload = start + 12;
        let end = payload + word(file, start);
        let records = records(&file[payload..end]);
        assert_eq!(word(file, start + 4), records.len());
        assert_eq!(word(file, start + 8), checksum(&file[payload..end]));
        blocks.push(Block { start, end, records });
        start = end;
    }
    (header_end, blocks)
}

fn records(payload: &[u8]) -> Vec<(u16, usize)> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let length = word(payload, at);
        records.push((u16::from_le_bytes([payload[at + 4], payload[at + 5]]), length));
        assert_eq!(payload[at + 6..at + 8], [0, 0]);
        at += 8 + length;
    }
    assert_eq!(at, payload.len());
    records
}

fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(word) as usize
}

/// CRC-32 as in zip, gzip and PNG, bit by bit.
fn checksum(bytes: &[u8]) -> usize {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc as usize
}

#[test]
fn a_recording_is_laid_out_as_documented() {
    let (_, blocks) = parse(&incident::recording());
    let records: Vec<_> = blocks.iter().flat_map(|block| &block.records).collect();
    assert!(records.iter().all(|(kind, length)| match kind {
        1 => *length == 144,
        2 => (*length - 16).is_multiple_of(32),
        _ => (*kind, *length) == (3, 8),
    }));
    let ends = records.iter().position(|(kind, _)| *kind == 3);
    assert_eq!(ends, Some(records.len() - 1), "the end is the last record");
}

#[test]
fn an_event_is_laid_out_as_documented() {
    let fields = [
        (offset_of!(StateChange, kind), 0),
        (offset_of!(StateChange, old), 2),
        (offset_of!(StateChange, new), 3),
        (offset_of!(StateChange, flags), 4),
        (offset_of!(StateChange, time_ns), 8),
        (offset_of!(StateChange, cookie), 16),
        (offset_of!(StateChange, skaddr), 24),
        (offset_of!(StateChange, cgroup_id), 32),
        (offset_of!(StateChange, process_start_ns), 40),
        (offset_of!(StateChange, request_ns), 48),
        (offset_of!(StateChange, local_addr), 56),
        (offset_of!(StateChange, peer_addr), 72),
        (offset_of!(StateChange, local_port), 88),
        (offset_of!(StateChange, peer_port), 90),
        (offset_of!(StateChange, family), 92),
        (offset_of!(StateChange, sk_err), 94),
        (offset_of!(StateChange, netns), 96),
        (offset_of!(StateChange, tgid), 100),
        (offset_of!(StateChange, tid), 104),
        (offset_of!(StateChange, srtt_us), 108),
        (offset_of!(StateChange, total_retrans), 112),
        (offset_of!(StateChange, total_rto_time_ms), 116),
        (offset_of!(StateChange, comm), 120),
        (offset_of!(StateChange, total_rto), 136),
        (offset_of!(StateChange, reserved), 138),
    ];
    for (actual, documented) in fields {
        assert_eq!(actual, documented);
    }
}

#[test]
fn a_later_version_may_say_more_of_its_session() {
    let bytes = Tape::new(session()).end();
    let (header_end, _) = parse(&bytes);
    let mut header = br#"{"key_of_the_future":[1],"#.to_vec();
    header.extend(&bytes[25..header_end]);
    let word = |number: usize| u32::try_from(number).expect("a word").to_le_bytes();
    let words = [word(header.len()), word(checksum(&header))].concat();
    let longer = [&bytes[..16], &words, &header, &bytes[header_end..]].concat();
    replay(&Recording::new("longer", &longer), "report").good();
}

//! The format as `docs/recording-format.md` tells it, read without a line of the library's reader.

use std::mem::offset_of;

use tcp_trace_common::{
    aggregate::{AggregateKey, AggregateRow},
    event::{RequestChange, SocketUse, StateChange},
};
use tcp_trace_core::{
    survey::{encode_holders, encode_requests, encode_sockets},
    time::Timestamp,
};

use crate::{
    incident, look,
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
    assert_eq!((word(file, 8), word(file, 12)), (1, 3), "format version, wire version");
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
        1 => [160, 64, 96].contains(length),
        2 => (*length - 24).is_multiple_of(40),
        3 => *length == 8,
        5 => (*length - 8).is_multiple_of(132),
        6 => length.is_multiple_of(12),
        7 => length.is_multiple_of(56),
        _ => [4, 8, 9].contains(kind),
    }));
    let kinds: std::collections::BTreeSet<_> = records.iter().map(|(kind, _)| *kind).collect();
    assert!(kinds.into_iter().eq(1..=9), "every kind is in it but those of aggregation");
    let ends = records.iter().position(|(kind, _)| *kind == 3);
    assert_eq!(ends, Some(records.len() - 1), "the end is the last record");
}

#[test]
fn a_row_is_laid_out_as_documented() {
    let fields = [
        (offset_of!(AggregateKey, process_start_ns), 0),
        (offset_of!(AggregateKey, cgroup_id), 8),
        (offset_of!(AggregateKey, tgid), 16),
        (offset_of!(AggregateKey, netns), 20),
        (offset_of!(AggregateKey, listener_port), 24),
        (offset_of!(AggregateKey, error), 26),
        (offset_of!(AggregateKey, old), 28),
        (offset_of!(AggregateKey, new), 29),
        (offset_of!(AggregateKey, bucket), 30),
        (offset_of!(AggregateKey, what), 31),
        (offset_of!(AggregateRow, count), 32),
        (size_of::<AggregateRow>(), 40),
    ];
    assert!(fields.iter().all(|(offset, documented)| offset == documented), "{fields:?}");
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
        (offset_of!(StateChange, unread), 140),
        (offset_of!(StateChange, bytes_received), 144),
        (offset_of!(StateChange, bytes_acked), 152),
        (size_of::<StateChange>(), 160),
    ];
    for (actual, documented) in fields {
        assert_eq!(actual, documented);
    }
}

#[test]
fn uses_of_sockets_and_changes_of_requests_are_laid_out_as_documented() {
    let fields = [
        (offset_of!(SocketUse, how), 2),
        (offset_of!(SocketUse, flags), 4),
        (offset_of!(SocketUse, time_ns), 8),
        (offset_of!(SocketUse, cookie), 16),
        (offset_of!(SocketUse, skaddr), 24),
        (offset_of!(SocketUse, process_start_ns), 32),
        (offset_of!(SocketUse, tgid), 40),
        (offset_of!(SocketUse, tid), 44),
        (offset_of!(SocketUse, comm), 48),
        (size_of::<SocketUse>(), 64),
        (offset_of!(RequestChange, what), 2),
        (offset_of!(RequestChange, netns), 4),
        (offset_of!(RequestChange, time_ns), 8),
        (offset_of!(RequestChange, cookie), 16),
        (offset_of!(RequestChange, listener_cookie), 24),
        (offset_of!(RequestChange, sent_ns), 32),
        (offset_of!(RequestChange, local_addr), 40),
        (offset_of!(RequestChange, peer_addr), 56),
        (offset_of!(RequestChange, local_port), 72),
        (offset_of!(RequestChange, peer_port), 74),
        (offset_of!(RequestChange, family), 76),
        (offset_of!(RequestChange, timeouts), 78),
        (offset_of!(RequestChange, accept_queue), 80),
        (offset_of!(RequestChange, accept_limit), 84),
        (offset_of!(RequestChange, acked), 88),
        (offset_of!(RequestChange, reserved), 92),
        (size_of::<RequestChange>(), 96),
    ];
    for (actual, documented) in fields {
        assert_eq!(actual, documented);
    }
}

#[test]
fn rows_of_a_survey_are_laid_out_as_documented() {
    let mut row = look::close_wait(0x1122, "192.0.2.1:443", "198.51.100.7:1025", 3, 77);
    (row.uid, row.send_queue, row.expires_ms, row.retransmits) = (5, 6, 7, 8);
    let bytes = encode_sockets(Timestamp(0x0102_0304), &[row]);
    assert_eq!((bytes.len(), &bytes[..8]), (140, &[4, 3, 2, 1, 0, 0, 0, 0][..]), "when they had been read");
    let bytes = &bytes[8..];
    let words = [(0, 0x1122), (8, 1), (16, 5_120), (24, 640), (76, 30_000 + 0x1122), (80, 5), (84, 3)];
    let more = [(88, 6), (92, 7), (96, 117), (100, 97), (104, 77), (108, 310), (112, 0), (116, 9), (120, 2)];
    for (at, documented) in words.into_iter().chain(more).chain([(124, 4)]) {
        assert_eq!(word(bytes, at), documented, "at {at}");
    }
    assert_eq!(bytes[32..48], *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01");
    assert_eq!((bytes[60..64].to_vec(), word(bytes, 64)), (vec![198, 51, 100, 7], 443 | 1025 << 16));
    assert_eq!(bytes[68..72], [2, 0, 8, 0], "family, state, timer");
    assert_eq!(bytes[128..], [8, 1, 1, 0], "retransmissions, TCP_INFO, cgroup");
    let holder = tcp_trace_core::survey::Holder { inode: 1, pid: 2, fd: 3 };
    assert_eq!(encode_holders(&[holder]), [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
    let dead = look::dead(&Tape::new(session()), 9, 0, "192.0.2.1:443", "198.51.100.7:1025");
    let bytes = encode_requests(&[dead]);
    let queued = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
    assert_eq!((bytes.len(), word(&bytes, 0), queued), (56, 9, crate::tape::STARTED));
    assert_eq!((word(&bytes, 48), word(&bytes, 52)), (443 | 1025 << 16, 2));
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

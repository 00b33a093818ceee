//! Records and recordings.

use std::io::Read;

use tcp_trace::{
    recording::{Reader, RecordingError, Writer},
    source::Batch,
};
use tcp_trace_core::{
    decode::decode as decoded,
    input::Input,
    record::{Record, encode_counters, kind},
    session::Session,
    survey::{encode_holders, encode_requests, encode_sockets},
};

use crate::stream::play;

/// One record: its kind, and its bytes. What can be encoded comes back as it was.
pub fn decode(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let record = Record { kind: u16::from(*first), bytes };
    let Ok(input) = decoded(record) else { return };
    let encoded = match &input {
        Input::Counters(reading) => encode_counters(reading),
        Input::End(time) => time.0.to_le_bytes().to_vec(),
        Input::Sockets(time, rows) => encode_sockets(*time, rows),
        Input::Holders(rows) => encode_holders(rows),
        Input::Requests(rows) => encode_requests(rows),
        Input::SurveyBegin(begin) => serde_json::to_vec(begin).unwrap(),
        Input::SurveyEnd(end) => serde_json::to_vec(end).unwrap(),
        Input::Facts(facts) => serde_json::to_vec(facts).unwrap(),
        Input::Mode(change) => serde_json::to_vec(change).unwrap(),
        Input::Degradation(degradation) => serde_json::to_vec(degradation).unwrap(),
        Input::Stacks(facts) => serde_json::to_vec(facts).unwrap(),
        // Only the kernel writes these.
        Input::Event(_) | Input::SocketUse(_) | Input::Request(_) | Input::Aggregates(_) => return,
    };
    let again = decoded(Record { kind: record.kind, bytes: &encoded });
    match (&input, &again) {
        // Kinds of transitions that were never seen are not written.
        (Input::Counters(before), Ok(Input::Counters(after))) => {
            assert_eq!((before.time, before.missed), (after.time, after.missed));
            assert_eq!(before.counters.seen, after.counters.seen);
        }
        (_, Ok(after)) => assert_eq!(input, *after),
        (_, Err(error)) => panic!("{input:?} is written as what cannot be read: {error}"),
    }
}

/// A recording, whose checksums are put right before it is read: no mutation would ever do that.
pub fn recording(data: &[u8]) {
    let mut bytes = data.to_vec();
    if bytes.first().is_some_and(|first| first & 0x80 == 0) {
        mend(&mut bytes);
    }
    let at_once = read(bytes.as_slice());
    let in_pieces = read(Pieces { bytes: &bytes, next: 1 });
    assert_eq!(
        at_once.as_ref().map_err(ToString::to_string),
        in_pieces.as_ref().map_err(ToString::to_string)
    );
    let Ok(Content { session, batches, end }) = at_once else { return };
    if let Err(error) = &end {
        let at = error_offset(error);
        assert!(at.is_none_or(|at| at <= bytes.len() as u64), "{error} in {} bytes", bytes.len());
    }
    let records: u64 = batches.iter().map(|batch| u64::from(batch.len())).sum();
    assert!(records * 8 <= bytes.len() as u64, "a record has a head");
    assert_eq!(
        read(write(&session, &batches).as_slice()).map(|content| content.batches.len()).ok(),
        Some(batches.len())
    );
    if session.filter.compile().is_ok() {
        let all = batches.iter().flat_map(|batch| batch.records().flatten());
        play(session, all.collect());
    }
}

/// What a recording has.
#[derive(Debug)]
struct Content {
    session: Session,
    batches: Vec<Batch>,
    end: Result<(), RecordingError>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        let bytes =
            |content: &Self| content.batches.iter().flat_map(Batch::as_bytes).copied().collect::<Vec<_>>();
        let end = |content: &Self| content.end.as_ref().map_err(ToString::to_string).copied();
        self.session == other.session && bytes(self) == bytes(other) && end(self) == end(other)
    }
}

fn read(input: impl Read) -> Result<Content, RecordingError> {
    let (mut reader, session) = Reader::new(input)?;
    let mut batches = Vec::new();
    let end = loop {
        match reader.next_batch() {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    Ok(Content { session, batches, end })
}

fn write(session: &Session, batches: &[Batch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, session).unwrap();
    for batch in batches {
        writer.batch(batch).unwrap();
    }
    writer.flush().unwrap();
    bytes
}

fn error_offset(error: &RecordingError) -> Option<u64> {
    match error {
        RecordingError::CutOff(at)
        | RecordingError::Corrupt { offset: at, .. }
        | RecordingError::Read(at, _) => Some(*at),
        RecordingError::NotARecording | RecordingError::Version { .. } => None,
    }
}

/// Puts the checksums right, and the first words, and lengths that lie.
fn mend(bytes: &mut [u8]) {
    const MAGIC: [u8; 8] = *b"TCPTRACE";
    let words = [1, tcp_trace_common::WIRE_VERSION].map(u32::to_le_bytes).concat();
    put(bytes, 0, &MAGIC);
    put(bytes, 8, &words);
    let mut at = mend_part(bytes, 16, 20, 24);
    while at + 12 <= bytes.len() {
        at = mend_part(bytes, at, at + 8, at + 12);
    }
}

/// Mends the part whose length and checksum stand there; returns where the next begins.
fn mend_part(bytes: &mut [u8], length_at: usize, crc_at: usize, start: usize) -> usize {
    let room = bytes.len().saturating_sub(start);
    let Some(length) = bytes.get(length_at..).and_then(|bytes| bytes.first_chunk()).copied() else {
        return bytes.len();
    };
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    // One that is a little too long is left to be cut off.
    let length = if length > room + 64 { room } else { length };
    put(bytes, length_at, &u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    let Some(part) = bytes.get(start..start + length) else { return bytes.len() };
    let crc = crc32fast::hash(part);
    put(bytes, crc_at, &crc.to_le_bytes());
    start + length
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// Reads a few bytes at a time, and now and then is interrupted.
struct Pieces<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.next = self.next * 5 % 61 + 1;
        if self.next == 7 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let length = self.next.min(buffer.len());
        let read = self.bytes.read(&mut buffer[..length])?;
        Ok(read)
    }
}

/// Kinds of records that hold rows or JSON, for whoever makes records of bytes.
pub(crate) const KINDS: [u16; 14] = [
    kind::EVENT,
    kind::EVENT,
    kind::COUNTERS,
    kind::END,
    kind::SURVEY_BEGIN,
    kind::SOCKETS,
    kind::HOLDERS,
    kind::REQUESTS,
    kind::FACTS,
    kind::SURVEY_END,
    kind::MODE,
    kind::DEGRADATION,
    kind::STACKS,
    kind::AGGREGATES,
];

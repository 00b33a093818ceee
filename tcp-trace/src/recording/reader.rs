//! Reads a recording: hostile input until every check has passed.

use std::io::{ErrorKind, Read};

use tcp_trace_core::session::Session;

use super::{MAGIC, MAX_PART, VERSION};
use crate::source::Batch;

/// What is wrong with a recording. Offsets are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It is something else.
    #[error("not a tcp-trace recording (it does not begin with \"TCPTRACE\")")]
    NotARecording,
    /// It was made by another version.
    #[error(
        "the recording has {what} version {found}, this tcp-trace reads {expected}; read it with the version that made it"
    )]
    Version {
        /// Which version.
        what: &'static str,
        /// That of the file.
        found: u32,
        /// That of this program.
        expected: u32,
    },
    /// It ends too early.
    #[error("the recording is cut off at byte {0}; everything before was used")]
    CutOff(u64),
    /// It holds what no writer wrote.
    #[error("the recording is corrupt at byte {offset}: {what}; everything before was used")]
    Corrupt {
        /// Where.
        offset: u64,
        /// How it shows.
        what: String,
    },
    /// It cannot be read.
    #[error("reading the recording at byte {0}")]
    Read(u64, #[source] std::io::Error),
}

/// A recording being read.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: R,
    offset: u64,
    /// Memory of a batch that is done with.
    spare: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If this is no recording, or one of another version, or its header is damaged.
    pub fn new(input: R) -> Result<(Self, Session), RecordingError> {
        let mut reader = Self { input, offset: 0, spare: Vec::new() };
        let mut magic = [0; MAGIC.len()];
        let filled = reader.fill(&mut magic);
        let read = usize::try_from(reader.offset).unwrap_or(MAGIC.len());
        // A recording that is cut off in here still begins like one.
        if magic.get(..read) != MAGIC.get(..read) {
            return Err(RecordingError::NotARecording);
        }
        filled?;
        let [version, wire, length, crc] = reader.words()?;
        for (what, found, expected) in
            [("format", version, VERSION), ("event", wire, tcp_trace_common::WIRE_VERSION)]
        {
            if found != expected {
                return Err(RecordingError::Version { what, found, expected });
            }
        }
        let start = reader.offset;
        let header = reader.part(length, crc)?;
        let session = serde_json::from_slice(&header).map_err(|error| RecordingError::Corrupt {
            offset: start,
            what: format!("its header is not what it should be: {error}"),
        })?;
        Ok((reader, session))
    }

    /// The next block; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// If the file ends inside a block, or a block does not have its checksum or is not as long as it says.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, RecordingError> {
        let start = self.offset;
        let [length, records, crc] = match self.words() {
            Ok(words) => words,
            Err(RecordingError::CutOff(at)) if at == start => return Ok(None),
            Err(error) => return Err(error),
        };
        let payload = self.offset;
        let batch = Batch::from_bytes(self.part(length, crc)?, records);
        let corrupt = |offset, what| Err(RecordingError::Corrupt { offset, what });
        let count = batch.records().try_fold(0_u32, |count, record| record.map(|_| count + 1));
        match count {
            Ok(count) if count == records => Ok(Some(batch)),
            Ok(count) => corrupt(start, format!("a block of {count} records says that it has {records}")),
            Err(error) => corrupt(payload, error.to_string()),
        }
    }

    /// Takes a batch back that is done with, for its memory.
    pub fn recycle(&mut self, batch: Batch) {
        self.spare = batch.into_bytes();
    }

    /// Where the reader is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn words<const N: usize>(&mut self) -> Result<[u32; N], RecordingError> {
        let mut words = [0; N];
        for word in &mut words {
            let mut bytes = [0; 4];
            self.fill(&mut bytes)?;
            *word = u32::from_le_bytes(bytes);
        }
        Ok(words)
    }

    /// A header or payload with its checksum.
    fn part(&mut self, length: u32, crc: u32) -> Result<Vec<u8>, RecordingError> {
        let start = self.offset;
        let corrupt = |what: &str| RecordingError::Corrupt { offset: start, what: what.to_owned() };
        if length > MAX_PART {
            return Err(corrupt("a block claims an impossible length"));
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.resize(length as usize, 0);
        self.fill(&mut bytes)?;
        if crc32fast::hash(&bytes) != crc {
            return Err(corrupt("checksum mismatch"));
        }
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), RecordingError> {
        let mut rest = buffer;
        while !rest.is_empty() {
            match self.input.read(rest) {
                Ok(0) => return Err(RecordingError::CutOff(self.offset)),
                Ok(read) => {
                    self.offset += read as u64;
                    rest = rest.split_at_mut(read).1;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(RecordingError::Read(self.offset, error)),
            }
        }
        Ok(())
    }
}

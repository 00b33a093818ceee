//! A recording as a source.

use std::{
    fs::{File, Metadata},
    io::BufReader,
    path::Path,
};

use anyhow::Context as _;
use tcp_trace_core::{record::kind, session::Session};

use super::Batch;
use crate::{
    recording::{Reader, RecordingError},
    shown::shown,
};

/// For the heads of blocks. What is longer, which is what blocks hold, is read past the buffer.
const BUFFER: usize = 8 * 1024;

/// A recording that is read.
#[derive(Debug)]
pub struct Replay {
    reader: Reader<BufReader<File>>,
    length: Option<u64>,
    complete: bool,
}

impl Replay {
    /// Opens a recording.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or is no recording.
    pub fn open(path: &Path) -> anyhow::Result<(Self, Session)> {
        let open = || -> anyhow::Result<_> {
            let file = File::open(path)?;
            let length = file.metadata().ok().filter(Metadata::is_file).map(|metadata| metadata.len());
            let (reader, session) = Reader::new(BufReader::with_capacity(BUFFER, file))?;
            Ok((Self { reader, length, complete: false }, session))
        };
        open().with_context(|| shown(path))
    }

    /// The length of the file; `None` of a pipe.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// How many bytes were read.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Takes a batch back that is done with, for its memory.
    pub fn recycle(&mut self, batch: Batch) {
        self.reader.recycle(batch);
    }

    /// The next batch; `None` after the end mark.
    ///
    /// # Errors
    ///
    /// If the recording is damaged or ends without its end mark.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, RecordingError> {
        let Some(batch) = self.reader.next_batch()? else {
            return if self.complete { Ok(None) } else { Err(RecordingError::CutOff(self.reader.offset())) };
        };
        self.complete = batch.records().any(|record| record.is_ok_and(|record| record.kind == kind::END));
        Ok(Some(batch))
    }
}

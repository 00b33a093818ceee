//! Writes a recording.

use std::io::Write;

use anyhow::Context as _;
use tcp_trace_core::session::Session;

use super::{MAGIC, VERSION};
use crate::source::Batch;

/// A recording being written.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a recording of `session`.
    ///
    /// # Errors
    ///
    /// If the header cannot be written.
    pub fn new(mut out: W, session: &Session) -> anyhow::Result<Self> {
        let header = serde_json::to_vec(session).context("encoding the recording's header")?;
        let length = u32::try_from(header.len()).context("encoding the recording's header")?;
        out.write_all(&MAGIC)?;
        for word in [VERSION, tcp_trace_common::WIRE_VERSION, length, crc32fast::hash(&header)] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&header)?;
        Ok(Self { out })
    }

    /// Adds a batch.
    ///
    /// # Errors
    ///
    /// If it cannot be written; what was added before is intact.
    pub fn batch(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let payload = batch.as_bytes();
        let length = u32::try_from(payload.len()).context("a batch is too long to be recorded")?;
        for word in [length, batch.len(), crc32fast::hash(payload)] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(payload)?;
        Ok(())
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}

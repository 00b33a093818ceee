//! What the agent asks of whoever sends its documents away.
//!
//! An exporter is run by a thread of its own, behind a bounded queue, and may take its time: nobody waits for it. It has
//!
//! ```text
//! fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self>
//! fn send(&mut self, batch: &[Document]) -> Result<(), Failure>
//! fn flush(&mut self) -> Result<(), Failure>
//! ```
//!
//! and keeps what it has not sent of a batch to nobody: the thread offers the rest again.

use std::{fmt, time::Duration};

/// Why a batch, or a part of it, was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The first documents of the batch that are done with: sent, or refused for good. The others are offered again.
    pub done: usize,
    /// Of these, those that were refused for good.
    pub refused: usize,
    /// How long to wait at least before the rest is offered again, if the other side has said so.
    pub after: Option<Duration>,
    /// What went wrong, for people.
    pub why: String,
}

impl Failure {
    /// Nothing of the batch was sent, and all of it may be offered again.
    #[must_use]
    pub fn retry(why: impl fmt::Display) -> Self {
        Self { done: 0, refused: 0, after: None, why: why.to_string() }
    }

    /// The whole batch was refused for good.
    #[must_use]
    pub fn refused(documents: usize, why: impl fmt::Display) -> Self {
        Self { done: documents, refused: documents, after: None, why: why.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Failure {}

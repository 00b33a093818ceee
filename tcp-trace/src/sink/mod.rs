//! Where results go. A sink lays out what the tracker decided; it computes nothing.

mod json;
mod report_table;
mod stream_table;
mod units;

use std::io::{self, Write};

use tcp_trace_core::report::{Report, StateChange};

pub(crate) use report_table::balance;
pub use stream_table::Columns;
use stream_table::StreamTable;

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// State changes in columns.
    Stream(Columns),
    /// State changes as JSON Lines.
    StreamJson,
    /// Reports for people.
    Report,
    /// Reports as JSON.
    ReportJson,
    /// Nothing; a recording is being made.
    Nothing,
}

/// A sink over a writer.
#[derive(Debug)]
pub struct Sink<W: Write> {
    out: W,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Stream(StreamTable),
    StreamJson,
    Report,
    ReportJson,
    Nothing,
}

impl<W: Write> Sink<W> {
    /// A sink of this format.
    pub fn new(out: W, format: Format) -> Self {
        let kind = match format {
            Format::Stream(columns) => Kind::Stream(StreamTable::new(columns)),
            Format::StreamJson => Kind::StreamJson,
            Format::Report => Kind::Report,
            Format::ReportJson => Kind::ReportJson,
            Format::Nothing => Kind::Nothing,
        };
        Self { out, kind }
    }

    /// Whether single state changes are wanted.
    pub fn wants_changes(&self) -> bool {
        matches!(self.kind, Kind::Stream(_) | Kind::StreamJson)
    }

    /// The run has begun.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn begin(&mut self) -> io::Result<()> {
        if let Kind::Stream(table) = &self.kind {
            writeln!(self.out, "{}", table.header())?;
        }
        self.out.flush()
    }

    /// Takes state changes.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn changes(&mut self, changes: &[StateChange]) -> io::Result<()> {
        for change in changes {
            match &mut self.kind {
                Kind::Stream(table) => writeln!(self.out, "{}", table.row(change))?,
                Kind::StreamJson => json::line(&mut self.out, change)?,
                Kind::Report | Kind::ReportJson | Kind::Nothing => {}
            }
        }
        self.out.flush()
    }

    /// Takes a report.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn report(&mut self, report: &Report) -> io::Result<()> {
        match &self.kind {
            Kind::Report => writeln!(self.out, "{}", report_table::render(report))?,
            Kind::ReportJson => json::line(&mut self.out, report)?,
            Kind::Stream(_) | Kind::StreamJson | Kind::Nothing => {}
        }
        self.out.flush()
    }
}

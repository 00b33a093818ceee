//! Where results go. A sink lays out what the tracker decided; it computes nothing.
//!
//! `Sink` prints what a command was asked for. `file`, `journald`, `lines` and `syslog` send an agent's documents away, each on
//! a thread of its own (`agent::export`).

mod closed_table;
mod doctor_table;
pub mod file;
pub mod html;
pub mod journald;
mod json;
mod kill_lines;
pub mod lines;
pub mod otlp;
pub mod prometheus;
mod report_table;
mod snapshot_table;
mod stream_table;
pub mod syslog;
pub(crate) mod units;

use std::io::{self, Write};

use tcp_trace_core::{
    doctor::Diagnosis,
    kill::Entry,
    report::{LineWriter, Obituary, Report, StateChange},
    snapshot::Snapshot,
};

use closed_table::ClosedTable;
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
    /// Finished connections in columns.
    Closed(Columns),
    /// Finished connections as JSON Lines.
    ClosedJson,
    /// Reports for people.
    Report,
    /// Reports as JSON.
    ReportJson,
    /// Nothing; a recording is being made.
    Nothing,
}

impl Format {
    /// The same, with a column for where connections were opened.
    #[must_use]
    pub fn with_stacks(self, stacks: bool) -> Self {
        match self {
            Self::Closed(columns) => Self::Closed(Columns { stacks, ..columns }),
            other => other,
        }
    }
}

/// State changes that are written together.
const CHUNK: usize = 2048;

/// A sink over a writer.
#[derive(Debug)]
pub struct Sink<W: Write> {
    out: W,
    kind: Kind,
    /// Lines on their way to `out`, where a batch of them is one write.
    lines: Vec<u8>,
}

#[derive(Debug)]
enum Kind {
    Stream(StreamTable),
    StreamJson(Box<LineWriter>),
    Closed(ClosedTable),
    ClosedJson,
    Report,
    ReportJson,
    Nothing,
}

impl<W: Write> Sink<W> {
    /// A sink of this format.
    pub fn new(out: W, format: Format) -> Self {
        let kind = match format {
            Format::Stream(columns) => Kind::Stream(StreamTable::new(columns)),
            Format::StreamJson => Kind::StreamJson(Box::default()),
            Format::Closed(columns) => Kind::Closed(ClosedTable::new(columns)),
            Format::ClosedJson => Kind::ClosedJson,
            Format::Report => Kind::Report,
            Format::ReportJson => Kind::ReportJson,
            Format::Nothing => Kind::Nothing,
        };
        Self { out, kind, lines: Vec::new() }
    }

    /// Whether single state changes are wanted.
    pub fn wants_changes(&self) -> bool {
        matches!(self.kind, Kind::Stream(_) | Kind::StreamJson(_))
    }

    /// Whether finished connections are wanted.
    pub fn wants_closed(&self) -> bool {
        matches!(self.kind, Kind::Closed(_) | Kind::ClosedJson)
    }

    /// The run has begun.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn begin(&mut self) -> io::Result<()> {
        match &self.kind {
            Kind::Stream(table) => writeln!(self.out, "{}", table.header())?,
            Kind::Closed(table) => writeln!(self.out, "{}", table.header())?,
            _ => {}
        }
        self.out.flush()
    }

    /// Takes state changes.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn changes(&mut self, changes: &[StateChange]) -> io::Result<()> {
        for part in changes.chunks(CHUNK) {
            match &mut self.kind {
                Kind::Stream(table) => part.iter().for_each(|change| table.row(&mut self.lines, change)),
                Kind::StreamJson(writer) => {
                    part.iter().for_each(|change| writer.write(&mut self.lines, change));
                }
                _ => {}
            }
            self.out.write_all(&self.lines)?;
            self.lines.clear();
        }
        self.out.flush()
    }

    /// Takes finished connections.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn closed(&mut self, closed: &[Obituary]) -> io::Result<()> {
        for obituary in closed {
            match &mut self.kind {
                Kind::Closed(table) => writeln!(self.out, "{}", table.row(obituary))?,
                Kind::ClosedJson => json::line(&mut self.out, obituary)?,
                _ => {}
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
            _ => {}
        }
        self.out.flush()
    }
}

/// Prints a snapshot: for people, or as one JSON document.
///
/// # Errors
///
/// If it cannot be written.
pub fn snapshot(out: &mut impl Write, snapshot: &Snapshot, as_json: bool) -> io::Result<()> {
    if as_json {
        json::line(out, snapshot)?;
    } else {
        out.write_all(snapshot_table::render(snapshot).as_bytes())?;
    }
    out.flush()
}

/// Prints what the doctor found: for people, or as one JSON document.
///
/// # Errors
///
/// If it cannot be written.
pub fn diagnosis(out: &mut impl Write, diagnosis: &Diagnosis, as_json: bool) -> io::Result<()> {
    if as_json {
        json::line(out, diagnosis)?;
    } else {
        out.write_all(doctor_table::render(diagnosis).as_bytes())?;
    }
    out.flush()
}

/// Prints what became of a socket: for people, or as JSON. One line, at once.
///
/// # Errors
///
/// If it cannot be written.
pub fn killed(out: &mut impl Write, entry: &Entry, as_json: bool) -> io::Result<()> {
    if as_json {
        json::line(out, entry)?;
    } else {
        writeln!(out, "{}", kill_lines::line(entry))?;
    }
    out.flush()
}

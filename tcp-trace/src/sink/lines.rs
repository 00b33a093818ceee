//! JSON Lines on standard output.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, fstat},
};
use serde::Deserialize;
use tcp_trace_core::log::{Document, LogWriter, Origin};

use crate::agent::export::Failure;

/// What a pipe that is ready takes without blocking (`PIPE_BUF`; `pipe_poll` and `pipe_write` in `fs/pipe.c`).
const PIPE: usize = 4096;
/// What is written to a file at once.
const CHUNK: usize = 64 * 1024;
/// How long a reader may take no byte at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// `[sinks.NAME.stdout]`: one document a line on standard output. It has no keys of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Writes lines to standard output.
#[derive(Debug)]
pub struct Lines {
    out: File,
    /// Whether it may block: whatever is no file.
    blocks: bool,
    writer: LogWriter,
    /// Lines on their way.
    lines: Vec<u8>,
    /// What is missing of a line that was begun: it is written before anything else.
    rest: Vec<u8>,
}

impl Lines {
    /// On this process's standard output.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self> {
        let Config {} = config;
        Self::on(io::stdout().as_fd().try_clone_to_owned()?, origin)
    }

    /// On any descriptor.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn on(out: OwnedFd, origin: &Origin) -> anyhow::Result<Self> {
        let blocks = FileType::from_raw_mode(fstat(&out)?.st_mode) != FileType::RegularFile;
        Ok(Self {
            out: File::from(out),
            blocks,
            writer: LogWriter::new(origin),
            lines: Vec::new(),
            rest: Vec::new(),
        })
    }

    /// Writes all of them.
    ///
    /// # Errors
    ///
    /// If the reader takes nothing for five seconds, or is gone.
    pub fn send(&mut self, batch: &[Document]) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.rest);
        self.put(&rest).map_err(|(written, error)| {
            self.rest = rest.get(written..).unwrap_or_default().to_vec();
            Failure::retry(said(&error))
        })?;
        let mut done = 0;
        while let Some(documents) = batch.get(done..).filter(|rest| !rest.is_empty()) {
            let taken = self.fill(documents);
            let lines = std::mem::take(&mut self.lines);
            let put = self.put(&lines);
            if let Err((written, error)) = put {
                return Err(Failure {
                    done: done + self.keep(&lines, written),
                    ..Failure::retry(said(&error))
                });
            }
            self.lines = lines;
            done += taken;
        }
        Ok(())
    }

    /// Nothing is kept back.
    ///
    /// # Errors
    ///
    /// None.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.send(&[])
    }

    /// Lines of a chunk; how many documents they are.
    fn fill(&mut self, documents: &[Document]) -> usize {
        self.lines.clear();
        let mut taken = 0;
        for document in documents {
            self.writer.write(&mut self.lines, document);
            taken += 1;
            if self.lines.len() >= CHUNK {
                break;
            }
        }
        taken
    }

    /// After `written` bytes of `lines`: how many were begun. What the last of them lacks comes next.
    fn keep(&mut self, lines: &[u8], written: usize) -> usize {
        let (before, after) = lines.split_at_checked(written).unwrap_or((lines, &[]));
        let mut begun = before.iter().filter(|byte| **byte == b'\n').count();
        if before.last().is_some_and(|byte| *byte != b'\n') {
            begun += 1;
            self.rest = after.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        }
        begun
    }

    /// Writes bytes; with an error comes how many were written before.
    fn put(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
            let failed = |error| (written, error);
            if self.blocks {
                ready(&self.out, PATIENCE).map_err(failed)?;
            }
            let most = if self.blocks { PIPE } else { CHUNK };
            match self.out.write(left.get(..most).unwrap_or(left)) {
                Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

/// Waits until a descriptor takes bytes.
fn ready(out: impl AsFd, patience: Duration) -> io::Result<()> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(&out, PollFlags::OUT)];
        let timeout = rustix::event::Timespec::try_from(left).ok();
        match poll(&mut ready, timeout.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            format!("standard output: its reader has taken nothing for {} s", PATIENCE.as_secs())
        }
        io::ErrorKind::BrokenPipe => "standard output: its reader is gone".to_owned(),
        _ => format!("standard output: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use tcp_trace_core::{log::DegradationNotice, session::Degradation, time::WallTime};

    use super::*;

    fn document(number: u64) -> Document {
        Document::Degradation(DegradationNotice {
            time: WallTime(number),
            degradation: Degradation { feature: "x".repeat(3000), reason: "y".into(), remedy: None },
            over: false,
        })
    }

    #[test]
    fn a_line_that_was_begun_is_completed_when_the_reader_goes_on() {
        let (mut reader, out) = io::pipe().unwrap();
        let mut lines = Lines::on(out.into(), &Origin::default()).unwrap();
        let batch: Vec<_> = (0..60).map(document).collect();
        let start = Instant::now();
        let failure = lines.send(&batch).unwrap_err();
        assert!(start.elapsed() < PATIENCE * 2 && failure.why.contains("has taken nothing"), "{failure}");
        assert!((1..60).contains(&failure.done) && failure.refused == 0, "{failure:?}");
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        lines.send(&batch[failure.done..]).unwrap();
        drop(lines);
        let text = reading.join().unwrap();
        let times = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let times: Vec<_> = times.map(|line| line["time"].as_str().unwrap().to_owned()).collect();
        let expected: Vec<_> = (0..60).map(|n| format!("1970-01-01T00:00:00.0000000{n:02}Z")).collect();
        assert_eq!(times, expected);
    }
}

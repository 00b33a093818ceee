//! JSON Lines in a file that is rotated: by itself, or by `logrotate`.
//!
//! Whoever reads the file finds whole lines only. What a crash or a full disk has left of a line is cut off before the
//! next one is written.

mod rotated;
mod whole;

use std::{
    fs::{self, File as Handle},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use rotated::Keeper;
use serde::Deserialize;
use tcp_trace_core::log::{Document, LogWriter, Origin};
use whole::Stopped;

use crate::agent::{
    export::Failure,
    values::{Period, Size},
};
use crate::shown::shown;

/// What is written at once.
const CHUNK: usize = 64 * 1024;
/// How long after a rotation that failed the next one is tried.
const AGAIN: Duration = Duration::from_secs(60);

/// `[sinks.NAME.file]`: one document a line in a file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path of the file. Its folder must exist, and no other agent may write to it.
    pub path: PathBuf,
    /// Permissions of the file, and of those that it is rotated into, in octal; `"0600"` by default.
    #[serde(default)]
    pub mode: Mode,
    /// Who rotates it. `"own"` (the default): this sink, by the keys below. `"external"`: somebody else, as `logrotate` with
    /// `copytruncate`, or by renaming, with SIGHUP or without.
    #[serde(default)]
    pub rotation: Rotation,
    /// The file is rotated before it grows larger than this; `"64M"` by default.
    #[serde(default = "default_max_size")]
    pub max_size: Size,
    /// The file is rotated at each multiple of this since 1970 in UTC: `"1d"` is at midnight; not at all by default.
    #[serde(default)]
    pub every: Option<Period>,
    /// How many rotated files are kept; 5 by default.
    #[serde(default = "default_keep")]
    pub keep: u32,
    /// Whether rotated files are compressed (gzip); true by default.
    #[serde(default = "default_compress")]
    pub compress: bool,
    /// When what was written is forced to the disk. `"never"`: when the kernel likes; `"rotation"` (the default): before a
    /// file is renamed, and at the end; `"batch"`: after each batch of documents.
    #[serde(default)]
    pub fsync: Fsync,
}

/// Permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

/// Who rotates a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// The sink itself.
    #[default]
    Own,
    /// Somebody else.
    External,
}

/// When what was written is forced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    /// When the kernel likes.
    Never,
    /// Before a file is renamed, and at the end.
    #[default]
    Rotation,
    /// After each batch.
    Batch,
}

fn default_max_size() -> Size {
    Size::mebibytes(64)
}

fn default_keep() -> u32 {
    5
}

fn default_compress() -> bool {
    true
}

impl Default for Mode {
    fn default() -> Self {
        Self(0o600)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777 && mode & 0o200 != 0);
        mode.map(Self).ok_or_else(|| {
            format!("`{text}` are no permissions; give three octal digits that let the owner write, such as \"0640\"")
        })
    }
}

/// Writes lines to a file.
#[derive(Debug)]
pub struct File {
    config: Config,
    writer: LogWriter,
    lines: Vec<u8>,
    open: Open,
    keeper: Keeper,
    /// When a rotation may be tried again that has failed.
    not_before: Option<Instant>,
}

/// A file that is written to.
#[derive(Debug)]
struct Open {
    handle: Handle,
    /// Which of the periods since 1970 its first line is of.
    period: u64,
    /// Whether its last line may not be whole.
    torn: bool,
}

impl File {
    /// Opens the file, and cuts off what a crash has left of a line.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, is no file, or another process writes to it.
    pub fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self> {
        let open = Open::new(config).with_context(|| shown(&config.path))?;
        let keeper = Keeper::new(config);
        let file = Self {
            config: config.clone(),
            writer: LogWriter::new(origin),
            lines: Vec::new(),
            open,
            keeper,
            not_before: None,
        };
        // What an earlier run has rotated and not compressed.
        if config.rotation == Rotation::Own {
            file.keeper.tidy();
        }
        Ok(file)
    }

    /// Writes all of them.
    ///
    /// # Errors
    ///
    /// If they cannot be written; what was written of a line is taken back.
    pub fn send(&mut self, batch: &[Document]) -> Result<(), Failure> {
        self.follow()?;
        let mut done = 0;
        while let Some(documents) = batch.get(done..).filter(|rest| !rest.is_empty()) {
            let taken = self.fill(documents);
            self.rotate_if_due();
            match self.open.write(&self.lines) {
                Ok(()) => done += taken,
                Err(Stopped { lines, error, .. }) => {
                    return Err(Failure { done: done + lines, ..self.failed(&error) });
                }
            }
        }
        if self.config.fsync == Fsync::Batch {
            self.open.handle.sync_data().map_err(|error| Failure { done, ..self.failed(&error) })?;
        }
        Ok(())
    }

    /// Forces what was written to the disk, as the configuration has it, and waits a moment for the compression.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.keeper.wait(Duration::from_secs(2));
        if self.config.fsync != Fsync::Never {
            self.open.handle.sync_data().map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// Opens the file anew: it was renamed.
    ///
    /// # Errors
    ///
    /// If it cannot be opened; the one before is written to all the same.
    pub fn reopen(&mut self) -> Result<(), Failure> {
        // The lock is the process's on that file, not on its name: of the same one a second would be refused.
        if is_at(&self.open.handle, &self.config.path) {
            return Ok(());
        }
        let open =
            Open::new(&self.config).map_err(|error| Failure::retry(self.named(&format!("{error:#}"))))?;
        if self.config.fsync != Fsync::Never {
            // It is somebody else's by now; what cannot be forced to the disk is there by and by.
            let _ = self.open.handle.sync_data();
        }
        self.open = open;
        Ok(())
    }

    /// Goes on in a new file when the old one was renamed or removed, though nobody has said so.
    fn follow(&mut self) -> Result<(), Failure> {
        if is_at(&self.open.handle, &self.config.path) { Ok(()) } else { self.reopen() }
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

    fn rotate_if_due(&mut self) {
        let now = Instant::now();
        if self.config.rotation == Rotation::External
            || self.not_before.is_some_and(|time| now < time)
            || !self.is_due()
        {
            return;
        }
        self.not_before = None;
        if let Err(error) = self.rotate() {
            // The file grows on: better than losing what there is to say.
            log::warn!("{}", self.named(&format!("it could not be rotated: {error:#}")));
            self.not_before = Some(now + AGAIN);
        }
    }

    fn is_due(&self) -> bool {
        let size = self.open.handle.metadata().map_or(0, |metadata| metadata.len());
        let grows = size.saturating_add(self.lines.len() as u64) > self.config.max_size.0;
        size > 0 && (grows || self.open.period != period(&self.config, SystemTime::now()))
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        if self.config.fsync != Fsync::Never {
            self.open.handle.sync_data()?;
        }
        let to = self.keeper.name(SystemTime::now());
        fs::rename(&self.config.path, &to).with_context(|| format!("renaming it to {}", shown(&to)))?;
        self.open = Open::new(&self.config)?;
        self.keeper.tidy();
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::retry(self.named(&error.to_string()))
    }

    fn named(&self, what: &str) -> String {
        format!("{}: {what}", shown(&self.config.path))
    }
}

impl Open {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let mut handle = whole::open(&config.path, config.mode.0)?;
        whole::cut_off(&mut handle, false)?;
        let metadata = handle.metadata()?;
        // Of a file that an earlier run has written to, the time of its last line is the best that is known.
        let begun = metadata.modified().ok().filter(|_| metadata.len() > 0).unwrap_or_else(SystemTime::now);
        Ok(Self { period: period(config, begun), handle, torn: false })
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Stopped> {
        if self.torn {
            whole::cut_off(&mut self.handle, true).map_err(|error| Stopped {
                lines: 0,
                torn: true,
                error,
            })?;
        }
        let written = whole::write(&mut self.handle, lines);
        self.torn = written.as_ref().is_err_and(|stopped| stopped.torn);
        written
    }
}

/// Which period a time is in; 0 where there are none.
fn period(config: &Config, time: SystemTime) -> u64 {
    let Some(Period(every)) = config.every else { return 0 };
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    seconds / every.as_secs().max(1)
}

/// Whether a file is the one of that path.
fn is_at(handle: &Handle, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (handle.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Writes to a handle; only there so that tests can fill it.
#[cfg(test)]
mod tests;

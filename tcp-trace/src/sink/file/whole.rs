//! Lines that are there as a whole or not at all.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::Path,
};

use crate::new_file::is_planted;
use anyhow::{Context as _, bail, ensure};
use rustix::{
    fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, open as open_at_path},
    io::Errno,
};

/// How far back the beginning of a line is looked for. Lines are far shorter; what is longer was not written here.
const LONGEST_LINE: u64 = 1 << 20;

/// Opens a file for appending, and locks it against other agents.
pub(super) fn open(path: &Path, mode: u32) -> anyhow::Result<File> {
    // Neither through a link that somebody has put there, nor for ever at a pipe that nobody reads.
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK;
    let descriptor = match open_at_path(path, flags, Mode::from_raw_mode(mode)) {
        Ok(descriptor) => descriptor,
        Err(Errno::NOENT) => bail!("its folder does not exist; create it, or correct `path`"),
        Err(Errno::LOOP) => bail!("it is a symbolic link; give the path that it points to"),
        // Root, too, by then: it does not keep the right to write everywhere.
        Err(Errno::ACCESS) => bail!(
            "permission denied; let the user that runs this write to it and to its folder, root by their modes as well \
             (docs/privileges.md)"
        ),
        Err(error) => return Err(error).context("it cannot be opened for writing"),
    };
    let kind = FileType::from_raw_mode(fstat(&descriptor)?.st_mode);
    ensure!(kind == FileType::RegularFile, "it is no file; for a pipe use the sink `stdout`");
    let file = File::from(descriptor);
    ensure!(
        !is_planted(path, &file)?,
        "another user has put it into a folder where everybody may; remove it, or use a folder of this agent's own"
    );
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => bail!("another process writes to it; give each sink a file of its own"),
        Err(error) => Err(error).context("it cannot be locked"),
    }
}

/// Cuts off what follows the last newline: a crash has left it. Of a file that may be somebody else's, only what begins as our
/// lines do.
pub(super) fn cut_off(file: &mut File, is_ours: bool) -> io::Result<()> {
    let size = file.metadata()?.len();
    let start = size.saturating_sub(LONGEST_LINE);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    (&*file).take(LONGEST_LINE).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1);
    let Some(first) = tail.get(whole.unwrap_or_default()..).and_then(<[u8]>::first) else { return Ok(()) };
    match whole {
        Some(whole) if is_ours || *first == b'{' => file.set_len(start + whole as u64),
        None if start == 0 && (is_ours || *first == b'{') => file.set_len(0),
        // No line of ours: it is left as it is, and ended.
        _ => file.write_all(b"\n"),
    }
}

/// Why not all lines were written.
#[derive(Debug)]
pub(super) struct Stopped {
    /// How many are in the file.
    pub(super) lines: usize,
    /// Whether a part of the next one is, too, and could not be taken back.
    pub(super) torn: bool,
    /// What went wrong.
    pub(super) error: io::Error,
}

/// Appends whole lines; what was written of one that is not whole is taken back.
pub(super) fn write(file: &mut File, lines: &[u8]) -> Result<(), Stopped> {
    let nothing = |error| Stopped { lines: 0, torn: false, error };
    let before = file.metadata().map_err(nothing)?.len();
    let mut written = 0;
    let error = loop {
        let Some(left) = lines.get(written..).filter(|left| !left.is_empty()) else { return Ok(()) };
        match file.write(left) {
            Ok(0) => break io::ErrorKind::WriteZero.into(),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
    };
    let begun = lines.get(..written).unwrap_or(lines);
    let whole = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    // If the size is another one by now, somebody has emptied the file (`copytruncate`): what is left of the line is cut
    // off where it is.
    let after = file.metadata().map_or(0, |metadata| metadata.len());
    let taken_back = if after == before + written as u64 {
        file.set_len(before + whole as u64)
    } else {
        cut_off(file, true)
    };
    let lines = begun.iter().filter(|byte| **byte == b'\n').count();
    Err(Stopped { lines, torn: taken_back.is_err(), error })
}

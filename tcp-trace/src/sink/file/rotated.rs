//! What a file was rotated into: `FILE.20261122T203312.123Z`, compressed `….gz`, and no more of them than are wanted.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use flate2::{Compression, write::GzEncoder};

use super::Config;
use crate::{new_file::open_no_link, shown::shown};

/// Ends the name of a file that is being compressed.
const UNFINISHED: &str = ".gz.part";
/// Ends that of one that was.
const COMPRESSED: &str = ".gz";

/// Looks after rotated files.
#[derive(Debug)]
pub(super) struct Keeper {
    kept: Arc<Kept>,
    /// The thread that compresses; it ends when there is nothing to compress.
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    keep: usize,
    compress: bool,
    /// Whether there is something to do again.
    again: Mutex<bool>,
}

impl Keeper {
    pub(super) fn new(config: &Config) -> Self {
        let kept = Kept {
            path: config.path.clone(),
            keep: usize::try_from(config.keep).unwrap_or(usize::MAX),
            compress: config.compress,
            again: Mutex::new(false),
        };
        Self { kept: Arc::new(kept), worker: Mutex::new(None) }
    }

    /// A name that none of them has, after all names before it.
    pub(super) fn name(&self, now: SystemTime) -> PathBuf {
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ms = i64::try_from(since_1970.as_millis()).unwrap_or_default();
        let mut time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        loop {
            let name = self.kept.beside(&format!(".{}", stamp(time)));
            let compressed = self.kept.beside(&format!(".{}{COMPRESSED}", stamp(time)));
            if !name.exists() && !compressed.exists() {
                return name;
            }
            time += jiff::SignedDuration::from_millis(1);
        }
    }

    /// Removes what is too much at once, and compresses the rest in a thread.
    pub(super) fn tidy(&self) {
        self.kept.remove();
        if !self.kept.compress {
            return;
        }
        *lock(&self.kept.again) = true;
        let mut worker = lock(&self.worker);
        if worker.as_ref().is_some_and(|worker| !worker.is_finished()) {
            return;
        }
        let kept = Arc::clone(&self.kept);
        let spawned = thread::Builder::new().name("compress".to_owned()).spawn(move || {
            // Looked at after each pass, so that what is rotated meanwhile is not forgotten.
            while std::mem::take(&mut *lock(&kept.again)) {
                kept.compress();
                kept.remove();
            }
        });
        *worker = spawned.inspect_err(|error| log::warn!("no thread to compress logs: {error}")).ok();
    }

    /// Waits until everything is compressed, but not for ever: what is not, the next run compresses.
    pub(super) fn wait(&self, patience: Duration) {
        let end = Instant::now() + patience;
        while lock(&self.worker).as_ref().is_some_and(|worker| !worker.is_finished()) && Instant::now() < end
        {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Nothing that is guarded here can be half-done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In order of time and of the alphabet.
fn stamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

/// Whether it is one of ours: eight digits, `T`, six digits, a point, three digits, `Z`.
fn is_stamp(text: &str) -> bool {
    let form = "00000000T000000.000Z";
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            form => byte == form,
        })
}

impl Kept {
    /// The path with something behind it.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    /// The rotated files, oldest first. Nobody else's are among them.
    fn list(&self) -> Vec<PathBuf> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
        let base =
            self.path.file_name().map(|name| name.to_string_lossy().into_owned() + ".").unwrap_or_default();
        let mut found: Vec<_> = entries
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let stamp = name.strip_prefix(&base);
                let stamp = stamp.map(|stamp| {
                    [UNFINISHED, COMPRESSED].iter().find_map(|end| stamp.strip_suffix(end)).unwrap_or(stamp)
                });
                stamp.is_some_and(is_stamp)
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    }

    /// Removes the oldest ones.
    fn remove(&self) {
        let rotated: Vec<_> = self.list().into_iter().filter(|path| !ends(path, UNFINISHED)).collect();
        for path in rotated.iter().take(rotated.len().saturating_sub(self.keep)) {
            if let Err(error) = fs::remove_file(path)
                // Whoever compresses removes as well.
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("{}: it could not be removed: {error}", shown(path));
            }
        }
    }

    fn compress(&self) {
        for path in self.list() {
            // A crash has left it; its source is still there.
            let result = if ends(&path, UNFINISHED) {
                fs::remove_file(&path)
            } else if ends(&path, COMPRESSED) {
                Ok(())
            } else {
                compress(&path)
            };
            match result {
                // It has become too old meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::warn!("{}: it could not be compressed: {error}", shown(path)),
                Ok(()) => {}
            }
        }
    }
}

/// At no moment is it neither here nor there.
fn compress(path: &Path) -> io::Result<()> {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let part = with(UNFINISHED);
    // A crash has left it, or somebody has put it there; it is not written into.
    let _ = fs::remove_file(&part);
    let compressed = open_no_link(path).and_then(|from| {
        let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        to.set_permissions(from.metadata()?.permissions())?;
        let mut encoder = GzEncoder::new(to, Compression::new(3));
        io::copy(&mut BufReader::with_capacity(1 << 17, from), &mut encoder)?;
        let mut to = encoder.finish()?;
        to.flush()?;
        to.sync_data()?;
        fs::rename(&part, with(COMPRESSED))?;
        fs::remove_file(path)
    });
    compressed.inspect_err(|_| _ = fs::remove_file(&part))
}

fn ends(path: &Path, suffix: &str) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(suffix.as_bytes())
}

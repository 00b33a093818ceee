//! Command lines: the one file of `/proc` that lies in the memory of the process itself.
//!
//! To read it the kernel takes that process's lock of its mappings and, if need be, has a page fetched
//! (`get_mm_cmdline`, `fs/proc/base.c`; `access_remote_vm`). A process that hangs in the kernel with the lock, or whose page
//! comes from a file system that does not answer, holds up whoever asks, for as long as it likes, and only SIGKILL ends
//! such a wait. So a thread of its own asks, and is left behind if it does not come back.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};
use tcp_trace_core::process::ProcessId;

/// How long a process may take; it is a matter of microseconds, unless the page is on a disk that is busy.
const PATIENCE: Duration = Duration::from_millis(500);
/// Threads that are left behind at most. From then on no command line is read until one of them comes back.
const LEFT_BEHIND: usize = 4;

/// Whoever reads, and those that have not come back.
static READER: Mutex<Reader> = Mutex::new(Reader { at_work: None, left_behind: Vec::new() });

/// The first bytes of the command line of the process with this folder of `/proc`, up to `limit`; `None` if it cannot be
/// had, also because the process does not let anybody have it.
pub(super) fn read(folder: BorrowedFd<'_>, process: ProcessId, limit: usize) -> Option<Vec<u8>> {
    let folder = folder.try_clone_to_owned().ok()?;
    READER.lock().unwrap_or_else(PoisonError::into_inner).read(folder, process, limit)
}

/// The processes that do not let their command lines be read just now, a sentence each.
pub(super) fn problems() -> Vec<String> {
    let mut reader = READER.lock().unwrap_or_else(PoisonError::into_inner);
    reader.forget_those_that_are_back();
    let sentence = |(_, process): &(Thread, ProcessId)| {
        format!(
            "process {} does not let its command line be read: it hangs, or its memory lies in a file system that does \
             not answer",
            process.pid
        )
    };
    reader.left_behind.iter().map(sentence).collect()
}

#[derive(Debug)]
struct Reader {
    at_work: Option<Thread>,
    left_behind: Vec<(Thread, ProcessId)>,
}

/// A thread that reads what it is given; it ends with its `Thread`, if it can.
#[derive(Debug)]
struct Thread {
    folders: SyncSender<(OwnedFd, usize)>,
    texts: Receiver<io::Result<Vec<u8>>>,
}

impl Reader {
    fn forget_those_that_are_back(&mut self) {
        self.left_behind.retain(|(thread, _)| !thread.is_back());
    }

    fn read(&mut self, folder: OwnedFd, process: ProcessId, limit: usize) -> Option<Vec<u8>> {
        self.forget_those_that_are_back();
        // It has shown what it does to who asks.
        let is_known = self.left_behind.iter().any(|(_, of)| *of == process);
        if is_known || self.left_behind.len() >= LEFT_BEHIND {
            return None;
        }
        let thread = match self.at_work.take() {
            Some(thread) => thread,
            None => Thread::start().inspect_err(|error| log::info!("reading command lines: {error}")).ok()?,
        };
        thread.folders.send((folder, limit)).ok()?;
        match thread.texts.recv_timeout(PATIENCE) {
            Ok(text) => {
                self.at_work = Some(thread);
                text.ok()
            }
            Err(RecvTimeoutError::Timeout) => {
                log::info!("process {} does not let its command line be read", process.pid);
                self.left_behind.push((thread, process));
                None
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (folders, wanted) = sync_channel(1);
        let (done, texts) = sync_channel(1);
        thread::Builder::new().name("tcp-trace-proc".to_owned()).spawn(move || {
            while let Ok((folder, limit)) = wanted.recv() {
                if done.send(first_bytes(&folder, limit)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { folders, texts })
    }

    /// Whether one that was left behind is free again.
    fn is_back(&self) -> bool {
        !matches!(self.texts.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }
}

fn first_bytes(folder: &OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(folder, c"cmdline", flags, Mode::empty())?;
    let mut bytes = Vec::new();
    match File::from(file).take(limit as u64).read_to_end(&mut bytes) {
        // It ended meanwhile.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(Vec::new()),
        read => read.map(|_length| bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::fs::{CWD, FileType, mkdirat, mknodat, open, unlinkat};

    use super::*;

    fn reader() -> Reader {
        Reader { at_work: None, left_behind: Vec::new() }
    }

    fn folder(path: &str) -> OwnedFd {
        open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn process(pid: u32) -> ProcessId {
        ProcessId::new(pid, Some(1_000_000_000))
    }

    #[test]
    fn it_is_read_by_a_thread_that_stays() {
        let mut reader = reader();
        for limit in [4096, 3] {
            let own = reader.read(folder("/proc/self"), process(1), limit).unwrap();
            let expected = std::fs::read("/proc/self/cmdline").unwrap();
            assert_eq!(own, expected[..limit.min(expected.len())]);
        }
        assert!(reader.at_work.is_some() && reader.left_behind.is_empty());
    }

    /// A folder whose `cmdline` is a pipe that nobody has opened for writing.
    #[test]
    fn who_does_not_answer_is_left_behind_and_not_asked_again() {
        let path = std::env::temp_dir().join(format!("tcp-trace-cmdline-{}", std::process::id()));
        mkdirat(CWD, &path, Mode::from_raw_mode(0o700)).unwrap();
        let (pipe, text) = (path.join("cmdline"), path.to_str().unwrap());
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let mut reader = reader();
        let start = Instant::now();
        assert_eq!(reader.read(folder(text), process(1), 9), None);
        let took = start.elapsed();
        assert!(took >= PATIENCE, "{took:?}");
        assert_eq!(reader.read(folder(text), process(1), 9), None);
        assert!(start.elapsed() < took + PATIENCE / 2, "it was asked again");
        assert!(reader.read(folder("/proc/self"), process(2), 9).is_some(), "others are none the worse");
        for pid in 3..9 {
            assert_eq!(reader.read(folder(text), process(pid), 9), None);
        }
        assert_eq!(reader.left_behind.len(), LEFT_BEHIND, "no more threads than that hang");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !reader.left_behind.is_empty() && Instant::now() < deadline {
            // Whoever hangs in the opening goes on, and finds nothing. Without `NONBLOCK` this might wait for a reader.
            let _ = open(&pipe, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
            reader.forget_those_that_are_back();
        }
        assert!(reader.left_behind.is_empty(), "who answers at last is asked again");
        unlinkat(CWD, &pipe, rustix::fs::AtFlags::empty()).unwrap();
        std::fs::remove_dir(&path).unwrap();
    }
}

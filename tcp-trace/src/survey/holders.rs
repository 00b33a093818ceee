//! Who holds which socket: one pass over the descriptors of all processes.

use std::{
    mem::MaybeUninit,
    ops::AddAssign,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use rustc_hash::FxHashSet;
use rustix::{fs::readlinkat_raw, io::Errno};
use tcp_trace_core::{
    doctor::{Feature, names},
    survey::Holder,
};

use super::proc::{self, Folder};
use crate::host;

/// More holders than a host can have sockets: a bound against processes that open and close while we read. Of each
/// thread.
const MOST: usize = 4 << 20;
/// The kernel makes an inode for each descriptor that it lists, which takes longer than all else. No more than this,
/// because a host with many CPUs has other work.
const THREADS: usize = 4;

/// What could not be read.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    forbidden: usize,
    others: usize,
    last: Option<Errno>,
    too_many: bool,
}

/// The holders of these sockets, by inode number, or of all sockets, in order; and what could not be read, for people.
///
/// What is seen is the descriptor table of each process's first thread. The threads of a process share one, unless
/// one of them unshared it (`clone` without `CLONE_FILES`, `unshare(CLONE_FILES)`): what only such a thread holds
/// is not found. Nor are sockets on their way in an `SCM_RIGHTS` message, or registered with io_uring.
#[must_use]
pub fn scan(wanted: Option<&FxHashSet<u32>>) -> (Vec<Holder>, Vec<String>) {
    let start = Instant::now();
    let mut problems = Vec::new();
    let pids = match proc::pids() {
        Ok(pids) => pids,
        Err(error) => return (Vec::new(), vec![format!("/proc cannot be listed: {error}; mount it")]),
    };
    if !pids.contains(&1) {
        problems.push(proc::HIDDEN.to_owned());
    }
    let (mut holders, trouble) = on_threads(&pids, wanted);
    problems.extend(trouble.sentences(host::may_read_descriptors()));
    holders.sort_unstable();
    log::debug!("{} descriptors of sockets found in {:?}", holders.len(), start.elapsed());
    (holders, problems)
}

/// Each thread takes the next process, until all are read.
fn on_threads(pids: &[u32], wanted: Option<&FxHashSet<u32>>) -> (Vec<Holder>, Trouble) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = (Vec::new(), Trouble::default());
        let mut buffer = proc::listing_buffer();
        while let Some(pid) = pids.get(next.fetch_add(1, Ordering::Relaxed))
            && found.0.len() < MOST
        {
            found.1.note(of_process(*pid, wanted, &mut buffer, &mut found.0));
        }
        found.1.too_many = found.0.len() >= MOST;
        found
    };
    let others = thread::available_parallelism().map_or(1, usize::from).min(THREADS) - 1;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..others)
            .filter_map(|_| thread::Builder::new().name("holders".to_owned()).spawn_scoped(scope, work).ok())
            .collect();
        let (mut holders, mut trouble) = work();
        for thread in threads {
            if let Ok((more, other)) = thread.join() {
                holders.extend(more);
                trouble += other;
            }
        }
        (holders, trouble)
    })
}

impl Trouble {
    fn note(&mut self, result: rustix::io::Result<()>) {
        match result {
            // A process, or a descriptor of it, that is gone by now.
            Ok(()) | Err(Errno::NOENT | Errno::SRCH) => {}
            Err(Errno::ACCESS | Errno::PERM) => self.forbidden += 1,
            Err(error) => {
                self.others += 1;
                self.last = Some(error);
            }
        }
    }

    fn sentences(self, permitted: bool) -> Vec<String> {
        let Self { forbidden, others, last, too_many } = self;
        let mut sentences = Vec::new();
        let unread = |count| {
            let noun = if count == 1 { "process" } else { "processes" };
            format!("the descriptors of {count} {noun}")
        };
        let needed = names(Feature::Holders.capabilities());
        match forbidden {
            0 => {}
            _ if permitted => sentences.push(format!(
                "{} cannot be read, although {needed} are there: something else on this host forbids it",
                unread(forbidden)
            )),
            _ => {
                sentences
                    .push(format!("{} of other users cannot be read: needs {needed}", unread(forbidden)));
            }
        }
        if let Some(error) = last {
            sentences.push(format!("{} cannot be read: {error}", unread(others)));
        }
        if too_many {
            sentences
                .push(format!("there are more than {MOST} descriptors of sockets, and not all were read"));
        }
        sentences
    }
}

impl AddAssign for Trouble {
    fn add_assign(&mut self, other: Self) {
        self.forbidden += other.forbidden;
        self.others += other.others;
        self.last = self.last.or(other.last);
        self.too_many |= other.too_many;
    }
}

/// Adds the sockets of one process.
fn of_process(
    pid: u32,
    wanted: Option<&FxHashSet<u32>>,
    buffer: &mut [MaybeUninit<u8>],
    holders: &mut Vec<Holder>,
) -> rustix::io::Result<()> {
    let descriptors = Folder::open(Some(&Folder::of_process(pid)?), c"fd")?;
    let mut forbidden = None;
    descriptors.numbers(buffer, |name, fd| {
        // `socket:[NUMBER]` fits; the beginning of a longer link is no socket.
        let mut link = [MaybeUninit::uninit(); 32];
        match readlinkat_raw(&descriptors.0, name, &mut link) {
            Ok((target, _rest)) => {
                let inode = proc::inode(target, b"socket");
                let inode = inode.filter(|inode| wanted.is_none_or(|wanted| wanted.contains(inode)));
                holders.extend(inode.map(|inode| Holder { inode, pid, fd }));
            }
            Err(error @ (Errno::ACCESS | Errno::PERM)) => forbidden = Some(error),
            // Closed since it was listed.
            Err(_) => {}
        }
        forbidden.is_none()
    })?;
    forbidden.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    };

    use super::*;

    fn inode(listener: &TcpListener) -> u32 {
        let metadata = std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        metadata.ino().try_into().unwrap()
    }

    #[test]
    fn own_sockets_are_found_with_all_their_descriptors() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let twice = one.try_clone().unwrap();
        let wanted: FxHashSet<u32> = [inode(&one)].into_iter().collect();
        let (holders, _) = scan(Some(&wanted));
        let mut fds: Vec<u32> = holders.iter().map(|holder| holder.fd).collect();
        fds.sort_unstable();
        let mut expected = [one.as_raw_fd(), twice.as_raw_fd()].map(|fd| u32::try_from(fd).unwrap());
        expected.sort_unstable();
        assert_eq!(fds, expected);
        assert!(holders.iter().all(|h| h.pid == std::process::id() && h.inode == inode(&one)), "{holders:?}");
        let (all, _) = scan(None);
        assert!(all.iter().any(|holder| holder.inode == inode(&other)));
        assert!(holders.iter().all(|holder| all.contains(holder)));
    }

    #[test]
    fn what_is_forbidden_is_one_sentence() {
        let trouble = Trouble { forbidden: 3, ..Trouble::default() };
        assert_eq!(
            trouble.sentences(false),
            [
                "the descriptors of 3 processes of other users cannot be read: needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
            ]
        );
        let one = Trouble { forbidden: 1, ..trouble };
        assert!(one.sentences(true)[0].starts_with("the descriptors of 1 process cannot be read, although"));
        assert!(Trouble::default().sentences(false).is_empty());
    }
}

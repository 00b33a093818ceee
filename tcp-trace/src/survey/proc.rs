//! The folders and files of `/proc`. A descriptor of `/proc/PID` stays with that process: when it is gone, whatever
//! is opened below answers ESRCH, and never shows the next process with the same pid (`get_pid_task`, `fs/proc/base.c`).

use std::{ffi::CStr, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw},
    io::{Errno, Result, read},
};

/// Large enough that `getdents` returns some thousand descriptors at once.
const LISTING: usize = 64 * 1024;
const LONGEST_PATH: usize = 4096;

/// A folder of `/proc`.
#[derive(Debug)]
pub(super) struct Folder(pub(super) OwnedFd);

impl Folder {
    /// Opens it to list it. Nothing of a host's `/proc` is a link that should be followed.
    pub(super) fn open(parent: Option<&Self>, name: &CStr) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let parent = parent.map_or(CWD, |parent| std::os::fd::AsFd::as_fd(&parent.0));
        openat(parent, name, flags, Mode::empty()).map(Self)
    }

    /// The folder of a process.
    pub(super) fn of_process(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(CWD, Path::new(&path), flags, Mode::empty()).map(Self)
    }

    /// Calls `each` with the name of each entry that is a number, until it says no.
    pub(super) fn numbers(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        mut each: impl FnMut(&CStr, u32) -> bool,
    ) -> Result<()> {
        let mut entries = RawDir::new(&self.0, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(number) = number(name.to_bytes())
                && !each(name, number)
            {
                break;
            }
        }
        Ok(())
    }

    /// The first bytes of a file, up to `limit`.
    pub(super) fn read(&self, name: &CStr, limit: usize) -> Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.0, name, flags, Mode::empty())?;
        let mut bytes = vec![0; limit];
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match read(&file, rest) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// As [`Folder::read`], as text; what is not UTF-8 is replaced.
    pub(super) fn text(&self, name: &CStr, limit: usize) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read(name, limit)?).into_owned())
    }

    /// Where a link leads.
    pub(super) fn link(&self, name: &CStr) -> Result<Vec<u8>> {
        let mut buffer = [MaybeUninit::uninit(); LONGEST_PATH];
        let (target, _rest) = readlinkat_raw(&self.0, name, &mut buffer)?;
        Ok(target.to_vec())
    }

    /// The inode number in a link such as `net:[4026531840]`.
    pub(super) fn inode(&self, name: &CStr, kind: &[u8]) -> Option<u32> {
        inode(&self.link(name).ok()?, kind)
    }
}

/// The number in `KIND:[NUMBER]`.
pub(super) fn inode(link: &[u8], kind: &[u8]) -> Option<u32> {
    number(link.strip_prefix(kind)?.strip_prefix(b":[")?.strip_suffix(b"]")?)
}

/// A decimal number, nothing around it.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// All processes that are shown to us.
pub(super) fn pids() -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    Folder::open(None, c"/proc")?.numbers(&mut listing_buffer(), |_, pid| {
        pids.push(pid);
        true
    })?;
    Ok(pids)
}

/// What is wrong where [`hides_others`].
pub(super) const HIDDEN: &str = "processes of other users are hidden: /proc is mounted with hidepid";

/// Whether this `/proc` shows no processes but those of the same user (proc(5), hidepid): there is a first one everywhere.
pub(super) fn hides_others() -> bool {
    Folder::of_process(1).is_err() && Folder::open(None, c"/proc/self/fd").is_ok()
}

/// A buffer for [`Folder::numbers`].
pub(super) fn listing_buffer() -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::uninit(); LISTING]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_are_numbers_in_brackets() {
        assert_eq!(inode(b"socket:[4294967295]", b"socket"), Some(u32::MAX));
        for other in
            ["socket:[4294967296]", "socket:[]", "socket:[1", "pipe:[1]", "/tmp/socket:[1]", "socket:[+1]"]
        {
            assert_eq!(inode(other.as_bytes(), b"socket"), None, "{other}");
        }
    }
}

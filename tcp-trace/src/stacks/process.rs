//! The executable memory of processes.

use std::{fs, path::PathBuf};

use tcp_trace_core::process::ProcessId;

use crate::survey::processes;

/// Lines of a memory map that are read; the kernel allows a process 65,530 mappings unless told otherwise.
const MAPPINGS: usize = 100_000;

/// A piece of executable memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// Device and inode of the file; `None` of memory that no file is behind.
    pub(super) file: Option<(u64, u64)>,
    /// As the process names it; what the kernel adds to a file that was removed is cut off.
    pub(super) path: String,
}

/// The executable memory of a process, as it was when somebody looked.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By address.
    mappings: Vec<Mapping>,
}

impl Memory {
    /// Reads it; `None` if the process is gone, or nobody may look at it.
    pub(super) fn of(process: ProcessId) -> Option<Self> {
        if processes::started(process.pid) != process.start_ns {
            return None;
        }
        let text = fs::read(format!("/proc/{}/maps", process.pid)).ok()?;
        let memory = Self::parse(&String::from_utf8_lossy(&text));
        // It was the same all the time.
        (processes::started(process.pid) == process.start_ns).then_some(memory)
    }

    /// Reads the text of `/proc/PID/maps`.
    pub(super) fn parse(text: &str) -> Self {
        Self { mappings: text.lines().take(MAPPINGS).filter_map(mapping).collect() }
    }

    /// What is at an address.
    pub(super) fn at(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        self.mappings.get(after.checked_sub(1)?).filter(|mapping| address < mapping.end)
    }
}

impl Mapping {
    /// Where in the file an address is that is in the mapping.
    pub(super) fn in_file(&self, address: u64) -> u64 {
        address.wrapping_sub(self.start).wrapping_add(self.offset)
    }

    /// Names by which the file may be opened: the mapping itself, which also shows a file that was removed, and the path
    /// as the process's own mount namespace has it.
    pub(super) fn names(&self, pid: u32) -> [PathBuf; 2] {
        [
            format!("/proc/{pid}/map_files/{:x}-{:x}", self.start, self.end).into(),
            format!("/proc/{pid}/root{}", self.path).into(),
        ]
    }
}

/// An executable line of `/proc/PID/maps`: `7f… -7f… r-xp 00026000 fe:01 1234   /usr/lib/libc.so.6`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        rest = after;
        word
    };
    let (start, end) = word().split_once('-')?;
    let permissions = word();
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let offset = hex(word())?;
    let (major, minor) = word().split_once(':')?;
    let device = libc::makedev(u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?);
    let inode: u64 = word().parse().ok()?;
    let path = rest.trim_start();
    permissions.contains('x').then_some(())?;
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset,
        file: (inode != 0).then_some((device, inode)),
        path: path.strip_suffix(" (deleted)").unwrap_or(path).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d000000000-55d000001000 r--p 00000000 fe:01 77   /srv/app with blanks
55d000001000-55d000003000 r-xp 00001000 fe:01 77   /srv/app with blanks
7f0000000000-7f0000021000 r-xp 00000000 00:00 0
7f0000100000-7f0000200000 r-xp 00026000 fe:01 88   /usr/lib/old.so (deleted)
7ffff0000000-7ffff0001000 r-xp 00000000 00:00 0    [vdso]";

    #[test]
    fn executable_mappings_are_found_by_address() {
        let memory = Memory::parse(MAPS);
        assert_eq!(memory.at(0x55d0_0000_0fff), None, "not executable");
        let app = memory.at(0x55d0_0000_2fff).unwrap();
        assert_eq!((app.offset, app.path.as_str()), (0x1000, "/srv/app with blanks"));
        assert_eq!(app.file, Some((libc::makedev(0xfe, 1), 77)));
        assert_eq!(memory.at(0x55d0_0000_3000), None);
        assert_eq!(memory.at(0x7f00_0000_0001).unwrap().file, None);
        assert_eq!(memory.at(0x7f00_0010_0000).unwrap().path, "/usr/lib/old.so");
        assert_eq!(memory.at(0x7fff_f000_0000).unwrap().path, "[vdso]");
        assert_eq!(memory.at(0), None);
    }
}

//! An archive that the kernel unpacks as its first root: "newc" of cpio(5), described in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::{collections::BTreeSet, path::Path};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;

/// An archive in memory; all in it belongs to root.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a file at an absolute path.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) {
        self.parents(path);
        self.entry(path, FILE, contents);
    }

    /// Adds a program at an absolute path.
    pub(super) fn program(&mut self, path: &str, contents: &[u8]) {
        self.parents(path);
        self.entry(path, EXECUTABLE, contents);
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// The kernel makes no folders by itself.
    fn parents(&mut self, path: &str) {
        let mut parents: Vec<_> = Path::new(path).ancestors().skip(1).map(Path::to_string_lossy).collect();
        parents.reverse();
        for parent in parents {
            if parent != "/" && self.directories.insert(parent.to_string()) {
                self.entry(&parent, DIRECTORY, &[]);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let name = path.trim_start_matches('/');
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        // Inode, mode, uid, gid, links, time, size, device (2), special device (2), name's size, check sum.
        let fields =
            [self.entries, mode, 0, 0, 1, 0, length(contents.len()), 0, 0, 0, 0, length(name.len() + 1), 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_after_its_folders() {
        let mut archive = Archive::default();
        archive.file("/a/b", b"12345");
        let text = String::from_utf8(archive.finish()).unwrap();
        let zeros = |count| "00000000".repeat(count);
        let (owner, devices) = (zeros(2), zeros(4));
        let entry = |number, mode, size, name| {
            format!("0707010000000{number}{mode}{owner}00000001{}{size}{devices}{name}{}", zeros(1), zeros(1))
        };
        let folder = entry(1, "000041ed", "00000000", "00000002") + "a\0";
        let file = entry(2, "000081a4", "00000005", "00000004") + "a/b\0\0\0" + "12345\0\0\0";
        assert!(text.starts_with(&(folder + &file)), "{text:?}");
        assert!(text.contains("TRAILER!!!"), "{text:?}");
        assert_eq!(text.len() % 4, 0);
    }
}

//! What `/proc/PID/fdinfo` says of a process's descriptors.

use std::{fs, io};

/// What is made of each file that `read` makes something of.
pub(crate) fn each<T>(pid: u32, read: impl Fn(&str) -> Option<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // Closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        found.extend(read(&text));
    }
    Ok(found)
}

/// The number behind `key:`.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

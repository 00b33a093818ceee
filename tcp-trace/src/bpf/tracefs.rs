//! tracefs, which only the perf tracepoint needs: the layout of its record, and its number.
//!
//! Where tracefs is not mounted it is mounted for one thread alone, in a mount namespace that ends with the
//! thread: nothing of the host is changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};

use crate::private_mount::with_mount;

/// The fields of the record as the kernel program reads them: name, offset, size.
const LAYOUT: [(&str, u32, u32); 11] = [
    ("skaddr", 8, 8),
    ("oldstate", 16, 4),
    ("newstate", 20, 4),
    ("sport", 24, 2),
    ("dport", 26, 2),
    ("family", 28, 2),
    ("protocol", 30, 2),
    ("saddr", 32, 4),
    ("daddr", 36, 4),
    ("saddr_v6", 40, 16),
    ("daddr_v6", 56, 16),
];

const MOUNT_POINTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Runs `attach` where tracefs is mounted, after the record's layout was found to be the expected one.
///
/// # Errors
///
/// If tracefs can be neither found nor mounted, if the layout differs, or if `attach` fails.
pub(super) fn with_checked_layout<T: Send>(
    attach: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    with_format(|path, text| {
        check_layout(text).with_context(|| path.display().to_string())?;
        attach()
    })
}

/// The fields of the record that the program reads, as they are laid out here, after that was found to be as expected.
///
/// # Errors
///
/// As [`with_checked_layout`].
pub(super) fn layout() -> anyhow::Result<Vec<(&'static str, u32, u32)>> {
    with_format(|path, text| {
        check_layout(text).with_context(|| path.display().to_string())?;
        let found =
            |(name, ..): (&'static str, u32, u32)| field(text, name).map(|(at, size)| (name, at, size));
        Ok(LAYOUT.into_iter().filter_map(found).collect())
    })
}

/// Where tracefs is mounted.
pub(super) fn mount_point() -> Option<&'static str> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_there = |point: &&str| mounts.lines().any(|line| mounts_tracefs(line, point));
    MOUNT_POINTS.into_iter().find(is_there)
}

/// Whether this line of a mountinfo file (proc_pid_mountinfo(5)) mounts tracefs there.
fn mounts_tracefs(line: &str, point: &str) -> bool {
    line.split_once(" - ").is_some_and(|(mount, source)| {
        source.starts_with("tracefs ") && mount.split(' ').nth(4) == Some(point)
    })
}

/// Calls `work` with the format file and its text, while that is to be found in its place.
fn with_format<T: Send>(work: impl FnOnce(&Path, &str) -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let read = || {
        let path = format_file().context("the tracepoint's format file is in none of the usual places")?;
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        work(&path, &text)
    };
    if format_file().is_some() { read() } else { with_mount("tracefs", MOUNT_POINTS[0], read) }
}

/// One that may not be looked at counts: it is there, and hidden under another mount it would still not be readable.
fn format_file() -> Option<PathBuf> {
    let file = |mount: &&str| Path::new(mount).join("events/sock/inet_sock_set_state/format");
    MOUNT_POINTS.iter().map(file).find(|path| path.try_exists().unwrap_or(true))
}

/// Compares the format file's fields with those that the program reads.
pub(super) fn check_layout(format: &str) -> anyhow::Result<()> {
    for (name, offset, size) in LAYOUT {
        let (found_offset, found_size) = field(format, name)
            .ok_or_else(|| anyhow!("the tracepoint sock:inet_sock_set_state has no field `{name}` here"))?;
        if (found_offset, found_size) != (offset, size) {
            return Err(anyhow!(
                "the tracepoint's field `{name}` is {found_size} bytes at {found_offset} here, expected \
                 {size} at {offset}: it would be misread"
            ));
        }
    }
    Ok(())
}

/// Offset and size of a field: a line such as `field:__u16 sport; offset:24; size:2; signed:0;`.
fn field(format: &str, name: &str) -> Option<(u32, u32)> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
        let declared = parts.next()?.split('[').next()?.split_whitespace().last()?;
        let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
        let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
        (declared.trim_start_matches('*') == name).then_some((offset, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: inet_sock_set_state
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:const void * skaddr;	offset:8;	size:8;	signed:0;
	field:int oldstate;	offset:16;	size:4;	signed:1;
	field:int newstate;	offset:20;	size:4;	signed:1;
	field:__u16 sport;	offset:24;	size:2;	signed:0;
	field:__u16 dport;	offset:26;	size:2;	signed:0;
	field:__u16 family;	offset:28;	size:2;	signed:0;
	field:__u16 protocol;	offset:30;	size:2;	signed:0;
	field:__u8 saddr[4];	offset:32;	size:4;	signed:0;
	field:__u8 daddr[4];	offset:36;	size:4;	signed:0;
	field:__u8 saddr_v6[16];	offset:40;	size:16;	signed:0;
	field:__u8 daddr_v6[16];	offset:56;	size:16;	signed:0;
";

    #[test]
    fn a_mount_is_told_by_its_type_and_place() {
        let line = "43 42 0:13 / /sys/kernel/debug/tracing rw,relatime - tracefs tracefs rw";
        assert!(mounts_tracefs(line, MOUNT_POINTS[1]) && !mounts_tracefs(line, MOUNT_POINTS[0]));
        assert!(!mounts_tracefs(&line.replace("- tracefs", "- tmpfs"), MOUNT_POINTS[1]));
    }

    #[test]
    fn the_layout_of_today_is_accepted() {
        check_layout(FORMAT).unwrap();
    }

    #[test]
    fn a_shifted_layout_is_refused_by_name() {
        let shifted = FORMAT.replace("__u16 protocol;	offset:30;	size:2", "__u8 protocol;	offset:30;	size:1");
        let error = check_layout(&shifted).unwrap_err().to_string();
        assert_eq!(
            error,
            "the tracepoint's field `protocol` is 1 bytes at 30 here, expected 2 at 30: it would be misread"
        );
    }

    #[test]
    fn a_missing_field_is_refused_by_name() {
        let error = check_layout(&FORMAT.replace("dport", "port")).unwrap_err().to_string();
        assert!(error.contains("has no field `dport`"), "{error}");
    }
}

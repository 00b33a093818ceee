//! tracefs, which only the perf tracepoint needs: the layout of its record, and its number.
//!
//! Where tracefs is not mounted it is mounted for one thread alone, in a mount namespace that ends with the
//! thread: nothing of the host is changed.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, anyhow};

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
    let checked = |attach: &mut dyn FnMut() -> anyhow::Result<T>| {
        let path = format_file().context("the tracepoint's format file is in none of the usual places")?;
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        check_layout(&text).with_context(|| path.display().to_string())?;
        attach()
    };
    let mut attach = Some(attach);
    let mut attach = move || attach.take().ok_or_else(|| anyhow!("attached twice"))?();
    if format_file().is_some() {
        return checked(&mut attach);
    }
    thread::scope(|scope| {
        let private = scope.spawn(move || {
            mount_privately()?;
            checked(&mut attach)
        });
        private.join().map_err(|_panic| anyhow!("the thread that mounts tracefs panicked"))?
    })
}

fn format_file() -> Option<PathBuf> {
    let file = |mount: &&str| Path::new(mount).join("events/sock/inet_sock_set_state/format");
    MOUNT_POINTS.iter().map(file).find(|path| path.exists())
}

/// Mounts tracefs in a mount namespace of the calling thread's own.
fn mount_privately() -> anyhow::Result<()> {
    use rustix::{
        mount::{MountFlags, MountPropagationFlags, mount, mount_change},
        thread::{UnshareFlags, unshare_unsafe},
    };
    // SAFETY: the thread was made for this and shares nothing that NEWNS or FS takes away.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
        .context("tracefs is not mounted (mount -t tracefs tracefs /sys/kernel/tracing), and a private mount is not permitted")?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .context("making the mounts of this thread private")?;
    let target = MOUNT_POINTS[0];
    mount("tracefs", target, "tracefs", MountFlags::RDONLY, None)
        .with_context(|| format!("mounting tracefs on {target} for this process"))
}

/// Compares the format file's fields with those that the program reads.
fn check_layout(format: &str) -> anyhow::Result<()> {
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

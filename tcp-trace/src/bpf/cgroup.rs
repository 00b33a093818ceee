//! The root of the cgroup2 hierarchy, which `half_open` attaches to.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

/// Whether a cgroup2 directory is the root of the whole hierarchy: its inode number is 1 (`kernfs_create_root`,
/// `fs/kernfs/dir.c`). In a cgroup namespace the mount looks like a root and holds only a part of the sockets.
pub(super) fn is_root(directory: &fs::File) -> bool {
    directory.metadata().is_ok_and(|metadata| metadata.ino() == 1)
}

/// Where the cgroup2 hierarchy is mounted, if it is.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The first whole cgroup2 mount of a mountinfo file (proc_pid_mountinfo(5)).
fn parse_mounts(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A mount of a part of the hierarchy would see only that part's sockets.
        (source.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_mount_of_a_hybrid_host_is_found() {
        let mountinfo = "\
30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
31 23 0:27 /some/part /mnt rw - cgroup2 cgroup2 rw
39 23 0:35 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";
        assert_eq!(parse_mounts(mountinfo), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn without_cgroup2_there_is_none() {
        assert_eq!(parse_mounts("30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }
}

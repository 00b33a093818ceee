//! The root of the cgroup2 hierarchy, and the programs that attach to it.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use anyhow::{Context as _, anyhow};
use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSock, SockOps},
};

use super::{
    loading::{load_failure, program},
    object::Link,
};

/// Attaches `half_open`; and `cookies`, where `set_state` has no `helpers` to ask for one.
pub(super) fn attach(object: &mut Ebpf, helpers: bool) -> anyhow::Result<Vec<Link>> {
    let path = mount_point().ok_or_else(no_mount)?;
    let at = || path.display().to_string();
    let root = fs::File::open(&path).with_context(at)?;
    if !is_root(&root) {
        return Err(anyhow!(
            "{} is not the root of the cgroup2 hierarchy but a container's part of it",
            at()
        ));
    }
    let half_open: &mut SockOps = program(object, "half_open")?;
    half_open.load().map_err(|error| anyhow!(load_failure(&error)))?;
    // Links are several by nature; asking for it by flag is EINVAL.
    let link = half_open.attach(&root, CgroupAttachMode::Single).with_context(at)?;
    let mut links: Vec<Link> = vec![Box::new(half_open.take_link(link)?)];
    if !helpers {
        let cookies: &mut CgroupSock = program(object, "cookies")?;
        cookies.load().map_err(|error| anyhow!(load_failure(&error)))?;
        let link = cookies.attach(&root, CgroupAttachMode::Single).with_context(at)?;
        links.push(Box::new(cookies.take_link(link)?));
    }
    Ok(links)
}

/// Why there is no place to attach to.
fn no_mount() -> anyhow::Error {
    match fs::metadata("/proc/self/mountinfo") {
        Ok(_) => anyhow!("no cgroup2 hierarchy is mounted"),
        Err(error) => {
            anyhow!(
                "where the cgroup2 hierarchy is mounted cannot be found out: /proc/self/mountinfo: {error}"
            )
        }
    }
}

/// Whether a cgroup2 directory is the root of the whole hierarchy: its inode number is 1 (`kernfs_create_root`,
/// `fs/kernfs/dir.c`). In a cgroup namespace the mount looks like a root and holds only a part of the sockets.
pub(super) fn is_root(directory: &fs::File) -> bool {
    directory.metadata().is_ok_and(|metadata| metadata.ino() == 1)
}

/// Where the cgroup2 hierarchy is mounted, if it is: the whole of it, or else as much as there is.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    let mut mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo").ok()?);
    let whole =
        mounts.iter().position(|path| fs::File::open(path).is_ok_and(|directory| is_root(&directory)));
    (!mounts.is_empty()).then(|| mounts.swap_remove(whole.unwrap_or(0)))
}

/// The cgroup2 mounts of a mountinfo file (proc_pid_mountinfo(5)) that may be whole. In a cgroup namespace the root of
/// the host's hierarchy, mounted into a container, is shown as `/..` (`cgroup_show_path`), once for each level above.
pub(super) fn parse_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let whole = mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A mount of a part of the hierarchy would see only that part's sockets.
        let is_upwards = root.split('/').all(|step| matches!(step, "" | ".."));
        (source.starts_with("cgroup2 ") && is_upwards).then(|| PathBuf::from(point.replace("\\040", " ")))
    });
    whole.collect()
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
        assert_eq!(parse_mounts(mountinfo), [PathBuf::from("/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn without_cgroup2_there_is_none() {
        assert_eq!(
            parse_mounts("30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"),
            [""; 0].map(PathBuf::from)
        );
    }

    #[test]
    fn in_a_container_the_hosts_mount_is_found_beside_its_own() {
        let mountinfo = "\
700 650 0:27 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw
701 650 0:27 /../../.. /host/cgroup ro - cgroup2 cgroup2 rw
702 650 0:27 /../podX /elsewhere ro - cgroup2 cgroup2 rw
";
        assert_eq!(parse_mounts(mountinfo), ["/sys/fs/cgroup", "/host/cgroup"].map(PathBuf::from));
    }
}

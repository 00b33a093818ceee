//! Doors for the fuzz targets (`tcp-trace/fuzz`) to what the kernel writes as text.

/// How many cgroup2 mounts a `mountinfo` has.
#[must_use]
pub fn cgroup_mounts(text: &str) -> usize {
    super::cgroup::parse_mounts(text).len()
}

/// Whether the format file of the tracepoint has the layout that the program reads.
#[must_use]
pub fn is_known_format(text: &str) -> bool {
    super::tracefs::check_layout(text).is_ok()
}

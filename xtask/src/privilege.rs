//! Tracing the kernel takes root; these are the ways to get it.

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::process;

/// Whether this process runs as root: the files in `/proc/self` belong to its effective user.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether sudo works without asking anything.
pub(crate) fn sudo_is_silent() -> bool {
    process::succeeds("sudo", &["-n", "true"])
}

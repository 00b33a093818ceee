//! What `cargo xtask vm` takes: QEMU, and xz for the kernels' modules.

use anyhow::{Context as _, Result};

use super::apt;
use crate::process;

/// Programs, and Debian's packages that have them.
const NEEDED: [(&str, &str); 2] = [("qemu-system-x86_64", "qemu-system-x86"), ("xz", "xz-utils")];

/// Finds these programs, or installs them.
pub(crate) fn ensure() -> Result<()> {
    for (program, package) in NEEDED {
        if process::exists(program) {
            super::present(program);
        } else {
            super::install(package, || apt::install(&[package])).with_context(|| {
                format!("`cargo xtask vm` needs {program}, in Debian's package {package}")
            })?;
        }
    }
    Ok(())
}

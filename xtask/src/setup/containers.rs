//! What the tests of containers take: podman and what it starts. Without it they are skipped.

use anyhow::{Context as _, Result};

use super::apt;
use crate::process;

/// Programs, and Debian's packages that have them.
const NEEDED: [(&str, &str); 2] = [("podman", "podman"), ("runc", "runc")];
/// What podman starts; they are found in its own folders.
const HELPERS: [&str; 2] = ["conmon", "netavark"];

/// Finds these programs, or installs them.
pub(crate) fn ensure() -> Result<()> {
    if NEEDED.iter().all(|(program, _)| process::exists(program)) {
        super::present("podman");
        return Ok(());
    }
    let packages: Vec<_> = NEEDED.iter().map(|(_, package)| *package).chain(HELPERS).collect();
    super::install("podman", || apt::install(&packages)).with_context(|| {
        format!(
            "the tests of containers need Debian's packages {}; without them they are skipped",
            packages.join(", ")
        )
    })
}

//! What the cross-checks take: programs that look at TCP themselves. Without them these are skipped.

use anyhow::{Context as _, Result};

use super::apt;
use crate::process;

/// Programs, and Debian's packages that have them; none of them is a service, which Debian would start.
const NEEDED: [(&str, &str); 4] =
    [("tcpstates", "libbpf-tools"), ("tcpdump", "tcpdump"), ("ss", "iproute2"), ("curl", "curl")];

/// Finds these programs, or installs them.
pub(crate) fn ensure() -> Result<()> {
    for (program, package) in NEEDED {
        if process::exists(program) {
            super::present(program);
        } else {
            super::install(package, || apt::install(&[package])).with_context(|| {
                format!("the cross-checks need Debian's package {package}; without it they are skipped")
            })?;
        }
    }
    Ok(())
}

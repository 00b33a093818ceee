//! What the tests of an agent's logs take: logrotate and rsyslog. Without them they are skipped.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::apt;
use crate::process;

/// Programs, and Debian's packages that have them.
const NEEDED: [(&str, &str); 2] = [("logrotate", "logrotate"), ("rsyslogd", "rsyslog")];

/// Finds these programs, or installs them.
pub(crate) fn ensure() -> Result<()> {
    for (program, package) in NEEDED {
        // Debian starts what it installs: a host that has a syslog daemon by then keeps its logs elsewhere than before.
        let is_service = package == "rsyslog" && Path::new("/run/systemd/system").exists();
        if process::exists(program) {
            super::present(program);
        } else if is_service {
            eprintln!(
                "{program}: not installed, because it would become this host's syslog; by hand: apt-get install {package}"
            );
        } else {
            super::install(package, || apt::install(&[package])).with_context(|| {
                format!("the tests of logs need Debian's package {package}; without it they are skipped")
            })?;
        }
    }
    Ok(())
}

//! Debian's packages.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::{privilege, process, progress};

/// Installs packages, after a look at the newest lists if one of them is not known.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    ensure!(
        process::exists("apt-get"),
        "this is not Debian, so there is no apt-get for {}",
        packages.join(", ")
    );
    let known = || packages.iter().all(|package| process::succeeds("apt-cache", &["show", package]));
    if !known() {
        progress::run(apt_get()?.arg("update"))?;
        ensure!(known(), "this release of Debian does not have all of {}", packages.join(", "));
    }
    progress::run(apt_get()?.args(["install", "-y", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Result<Command> {
    if privilege::is_root() {
        let mut apt_get = Command::new("apt-get");
        apt_get.env("DEBIAN_FRONTEND", "noninteractive");
        return Ok(apt_get);
    }
    if !process::exists("sudo") {
        bail!("apt-get needs root; become root or install sudo");
    }
    // It asks for the password, which a bar would write over.
    process::run(Command::new("sudo").arg("-v"))?;
    let mut sudo = Command::new("sudo");
    sudo.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    Ok(sudo)
}

//! That the sources compile with the oldest compiler that they are said to compile with.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

/// Compiles with that version, if rustup has it; where it is the one at work, all other steps have done so.
pub(crate) fn check() -> Result<()> {
    let (least, ours) = (workspace::rust_version()?, version(&mut Command::new("rustc"))?);
    if ours == least {
        eprintln!("Rust {ours} is the oldest that is supported, and all of this was compiled with it");
        return Ok(());
    }
    let toolchain = format!("+{least}");
    if version(Command::new("rustc").arg(&toolchain)).is_ok() {
        return process::run(workspace::cargo().args([&toolchain, "check", "--locked", "--all-targets"]));
    }
    if older(&ours, &least) {
        bail!("this is Rust {ours}; it takes {least} (rust-version in Cargo.toml)");
    }
    eprintln!("skipped: `rustup toolchain install {least}` has not been run here");
    Ok(())
}

/// Major and minor version, such as `1.95`.
fn version(rustc: &mut Command) -> Result<String> {
    let output = rustc.arg("--version").output().context("starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split(' ').nth(1).filter(|_| output.status.success());
    let version = version.with_context(|| format!("rustc says {text:?} of its version"))?;
    Ok(version.split('.').take(2).collect::<Vec<_>>().join("."))
}

fn older(one: &str, other: &str) -> bool {
    let parts =
        |version: &str| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    parts(one) < parts(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(older("1.9", "1.95"));
        assert!(older("1.95", "1.100"));
        assert!(!older("1.95", "1.95"));
    }
}

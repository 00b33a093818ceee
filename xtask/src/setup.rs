//! `cargo xtask setup`: install what compiling the eBPF object, running guests and testing containers and logs take, and nothing
//! that is there already.

mod apt;
mod compiler;
mod containers;
mod emulator;
mod linker;
mod logs;
mod peers;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;

pub(crate) use apt::install as packages;
pub(crate) use emulator::ensure as ensure_emulator;

use crate::object::toolchain::Toolchain;

pub(crate) fn run() -> Result<ExitCode> {
    let compiler = compiler::ensure()?;
    linker::ensure(compiler.llvm)?;
    ensure_emulator()?;
    if let Err(error) = containers::ensure() {
        eprintln!("podman: {error:#}");
    }
    if let Err(error) = logs::ensure() {
        eprintln!("logs: {error:#}");
    }
    if let Err(error) = peers::ensure() {
        eprintln!("peers: {error:#}");
    }
    eprintln!("ready: {}", Toolchain::find()?);
    Ok(ExitCode::SUCCESS)
}

/// One line for what was there.
fn present(what: &str) {
    eprintln!("{what}: present");
}

/// Installs something, and one line for that.
fn install(what: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    install()?;
    eprintln!("{what}: installed ({:.0} s)", start.elapsed().as_secs_f64());
    Ok(())
}

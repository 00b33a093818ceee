//! `cargo xtask crosscheck`: build the program and what holds it against others, and run that as root.
//!
//! The comparisons are a program of their own (`tcp-trace/crosscheck`), for the same reason as the benchmarks.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{privilege, process, run, workspace};

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// What to pass on: parts to compare, `--transitions N`, `--samples N`, …; `--help` has them all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(Args { args }: &Args) -> Result<ExitCode> {
    let (program, crosscheck) = build()?;
    let mut command = run::as_root(crosscheck)?;
    command.arg("--program").arg(program).args(args);
    process::announce(&command);
    let status = command.status().with_context(|| format!("starting `{}`", process::show(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every comparison once, small, as a test; the filter of the tests is still to come.
pub(crate) fn smoke() -> Result<Command> {
    let (program, crosscheck) = build()?;
    // Without root each of them says that it is skipped, and why.
    let mut command = if privilege::is_root() || !privilege::sudo_is_silent() {
        Command::new(crosscheck)
    } else {
        run::as_root(crosscheck)?
    };
    command.arg("--program").arg(program).arg("--smoke");
    Ok(command)
}

/// The program, and what compares.
fn build() -> Result<(PathBuf, PathBuf)> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--locked"]);
    for package in [workspace::PROGRAM, workspace::CROSSCHECK] {
        build.args(["--package", package, "--bin", package]);
    }
    let [program, crosscheck] = workspace::executables(build, [workspace::PROGRAM, workspace::CROSSCHECK])?;
    Ok((program, crosscheck))
}

//! `cargo xtask bench`: build the program and the benchmarks, and run them as root.
//!
//! The benchmarks are a program of their own (`tcp-trace/bench`), so that the other chores need not wait for what they
//! are made of.

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
    /// What to pass to the benchmarks: parts to measure, `--rounds N`, `--json FILE`, …; `--help` has them all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How long it takes.
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
}

pub(crate) fn run(Args { args }: &Args) -> Result<ExitCode> {
    measure(args)
}

/// The part of the benchmarks that is a test, and takes an hour.
pub(crate) fn soak(SoakArgs { minutes }: &SoakArgs) -> Result<ExitCode> {
    measure(&["soak-agent".into(), "--minutes".into(), minutes.to_string().into()])
}

fn measure(args: &[OsString]) -> Result<ExitCode> {
    let mut command = command()?;
    command.args(args);
    process::announce(&command);
    let status = command.status().with_context(|| format!("starting `{}`", process::show(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every benchmark once, as a test; the filter of the tests is still to come.
pub(crate) fn smoke() -> Result<Command> {
    let (program, bench) = build()?;
    // Without root each of them says that it is skipped, and why.
    let mut command = if privilege::is_root() || !privilege::sudo_is_silent() {
        Command::new(bench)
    } else {
        run::as_root(bench)?
    };
    command.arg("--program").arg(program).arg("--smoke");
    Ok(command)
}

/// The benchmarks, built, and with the program that they are to measure.
fn command() -> Result<Command> {
    let (program, bench) = build()?;
    let mut command = run::as_root(bench)?;
    command.arg("--program").arg(program);
    Ok(command)
}

/// The program and the benchmarks.
fn build() -> Result<(PathBuf, PathBuf)> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--locked"]);
    for package in [workspace::PROGRAM, workspace::BENCH] {
        build.args(["--package", package, "--bin", package]);
    }
    let [program, bench] = workspace::executables(build, [workspace::PROGRAM, workspace::BENCH])?;
    Ok((program, bench))
}

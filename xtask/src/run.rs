//! `cargo xtask run`: build the program and become it.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, stdin},
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Error, Result, bail};

use crate::{privilege, process, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to pass to the program; without any, `report --interval 5s`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(Args { args }: &Args) -> Result<ExitCode> {
    let mut build = workspace::cargo();
    build.args([
        "build",
        "--release",
        "--locked",
        "--package",
        workspace::PROGRAM,
        "--bin",
        workspace::PROGRAM,
    ]);
    let program = workspace::executable(build, workspace::PROGRAM)?;

    let mut command = as_root(program)?;
    if args.is_empty() {
        command.args(["report", "--interval", "5s"]);
    } else {
        command.args(args);
    }
    process::announce(&command);
    // The program takes our place: Ctrl-C reaches it alone, and its exit code is the one that is seen.
    let error = command.exec();
    Err(Error::new(error).context(format!("starting `{}`", process::show(&command))))
}

/// A command that runs as root, through sudo if need be.
pub(crate) fn as_root(program: impl Into<OsString>) -> Result<Command> {
    if privilege::is_root() { Ok(Command::new(program.into())) } else { through_sudo(program) }
}

fn through_sudo(program: impl Into<OsString>) -> Result<Command> {
    if !process::exists("sudo") {
        bail!("tcp-trace needs root or CAP_BPF+CAP_PERFMON; become root or install sudo");
    }
    if !privilege::sudo_is_silent() && !stdin().is_terminal() {
        bail!(
            "tcp-trace needs root; sudo would ask for a password, and there is no terminal to type it into"
        );
    }
    let mut command = Command::new("sudo");
    command.arg(program.into());
    Ok(command)
}

//! `cargo xtask sanitize`: tests under AddressSanitizer, which sees what a program does to memory that it may not.
//!
//! What is compiled by it is our own crates and all that they are made of; by the stable compiler, told that it may use
//! what is not stable. Leaks are told as well.

use std::{env::consts::ARCH, process::ExitCode};

use anyhow::{Result, ensure};

use crate::{miri, process, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose tests: the pure crates, and with `--all` those of the program's own code too, which takes minutes to compile.
    #[arg(long)]
    all: bool,
    /// What to pass to the tests, such as a part of their names.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(Args { all, args }: &Args) -> Result<ExitCode> {
    ensure!(ARCH == "x86_64" || ARCH == "aarch64", "there is no AddressSanitizer for {ARCH}");
    let mut cargo = workspace::cargo();
    // With a target of its own, build scripts and macros are compiled as ever.
    cargo.args(["test", "--locked", "--target", &format!("{ARCH}-unknown-linux-gnu"), "--lib"]);
    for package in miri::PURE {
        cargo.args(["--package", package]);
    }
    if *all {
        cargo.args(["--package", workspace::PROGRAM]);
    }
    cargo.args(["--test", "it", "--"]).args(args);
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address -Zub-checks=yes");
    process::run(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}

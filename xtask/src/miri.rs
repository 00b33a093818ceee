//! `cargo xtask miri`: the tests of the pure crates, interpreted by Miri, which sees what is undefined however well it works.
//!
//! It comes with nightly compilers only. What these crates have of `unsafe` is in what they are made of: zerocopy's casts,
//! hashbrown, serde. Properties run a few cases each, because Miri takes a hundred times as long.

use std::{
    env::consts::ARCH,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::process;

/// The crates without I/O.
pub(crate) const PURE: [&str; 2] = ["tcp-trace-common", "tcp-trace-core"];
/// Whose components are asked for.
const TOOLCHAIN: &str = "+nightly";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to pass to the tests, such as a part of their names.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(Args { args }: &Args) -> Result<ExitCode> {
    if !process::succeeds("cargo", &[TOOLCHAIN, "miri", "--version"]) {
        eprintln!(
            "skipped: there is no Miri here; to get it: `rustup toolchain install nightly --profile minimal --component miri,rust-src`"
        );
        return Ok(ExitCode::SUCCESS);
    }
    for package in PURE {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(crate::workspace::root());
        cargo.args([TOOLCHAIN, "miri", "test", "--locked", "--package", package, "--lib", "--tests", "--"]);
        cargo.args(args);
        cargo.env("PROPTEST_CASES", "1").env("MIRIFLAGS", "-Zmiri-env-forward=PROPTEST_CASES");
        process::run(&mut cargo)?;
    }
    eprintln!("{} on {ARCH}: nothing undefined", PURE.join(" and "));
    Ok(ExitCode::SUCCESS)
}

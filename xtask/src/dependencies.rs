//! `cargo xtask dependencies`: what other people's code comes in: its licences, where it comes from, its known faults, and
//! whether all of it is used. `deny.toml` has the rules.

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{process, progress, workspace};

/// A subcommand of cargo that checks dependencies.
struct Tool {
    name: &'static str,
    /// The version that is installed where there is none.
    version: &'static str,
}

const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };
const MACHETE: Tool = Tool { name: "cargo-machete", version: "0.9.2" };

pub(crate) fn run() -> Result<ExitCode> {
    check()?;
    Ok(ExitCode::SUCCESS)
}

/// Fails with the first rule that is broken.
pub(crate) fn check() -> Result<()> {
    let deny = DENY.find_or_install()?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(workspace::root()).arg("--all-features").args(arguments);
        command
    };
    process::run(&mut command(&["--locked", "check", "bans", "licenses", "sources"]))?;
    if has_advisories(&mut command(&["fetch", "db"])) {
        process::run(&mut command(&["--locked", "check", "--disable-fetch", "advisories"]))?;
    } else {
        eprintln!("skipped: known faults: the database of advisories cannot be fetched from here");
    }
    let machete = MACHETE.find_or_install()?;
    process::run(Command::new(machete).current_dir(workspace::root()).arg("--skip-target-dir"))
}

/// Whether the database of known faults is there, and new. Without network it is not, which is no fault of the dependencies.
fn has_advisories(fetch: &mut Command) -> bool {
    process::announce(fetch);
    fetch.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Tool {
    /// Where it is: on PATH, or with the chores' own tools.
    fn find_or_install(&self) -> Result<PathBuf> {
        let Self { name, version } = *self;
        if process::exists(name) {
            return Ok(name.into());
        }
        let folder = workspace::target_dir()?.join("tools");
        let program = folder.join("bin").join(name);
        if !program.is_file() {
            // Without optimisation, because it runs for seconds and would be compiled for minutes.
            let mut cargo = workspace::cargo();
            cargo.args(["install", name, "--version", version, "--locked", "--debug", "--root"]).arg(&folder);
            cargo.env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_TARGET_DIR", folder.join("build"));
            progress::run(&mut cargo).with_context(|| format!("installing {name} {version}"))?;
        }
        Ok(program)
    }
}

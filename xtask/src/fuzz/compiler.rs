//! The compiler, for our own crates: with branches counted for libFuzzer, and with everything checked that can be.
//!
//! Cargo starts this very program in its place (`RUSTC_WORKSPACE_WRAPPER`), which only adds flags. Flags in `RUSTFLAGS` would
//! be everybody's: all dependencies would be compiled once more.

use std::{
    env,
    ffi::OsStr,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

/// Set for a process that is to be the compiler.
const VARIABLE: &str = "TCP_TRACE_XTASK_IS_RUSTC";

/// What libFuzzer counts by: branches, and what is compared with what (LLVM's SanitizerCoverage).
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// An overflow is a finding, although the program that users run wraps.
const CHECKS: [&str; 2] = ["-Cdebug-assertions=on", "-Coverflow-checks=on"];

/// Has cargo compile our own crates so.
pub(super) fn instrument(cargo: &mut Command) -> Result<()> {
    let own = env::current_exe().context("finding this very program")?;
    // The eBPF object is of no use to them, and must not be compiled by this.
    cargo.env("RUSTC_WORKSPACE_WRAPPER", own).env(VARIABLE, "1").env("TCP_TRACE_EBPF", "none");
    Ok(())
}

/// Is the compiler, if that is what this process was started for.
pub(crate) fn compile() -> Option<ExitCode> {
    env::var_os(VARIABLE)?;
    let mut args = env::args_os().skip(1);
    let rustc = args.next()?;
    let args: Vec<_> = args.collect();
    let mut command = Command::new(rustc);
    command.args(&args);
    if is_counted(&args) {
        command.args(COVERAGE).args(CHECKS);
    }
    let status = command.status().inspect_err(|error| eprintln!("starting the compiler: {error}")).ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether it is a crate of ours that runs in the end: a build script does not, and has no libFuzzer to count for.
fn is_counted(args: &[impl AsRef<OsStr>]) -> bool {
    let name = args.windows(2).find_map(|pair| match pair {
        [flag, name] if flag.as_ref() == "--crate-name" => name.as_ref().to_str(),
        _ => None,
    });
    name.is_some_and(|name| !name.starts_with("build_script_") && name != "___")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_scripts_and_questions_are_compiled_as_ever() {
        assert!(is_counted(&["--crate-name", "tcp_trace_core", "src/lib.rs"]));
        assert!(!is_counted(&["--crate-name", "build_script_build", "build.rs"]));
        assert!(!is_counted(&["-", "--crate-name", "___", "--print=cfg"]));
        assert!(!is_counted(&["-vV"]));
    }
}

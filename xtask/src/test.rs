//! `cargo xtask test`: every test, and one line at the end that says how many passed, failed and were skipped.
//!
//! The live tests trace this machine's kernel. They run in release mode, one at a time, and as root, so they
//! are kept apart from the others; without root they say themselves why they are skipped.

mod tally;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{bench, crosscheck, object, privilege, process, vm, workspace};
use tally::Tally;

/// The integration test that holds the live tests.
pub(crate) const LIVE: &str = "live";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only tests with this in their names.
    filter: Option<String>,
}

#[expect(
    clippy::print_stdout,
    reason = "the results of tests belong to stdout, like those that cargo prints"
)]
pub(crate) fn run(Args { filter }: &Args) -> Result<ExitCode> {
    let mut tally = Tally::default();
    for mut command in ordinary_tests()? {
        run_step(command.args(filter), &mut tally)?;
    }
    run_step(live_tests()?.args(filter), &mut tally)?;
    // The benchmarks, so that none rots.
    run_step(bench::smoke()?.arg(filter.as_deref().unwrap_or_default()), &mut tally)?;
    // What others say of the same transitions, as far as they are installed.
    run_step(crosscheck::smoke()?.arg(filter.as_deref().unwrap_or_default()), &mut tally)?;
    print!("{tally}");
    ensure!(tally.total() > 0, "no test was run; is there one whose name contains {filter:?}?");
    Ok(if tally.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All tests but the live ones. The program's package needs its targets spelled out to leave those out.
fn ordinary_tests() -> Result<Vec<Command>> {
    let cargo_test = |args: &[&str]| {
        let mut cargo = workspace::cargo();
        cargo.args(["test", "--locked", "--no-fail-fast"]).args(args);
        cargo
    };
    let kernel_side = [object::PACKAGE, workspace::REFERENCE.package];
    let excluded = kernel_side.iter().chain([&workspace::PROGRAM]).flat_map(|package| ["--exclude", package]);
    let others: Vec<_> = ["--workspace"].into_iter().chain(excluded).collect();
    let mut program = cargo_test(&["--package", workspace::PROGRAM]);
    let mut commands = vec![cargo_test(&others)];
    for (kind, name) in workspace::program_targets()? {
        match kind.as_str() {
            "lib" => {
                program.arg("--lib");
                commands.push(cargo_test(&["--package", workspace::PROGRAM, "--doc"]));
            }
            "bin" => _ = program.args(["--bin", &name]),
            "test" if name != LIVE => _ = program.args(["--test", &name]),
            _ => {}
        }
    }
    commands.push(program);
    Ok(commands)
}

/// Only the live tests, on this machine's kernel; the results stand where they note them.
pub(crate) fn run_live(arguments: &[String]) -> Result<()> {
    run_step(live_tests()?.args(arguments), &mut Tally::default())
}

/// The live tests, compiled first, so that root runs nothing but them.
fn live_tests() -> Result<Command> {
    let mut build = workspace::cargo();
    build.args([
        "test",
        "--locked",
        "--release",
        "--package",
        workspace::PROGRAM,
        "--test",
        LIVE,
        "--no-run",
    ]);
    let tests = workspace::executable(build, LIVE)?;
    let results = vm::host_results()?;
    begin_results(&results)?;
    let mut command = if !privilege::is_root() && privilege::sudo_is_silent() {
        let mut sudo = Command::new("sudo");
        // Not every configuration of sudo lets variables through, or sets any.
        sudo.args(["-n", "env"]);
        sudo.arg(format!("{}={}", vm::results::VARIABLE, results.display())).arg(tests);
        sudo
    } else {
        let mut command = Command::new(tests);
        command.env(vm::results::VARIABLE, results);
        command
    };
    // Cargo, too, runs the tests of a package in its folder.
    command.current_dir(workspace::root().join(workspace::PROGRAM)).arg("--test-threads=1");
    Ok(command)
}

/// Makes the file that the tests will add to; it stays ours if they run as root.
fn begin_results(file: &Path) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::write(file, "").with_context(|| format!("writing {}", file.display()))
}

/// Passes the output on as it comes, and counts what it says.
#[expect(clippy::print_stdout, reason = "passes on the stdout of the tests")]
fn run_step(command: &mut Command, tally: &mut Tally) -> Result<()> {
    process::announce(command);
    let shown = process::show(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{shown}`"))?;
    let failed_before = tally.failed;
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
        let line = line.with_context(|| format!("reading the output of `{shown}`"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    if !status.success() && tally.failed == failed_before {
        tally.broke(&shown, status);
    }
    Ok(())
}

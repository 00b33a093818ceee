//! `cargo xtask vm`: the live tests on Debian's kernels, from the oldest that tcp-trace is for to the newest.
//!
//! Each kernel boots under QEMU, emulated, so that it needs no right of its host and is the same on any. Its
//! first root holds the tests, tcp-trace, both linked statically, and a first process. Results leave a guest
//! over a serial line of their own, as the console belongs to whatever the kernel wants to say.

mod archive;
mod cpio;
mod guest;
mod job;
mod kernel;
mod matrix;
pub(crate) mod results;

use std::{
    env::consts,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{progress::Board, setup, test, workspace};
use guest::{Guest, Programs};
use kernel::{Kernel, Series};
use matrix::{HOST, Matrix};
use results::Column;

/// The architecture of the guests.
pub(crate) const ARCH: &str = "x86_64";
/// The target of all that runs in a guest, which has no libraries.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// No more guests than this at once: each of them keeps two CPUs busy now and then.
const AT_ONCE: usize = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A kernel to run on (5.10, 6.1, 6.12 or 7.2); may be given more than once.
    ///
    /// With `all` or `--host-tested` this machine's own counts as one more, and a test that is skipped on every kernel
    /// is an error.
    #[arg(long, value_name = "SERIES", default_value = "all", value_parser = series)]
    kernel: Vec<Choice>,
    /// Take what `cargo xtask test` has noted about this machine's own kernel, instead of running the tests
    /// on it.
    #[arg(long)]
    host_tested: bool,
    /// Look for newer patch levels of the kernels than those that are kept in the target folder.
    #[arg(long)]
    update: bool,
    /// More of the guests' kernel command line, e.g. `lockdown=confidentiality`.
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Arguments of the test program, e.g. a part of a test's name.
    #[arg(last = true, value_name = "TEST-FILTER")]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    All,
    One(Series),
}

fn series(text: &str) -> Result<Choice, String> {
    if text == "all" {
        return Ok(Choice::All);
    }
    let found = kernel::ALL.into_iter().find(|series| series.name == text);
    found.map(Choice::One).ok_or_else(|| {
        let names = kernel::ALL.map(|series| series.name);
        format!("there are {} and all", names.join(", "))
    })
}

#[expect(
    clippy::print_stdout,
    reason = "the results of tests belong to stdout, like those that cargo prints"
)]
pub(crate) fn run(Args { kernel, host_tested, update, append, arguments }: &Args) -> Result<ExitCode> {
    ensure!(
        consts::ARCH == ARCH,
        "the guests run what is compiled here, so this works on {ARCH} only, not on {}",
        consts::ARCH
    );
    setup::ensure_emulator()?;
    let folder = workspace::target_dir()?.join("vm");
    let all = kernel.iter().any(|choice| matches!(choice, Choice::All));
    let series: Vec<_> = kernel::ALL.into_iter().filter(|series| chosen(kernel, series)).collect();
    let kernels = series.iter().map(|series| ready(*series, &folder, *update)).collect::<Result<Vec<_>>>()?;
    let programs = programs()?;
    let mut columns = run_guests(&kernels, &programs, &Orders { append, arguments })?;
    let with_host = all || *host_tested;
    if with_host {
        if !host_tested {
            test::run_live(arguments)?;
        }
        let results = host_results()?;
        let lines = fs::read_to_string(&results)
            .with_context(|| format!("{}: first run `cargo xtask test`", results.display()))?;
        let mut host = Column::of_host(&lines);
        // The notes may be of all tests, where the guests ran a part of them.
        host.outcomes.retain(|test, _| {
            columns.iter().any(|(_, guest)| guest.outcomes.contains_key(test)) || arguments.is_empty()
        });
        columns.push((HOST, host));
    }
    let matrix = Matrix { columns, complete: with_host && arguments.is_empty() };
    print!("{matrix}");
    let faults = matrix.faults();
    for fault in &faults {
        println!("FAILED {fault}");
    }
    println!(
        "kernels: {}, faults: {}; consoles: {}/*/console.log",
        matrix.columns.len(),
        faults.len(),
        folder.display()
    );
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(choices: &[Choice], series: &Series) -> bool {
    choices.iter().any(|choice| match choice {
        Choice::All => true,
        Choice::One(one) => one.name == series.name,
    })
}

/// A kernel with its name and the folder for all that belongs to it.
struct Ready {
    name: &'static str,
    kernel: Kernel,
    folder: PathBuf,
}

fn ready(series: Series, folder: &Path, update: bool) -> Result<Ready> {
    let folder = folder.join(series.name);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let kernel = series.kernel(&folder, update)?;
    eprintln!("{}: {}", series.name, kernel.release);
    Ok(Ready { name: series.name, kernel, folder })
}

/// Where the live tests note what they found on this machine's own kernel.
pub(crate) fn host_results() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("vm/host.jsonl"))
}

/// Compiles what runs in the guests.
fn programs() -> Result<Programs> {
    let cargo = |command: &str, package: &str| {
        let mut cargo = workspace::cargo();
        cargo.args([command, "--locked", "--release", "--target", TARGET, "--package", package]);
        // Those of the environment would take the place of these.
        cargo.env_remove("RUSTFLAGS");
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
        // Debug information would be most of what a guest has to unpack.
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "none");
        cargo
    };
    let mut tests = cargo("test", workspace::PROGRAM);
    tests.args(["--test", test::LIVE, "--no-run"]);
    let [tests, program] = workspace::executables(tests, [test::LIVE, workspace::PROGRAM])?;
    let mut init = cargo("build", env!("CARGO_PKG_NAME"));
    init.args(["--bin", INIT]);
    Ok(Programs { init: workspace::executable(init, INIT)?, program, tests })
}

/// The first process of a guest.
const INIT: &str = "vm-init";

/// What all guests are told.
struct Orders<'a> {
    /// For the kernel.
    append: &'a str,
    /// For the test program.
    arguments: &'a [String],
}

/// Runs the guests, some at a time, and reads what they say.
fn run_guests(
    kernels: &[Ready],
    programs: &Programs,
    orders: &Orders<'_>,
) -> Result<Vec<(&'static str, Column)>> {
    let board = &Board::new();
    let waiting = &Mutex::new(kernels.iter().enumerate());
    let mut columns = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(move || {
                    let next = || waiting.lock().ok()?.next();
                    std::iter::from_fn(next)
                        .map(|(number, ready)| {
                            Ok((number, ready.name, column(ready, programs, orders, board)?))
                        })
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_panic| anyhow!("a guest's thread panicked"))?);
        joined.collect::<Result<Vec<_>>>()
    })?
    .concat();
    columns.sort_by_key(|(number, ..)| *number);
    Ok(columns.into_iter().map(|(_, name, column)| (name, column)).collect())
}

fn column(
    Ready { name, kernel, folder }: &Ready,
    programs: &Programs,
    &Orders { append, arguments }: &Orders<'_>,
    board: &Board,
) -> Result<Column> {
    let tests = &board.tests(name);
    let guest = Guest { name, kernel, folder, append, board, tests };
    let remains = guest.run(programs, arguments).with_context(|| format!("running {name}"))?;
    let mut column = Column::of_guest(&remains.results);
    column.troubles.extend(remains.trouble);
    tests.done(&format!("done in {:.0} s", remains.took.as_secs_f64()));
    Ok(column)
}

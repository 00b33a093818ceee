//! `cargo xtask fuzz`: build the fuzz targets, and run each for a while.
//!
//! They are ordinary programs of `tcp-trace/fuzz` with libFuzzer, and `cargo fuzz` runs them too, where it is installed. Here
//! the stable compiler is enough: what libFuzzer needs of it is that it counts branches, and for that it has flags. Only
//! our own code gets them, so that everything else is shared with the ordinary release build.

mod compiler;
mod outcome;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    num::NonZero,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) use compiler::compile;

use self::outcome::Outcome;
use crate::{process, setup, workspace};

/// The package with the targets, and where it is.
const PACKAGE: &str = "tcp-trace-fuzz";
const FOLDER: &str = "tcp-trace/fuzz";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each target runs.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// How many run at once; without it, as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Where chance begins: the same inputs in the same order, for the same corpus.
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Run this one input instead, with everything that is said of it.
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
    /// Say what targets there are.
    #[arg(long)]
    list: bool,
    /// What to run; without it, every target.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { seconds, jobs, seed, input, list, targets } = args;
    let all = targets_of(&workspace::root().join(FOLDER))?;
    if *list {
        eprintln!("{}", all.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no target {unknown:?}; there are {}", all.join(", "));
    }
    let targets = if targets.is_empty() { &all } else { targets };
    let built = build(targets)?;
    if let Some(input) = input {
        return reproduce(&built, input);
    }
    let jobs = jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let waiting = Mutex::new(targets.iter().zip(&built));
    let work = || {
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let done = std::iter::from_fn(next).map(|(target, program)| {
            let outcome = fuzz(target, program, *seconds, *seed)?;
            eprintln!("{outcome}");
            Ok(outcome)
        });
        done.collect::<Result<Vec<_>>>()
    };
    let outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let done =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        done.collect::<Result<Vec<_>>>()
    })?;
    let outcomes = outcomes.concat();
    let total: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    let findings = outcomes.iter().filter(|outcome| outcome.finding.is_some()).count();
    eprintln!("\n{} targets, {total} executions, {findings} findings", outcomes.len());
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The targets, by the names of their programs.
fn targets_of(folder: &Path) -> Result<Vec<String>> {
    let programs = folder.join("fuzz_targets");
    let entries = fs::read_dir(&programs).with_context(|| format!("listing {}", programs.display()))?;
    let names =
        entries.map(|entry| Ok(entry?.path().file_stem().unwrap_or_default().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// The programs of these targets.
fn build(targets: &[String]) -> Result<Vec<PathBuf>> {
    if !process::exists("c++") {
        setup::packages(&["g++"]).context("libFuzzer is C++, and there is no compiler for it")?;
    }
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--locked", "--package", PACKAGE, "--features", "libfuzzer"]);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    compiler::instrument(&mut cargo)?;
    workspace::all_executables(cargo, targets)
}

/// Runs a target until its time is over or it finds something.
fn fuzz(target: &str, program: &Path, seconds: u32, seed: Option<u32>) -> Result<Outcome> {
    let own = workspace::target_dir()?.join("fuzz");
    let (corpus, findings) = (own.join("corpus").join(target), own.join("findings").join(target));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let folder = workspace::root().join(FOLDER);
    let mut command = Command::new(program);
    // What is new goes into the first one.
    command.arg(&corpus).arg(folder.join("corpus").join(target));
    command.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"]);
    command.arg(format!("-max_len={}", longest(target)));
    command.arg(format!("-max_total_time={seconds}"));
    command.args(seed.map(|seed| format!("-seed={seed}")));
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    let dictionary = folder.join("dictionaries").join(format!("{target}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    process::announce(&command);
    let shown = process::show(&command);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().map_err(|error| anyhow::anyhow!("starting `{shown}`: {error}"))?;
    let mut outcome = Outcome::new(target);
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n')) {
        let line = line.with_context(|| format!("reading what `{shown}` says"))?;
        outcome.read(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    ensure!(
        status.success() || outcome.finding.is_some(),
        "`{shown}` ended with {status} and has found nothing:\n{}",
        outcome.last_lines()
    );
    Ok(outcome)
}

/// Bytes of an input. A stream of two thousand has two hundred steps, and takes a millisecond already.
fn longest(target: &str) -> u32 {
    if target == "stream" { 2048 } else { 8192 }
}

fn reproduce(programs: &[PathBuf], input: &Path) -> Result<ExitCode> {
    let mut clean = true;
    for program in programs {
        let mut command = Command::new(program);
        command.arg(input).env("RUST_BACKTRACE", "1");
        process::announce(&command);
        clean &=
            command.status().with_context(|| format!("starting `{}`", process::show(&command)))?.success();
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `cargo xtask ci`: everything that has to hold before a change is merged.

use std::{env::consts::ARCH, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};

use crate::{
    dependencies,
    ebpf::{self, Comparison},
    msrv,
    object::{
        self,
        recipe::Recipe,
        toolchain::{Core, Toolchain},
    },
    privilege, process, tidy, vm, workspace,
};

type Step = fn() -> Result<()>;

/// The steps, the quick ones first.
const STEPS: [(&str, Step); 12] = [
    ("format", format),
    ("tidy", tidy::check),
    ("lint", lint),
    ("lint the eBPF crate", lint_ebpf),
    ("committed eBPF object", compare_ebpf),
    ("documentation", document),
    ("dependencies", dependencies::check),
    ("test", test),
    ("main job", main_job),
    ("oldest compiler", msrv::check),
    ("fuzz", fuzz),
    ("test on other kernels", test_in_guests),
];

pub(crate) fn run() -> Result<ExitCode> {
    let start = Instant::now();
    for (name, step) in STEPS {
        eprintln!("== {name}");
        let start = Instant::now();
        step().with_context(|| format!("CI stops at the step \"{name}\""))?;
        eprintln!("== {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    }
    eprintln!("== all {} steps done in {:.0} s", STEPS.len(), start.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn format() -> Result<()> {
    process::run(workspace::cargo().args(["fmt", "--all", "--check"]))
}

fn lint() -> Result<()> {
    process::run(workspace::cargo().args(["clippy", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

fn lint_ebpf() -> Result<()> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) if toolchain.compiler.core == Core::FromSource => toolchain,
        Ok(toolchain) => return skip(&format!("no clippy comes with {toolchain}")),
        Err(missing) => return skip(&missing.to_string()),
    };
    let folder = workspace::target_dir()?.join("ebpf");
    for object in [object::PRODUCT, workspace::REFERENCE] {
        let recipe = Recipe::new(workspace::root(), &folder, &toolchain, &object)?;
        process::run(recipe.cargo("clippy").args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Where the bytes cannot be compared, the sources must at least compile with what is there.
fn compare_ebpf() -> Result<()> {
    for target in &ebpf::TARGETS {
        match ebpf::compare(target)? {
            Comparison::Same { object } => {
                eprintln!("{}: same bytes: SHA-256 {object}", target.object.package);
            }
            Comparison::Different { committed, made } => {
                bail!("the committed object of {} is {committed}, made now: {made}", target.object.package)
            }
            Comparison::NotPossible { why } => {
                skip(&why)?;
                if let Ok(toolchain) = Toolchain::find() {
                    ebpf::make(&toolchain, &target.object)?;
                }
            }
        }
    }
    Ok(())
}

fn document() -> Result<()> {
    process::run(workspace::cargo().args(["doc", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-Dwarnings"))
}

fn test() -> Result<()> {
    process::run(workspace::cargo().args(["xtask", "test"]))
}

/// As whoever has just cloned the repository runs it.
fn main_job() -> Result<()> {
    if !privilege::is_root() && !privilege::sudo_is_silent() {
        return skip("tracing takes root");
    }
    process::run(workspace::cargo().args(["xtask", "run", "report", "--duration", "3s"]))
}

/// Ten seconds for each target, four at once; always the same way, because a change is to be judged and not a stroke of luck.
fn fuzz() -> Result<()> {
    process::run(workspace::cargo().args(["xtask", "fuzz", "--seconds", "10", "--jobs", "4", "--seed", "1"]))
}

/// How every kind of connection lives and dies, on every kernel. The whole suite on all of them takes a quarter of an hour
/// and is run by hand (`cargo xtask vm`).
fn test_in_guests() -> Result<()> {
    if ARCH != vm::ARCH {
        return skip(&format!("the guests are {}, this machine is not", vm::ARCH));
    }
    process::run(workspace::cargo().args([
        "xtask",
        "vm",
        "--host-tested",
        "--kernel",
        "all",
        "--",
        "obituaries",
    ]))
}

fn skip(why: &str) -> Result<()> {
    eprintln!("skipped: {why}");
    Ok(())
}

//! Where things are, as cargo sees it.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use crate::{object, process};

/// The package with the program.
pub(crate) const PROGRAM: &str = "tcp-trace";

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The package with the benchmarks.
pub(crate) const BENCH: &str = "tcp-trace-bench";

/// The package that holds the program against others.
pub(crate) const CROSSCHECK: &str = "tcp-trace-crosscheck";

/// The programs that the benchmarks measure against.
pub(crate) const REFERENCE: object::Object =
    object::Object { package: "tcp-trace-bench-ebpf", code: &["tcp-trace/bench/ebpf"] };

/// The committed eBPF object of the program.
pub(crate) fn committed() -> object::record::Committed {
    object::record::Committed::of(&root().join(PROGRAM))
}

/// The committed object that the benchmarks measure against.
pub(crate) fn committed_reference() -> object::record::Committed {
    let folder = root().join("tcp-trace/bench/bpf");
    object::record::Committed {
        object: folder.join("reference.bpf.o"),
        note: folder.join("reference.bpf.o.toml"),
    }
}

/// Cargo, at the root of the workspace; rustup sees to it that it is the one that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root());
    cargo
}

/// What `cargo metadata` says about our own packages.
fn metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .context("starting `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata` ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading the output of `cargo metadata`")
}

/// The folder that cargo builds into, wherever the user's settings have put it.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = metadata()?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("`cargo metadata` names no target folder")
}

/// The oldest compiler that the program's package is said to compile with, such as `1.95`.
pub(crate) fn rust_version() -> Result<String> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut own = packages.filter(|package| package["name"] == PROGRAM);
    let version = own.next().and_then(|package| package["rust_version"].as_str().map(ToOwned::to_owned));
    version.context("the program's package names no rust-version")
}

/// Kind and name of each target of the program's package.
pub(crate) fn program_targets() -> Result<Vec<(String, String)>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.filter(|package| package["name"] == PROGRAM).flat_map(|package| {
        package["targets"].as_array().into_iter().flatten().filter_map(|target| {
            Some((target["kind"][0].as_str()?.to_owned(), target["name"].as_str()?.to_owned()))
        })
    });
    Ok(targets.collect())
}

/// Runs a cargo command that compiles, and returns the executable of the target with this name.
pub(crate) fn executable(cargo: Command, target: &str) -> Result<PathBuf> {
    let [executable] = executables(cargo, [target])?;
    Ok(executable)
}

/// Runs a cargo command that compiles, and returns the executables of the targets with these names.
pub(crate) fn executables<const N: usize>(cargo: Command, targets: [&str; N]) -> Result<[PathBuf; N]> {
    let executables = all_executables(cargo, &targets)?;
    executables.try_into().map_err(|other: Vec<_>| anyhow!("{} executables instead of {N}", other.len()))
}

/// The same for any number of them.
pub(crate) fn all_executables(mut cargo: Command, targets: &[impl AsRef<str>]) -> Result<Vec<PathBuf>> {
    process::announce(&cargo);
    let shown = process::show(&cargo);
    let mut child = cargo
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{shown}`"))?;
    let mut executables = vec![PathBuf::new(); targets.len()];
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.with_context(|| format!("reading the output of `{shown}`"))?;
        let message: Value = serde_json::from_str(&line).unwrap_or_default();
        for (target, executable) in targets.iter().zip(&mut executables) {
            if message["target"]["name"] == target.as_ref()
                && let Some(path) = message["executable"].as_str()
            {
                *executable = path.into();
            }
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    for (target, executable) in targets.iter().zip(&executables) {
        ensure!(executable.is_file(), "`{shown}` made no executable {:?}", target.as_ref());
    }
    Ok(executables)
}

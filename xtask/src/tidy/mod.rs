//! `cargo xtask tidy`: the rules of the house that no lint of the compiler holds. Each says what is wrong, where, and what to do.

mod fences;
mod lengths;
mod links;

use std::{
    fmt::{self, Display},
    fs,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace;

/// A file of the repository.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

/// A rule that is broken.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    line: usize,
    what: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what } = self;
        write!(f, "{path}:{line}: {what}")
    }
}

pub(crate) fn run() -> Result<ExitCode> {
    check()?;
    Ok(ExitCode::SUCCESS)
}

/// Fails if a rule is broken, after all faults were told.
pub(crate) fn check() -> Result<()> {
    let sources = sources()?;
    let mut faults = fences::check(&sources);
    faults.extend(lengths::check(&sources));
    faults.extend(links::check(&sources));
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    if !faults.is_empty() {
        bail!("{} rules of the house are broken (xtask/src/tidy)", faults.len());
    }
    eprintln!("{} files: fences, lengths and links are as they should be", sources.len());
    Ok(())
}

/// The Rust and Markdown files that git knows.
fn sources() -> Result<Vec<Source>> {
    let output = std::process::Command::new("git")
        .current_dir(workspace::root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs", "*.md"])
        .output()
        .context("starting git, which knows what belongs to the repository")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    let paths = String::from_utf8(output.stdout)?;
    let paths = paths.split_terminator('\0').filter(|path| workspace::root().join(path).is_file());
    let read = |path: &str| {
        let text =
            fs::read_to_string(workspace::root().join(path)).with_context(|| format!("reading {path}"))?;
        Ok(Source { path: path.to_owned(), text })
    };
    paths.map(read).collect()
}

//! `cargo xtask ebpf`: make the committed objects anew, or prove that they are what their sources give.

use std::{env::consts::ARCH, fs, process::ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::{
    object::{
        self, Object,
        linker::{Linker, Llvm},
        recipe::Recipe,
        record::{Committed, Record},
        sha256, source,
        toolchain::{Compiler, Core, Toolchain},
    },
    process, strip, workspace,
};

/// The exit code for "the pinned toolchain is not here", which is no fault of the sources.
const NOT_PINNED: u8 = 3;

/// The one toolchain that makes the committed object; another would make other bytes of the same program.
mod pinned {
    use super::Llvm;

    pub(super) const RUSTC: &str = "1.95.0";
    pub(super) const LINKER: &str = "0.13.0";
    pub(super) const LLVM: Llvm = Llvm { major: 22, minor: 1 };
    pub(super) const ARCH: &str = "x86_64";
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail unless the sources give the very bytes of the committed objects.
    #[arg(long)]
    check: bool,
    /// Make the objects with whatever toolchain is here; `--check` elsewhere will then fail.
    #[arg(long, conflicts_with = "check")]
    any_toolchain: bool,
}

/// An object that is committed.
pub(crate) struct Target {
    pub(crate) object: Object,
    committed: fn() -> Committed,
}

/// The kernel half of the program, and what the benchmarks measure it against.
pub(crate) const TARGETS: [Target; 2] = [
    Target { object: object::PRODUCT, committed: workspace::committed },
    Target { object: workspace::REFERENCE, committed: workspace::committed_reference },
];

/// What a comparison found.
pub(crate) enum Comparison {
    Same {
        object: String,
    },
    Different {
        committed: String,
        made: String,
    },
    /// There is a toolchain at most, but not the pinned one.
    NotPossible {
        why: String,
    },
}

pub(crate) fn run(Args { check, any_toolchain }: &Args) -> Result<ExitCode> {
    if *check {
        let results = TARGETS.iter().map(|target| Ok(report(&compare(target)?)));
        let results = results.collect::<Result<Vec<_>>>()?;
        return Ok(results.into_iter().find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS));
    }
    let toolchain = Toolchain::find().context("run `cargo xtask setup`")?;
    if let Some(why) = differs_from_pinned(&toolchain).filter(|_| !any_toolchain) {
        eprintln!("error: {why}; `--any-toolchain` makes an object all the same");
        return Ok(ExitCode::from(NOT_PINNED));
    }
    TARGETS.iter().try_for_each(|target| commit(target, &toolchain))?;
    Ok(ExitCode::SUCCESS)
}

/// Compares a committed object with what its sources give.
pub(crate) fn compare(target: &Target) -> Result<Comparison> {
    let committed = verify(target)?;
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            return Ok(Comparison::NotPossible { why: format!("{missing}: run `cargo xtask setup`") });
        }
    };
    if let Some(why) = differs_from_pinned(&toolchain) {
        return Ok(Comparison::NotPossible { why });
    }
    let made = sha256(&make(&toolchain, &target.object)?);
    Ok(if made == committed {
        Comparison::Same { object: made }
    } else {
        Comparison::Different { committed, made }
    })
}

/// Makes sure that a committed object is whole and its note current, and returns the object's hash.
fn verify(target: &Target) -> Result<String> {
    let (_, Record { source, object, made_by: _ }) = (target.committed)().read()?;
    let current = source::hash(workspace::root(), &target.object)?;
    ensure!(
        source == current,
        "the sources of {} are not those of the committed object: run `cargo xtask ebpf` and commit its result \
         (sources now {current}, recorded {source})",
        target.object.package
    );
    Ok(object)
}

/// Compiles and strips an object, in a folder of its own below the target folder.
pub(crate) fn make(toolchain: &Toolchain, object: &Object) -> Result<Vec<u8>> {
    let folder = workspace::target_dir()?.join("ebpf");
    let recipe = Recipe::new(workspace::root(), &folder, toolchain, object)?;
    process::run(&mut recipe.cargo("build"))?;
    let stripped = folder.join(format!("{}.bpf.o", object.package));
    fs::copy(recipe.object(), &stripped).with_context(|| format!("writing {}", stripped.display()))?;
    strip::debug_info(&toolchain.compiler, &stripped)?;
    fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))
}

fn commit(target: &Target, toolchain: &Toolchain) -> Result<()> {
    // Taken first: should a file change during the compilation, the note will be out of date, not wrong.
    let source = source::hash(workspace::root(), &target.object)?;
    let bytes = make(toolchain, &target.object)?;
    let record = Record { source, object: sha256(&bytes), made_by: toolchain.to_string() };
    let Committed { object, note } = (target.committed)();
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::write(&object, &bytes).with_context(|| format!("writing {}", object.display()))?;
    fs::write(&note, record.to_string()).with_context(|| format!("writing {}", note.display()))?;
    eprintln!("{}: {} bytes, SHA-256 {}", object.display(), bytes.len(), record.object);
    Ok(())
}

/// The first difference between a toolchain and the pinned one.
fn differs_from_pinned(Toolchain { compiler, linker }: &Toolchain) -> Option<String> {
    let Compiler { release, core, .. } = compiler;
    let Linker { version, llvm } = linker;
    let llvm = llvm.map_or("an unknown LLVM".to_owned(), |llvm| llvm.to_string());
    let tool = |name: &str, found: String, wanted: String| {
        (found != wanted)
            .then(|| format!("the committed object is made with {name} {wanted}, here is {found}"))
    };
    tool("rustc", release.clone(), pinned::RUSTC.to_owned())
        .or_else(|| tool("a core", format!("{core:?}"), format!("{:?}", Core::FromSource)))
        .or_else(|| tool("bpf-linker", version.clone(), pinned::LINKER.to_owned()))
        .or_else(|| tool("bpf-linker's", llvm, pinned::LLVM.to_string()))
        .or_else(|| tool("a host that is", ARCH.to_owned(), pinned::ARCH.to_owned()))
}

fn report(comparison: &Comparison) -> ExitCode {
    match comparison {
        Comparison::Same { object } => {
            eprintln!("the committed object is what its sources give: SHA-256 {object}");
            ExitCode::SUCCESS
        }
        Comparison::Different { committed, made } => {
            eprintln!("error: the committed object is not what its sources give");
            eprintln!("committed: {committed}");
            eprintln!("made now:  {made}");
            ExitCode::FAILURE
        }
        Comparison::NotPossible { why } => {
            eprintln!("error: not compared: {why}");
            ExitCode::from(NOT_PINNED)
        }
    }
}

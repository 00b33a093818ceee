//! bpf-linker, with an LLVM that is at least the compiler's.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::apt;
use crate::{
    object::{
        linker::{Linker, Llvm, NAME},
        toolchain::Missing,
    },
    process, progress, workspace,
};

/// The version that makes the committed object.
const VERSION: &str = "0.13.0";

/// Finds a linker that works with a compiler of this LLVM, or installs one.
pub(super) fn ensure(compiler: Llvm) -> Result<()> {
    match fitting(compiler) {
        Ok(linker) => {
            super::present(&linker.to_string());
            return Ok(());
        }
        Err(missing) => eprintln!("{missing}"),
    }
    super::install(&format!("{NAME} {VERSION}"), || {
        if !process::exists("cargo-binstall") || binstall(compiler).is_err() {
            compile(compiler)?;
        }
        Ok(())
    })?;
    fitting(compiler)
        .context("the linker was installed, but it is not the one on PATH; see `cargo help install`")?;
    Ok(())
}

fn fitting(compiler: Llvm) -> Result<Linker, Missing> {
    let linker = Linker::find()?;
    match linker.llvm {
        Some(llvm) if llvm.major < compiler.major => Err(Missing::LinkerTooOld { linker: llvm, compiler }),
        Some(_) | None => Ok(linker),
    }
}

/// The way its authors recommend: a binary made by them.
fn binstall(compiler: Llvm) -> Result<()> {
    progress::run(workspace::cargo().args(["binstall", "-y", &format!("{NAME}@{VERSION}")]))?;
    fitting(compiler)?;
    Ok(())
}

/// Compiles it against the distribution's LLVM of the same major version as the compiler's.
fn compile(Llvm { major, .. }: Llvm) -> Result<()> {
    let by_hand = format!("install a binary of {NAME} {VERSION} from its release page into a folder on PATH");
    apt::install(&[&format!("llvm-{major}-dev"), "zlib1g-dev", "libzstd-dev"]).context(by_hand)?;
    let prefix = format!("/usr/lib/llvm-{major}");
    ensure!(Path::new(&prefix).is_dir(), "there is no {prefix} although its package is installed");
    let mut cargo = workspace::cargo();
    cargo.args(["install", NAME, "--version", VERSION, "--locked", "--force"]);
    cargo.args(["--no-default-features", "--features", &format!("llvm-{major}")]);
    progress::run(cargo.env("LLVM_PREFIX", prefix))
}

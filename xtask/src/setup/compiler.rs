//! A compiler with a `core` for BPF, by the first of three ways that is open.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt;
use crate::{
    object::toolchain::{Compiler, DEBIAN},
    progress,
};

/// A toolchain, and how to come by it.
struct Way {
    toolchain: Option<&'static str>,
    brings: &'static str,
    open: fn() -> Result<()>,
}

/// As the committed object is made by it, the first way is opened if that can be done at all; the others come
/// with other compilers.
const STABLE: Way = Way { toolchain: None, brings: "rust-src", open: add_rust_src };
const NIGHTLY: Way = Way { toolchain: Some("nightly"), brings: "nightly with rust-src", open: add_nightly };
const DEBIANS: Way = Way { toolchain: Some(DEBIAN), brings: "Debian's rustc-web", open: link_debian };

/// Finds such a compiler, or installs one.
pub(super) fn ensure() -> Result<Compiler> {
    STABLE
        .found()
        .or_else(|| STABLE.opened())
        .or_else(|| NIGHTLY.found())
        .or_else(|| DEBIANS.found())
        .or_else(|| NIGHTLY.opened())
        .or_else(|| DEBIANS.opened())
        .with_context(|| {
            format!(
                "no compiler for BPF could be installed; by hand: `rustup component add rust-src`, or Debian's \
                 packages {} and `rustup toolchain link {DEBIAN} /usr`",
                DEBIAN_PACKAGES.join(", ")
            )
        })
}

impl Way {
    fn found(&self) -> Option<Compiler> {
        let compiler = Compiler::find(self.toolchain).ok()?;
        super::present(&format!("{} (rustc {})", self.brings, compiler.release));
        Some(compiler)
    }

    /// Failing only closes this way.
    fn opened(&self) -> Option<Compiler> {
        let Self { toolchain, brings, open } = self;
        let opened = super::install(brings, open)
            .and_then(|()| Compiler::find(*toolchain).context("it is installed, but does not work"));
        opened.inspect_err(|error| eprintln!("{brings}: not installed: {error:#}")).ok()
    }
}

fn add_rust_src() -> Result<()> {
    progress::run(Command::new("rustup").args(["component", "add", "rust-src"]))
}

fn add_nightly() -> Result<()> {
    let args = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
    progress::run(Command::new("rustup").args(args))
}

/// Debian's compiler for browsers happens to come with a `core` for BPF.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

fn link_debian() -> Result<()> {
    apt::install(&DEBIAN_PACKAGES)?;
    progress::run(Command::new("rustup").args(["toolchain", "link", DEBIAN, "/usr"]))
}

//! The compilers and the linker on this machine that can make the eBPF object.
//!
//! `core` has to come from somewhere, as the Rust project ships none for BPF: it is compiled from the component
//! `rust-src`, or, with Debian's `rustc-web`, is there already.

use std::{env::consts::ARCH, fmt, path::PathBuf, process::Command};

use super::linker::{Linker, Llvm, NAME};

/// The compiler's name for little-endian BPF.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// rustup's names of the toolchains that are tried, in this order; none is the one in use.
const CANDIDATES: [Option<&str>; 3] = [None, Some("nightly"), Some(DEBIAN)];

/// What `cargo xtask setup` calls Debian's `rustc-web` when it makes it known to rustup.
pub(crate) const DEBIAN: &str = "bpf";

/// Where `core` comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Core {
    FromSource,
    Prebuilt,
}

/// A compiler that has a `core` for BPF.
#[derive(Debug)]
pub(crate) struct Compiler {
    toolchain: Option<&'static str>,
    pub(crate) release: String,
    pub(crate) llvm: Llvm,
    pub(crate) core: Core,
    pub(crate) sysroot: PathBuf,
}

/// A compiler and a linker that understand each other.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: Linker,
}

/// The first thing that keeps the object from being made.
#[derive(Debug)]
pub(crate) enum Missing {
    Compiler(Option<&'static str>),
    RustSrc(String),
    Linker,
    LinkerBroken(String),
    LinkerTooOld { linker: Llvm, compiler: Llvm },
}

impl Toolchain {
    /// The first of the candidates that works; else what the one in use lacks.
    pub(crate) fn find() -> Result<Self, Missing> {
        let mut first = None;
        for toolchain in CANDIDATES {
            match Self::with(toolchain) {
                Ok(found) => return Ok(found),
                Err(missing) => first = first.or(Some(missing)),
            }
        }
        Err(first.unwrap_or(Missing::Compiler(None)))
    }

    fn with(toolchain: Option<&'static str>) -> Result<Self, Missing> {
        let compiler = Compiler::find(toolchain)?;
        let linker = Linker::find()?;
        match linker.llvm {
            Some(llvm) if llvm.major < compiler.llvm.major => {
                Err(Missing::LinkerTooOld { linker: llvm, compiler: compiler.llvm })
            }
            Some(_) | None => Ok(Self { compiler, linker }),
        }
    }
}

impl Compiler {
    /// Looks at the compiler in use, or at one that rustup knows by name.
    pub(crate) fn find(toolchain: Option<&'static str>) -> Result<Self, Missing> {
        let (release, llvm) = version_of(toolchain).ok_or(Missing::Compiler(toolchain))?;
        let sysroot = ask(toolchain, &["--print", "sysroot"]).ok_or(Missing::Compiler(toolchain))?;
        let sysroot = PathBuf::from(sysroot.trim());
        let rustlib = sysroot.join("lib/rustlib");
        let core = if rustlib.join("src/rust/library/core/Cargo.toml").is_file() {
            Core::FromSource
        } else if rustlib.join(TARGET).is_dir() {
            Core::Prebuilt
        } else {
            return Err(Missing::RustSrc(release));
        };
        Ok(Self { toolchain, release, llvm, core, sysroot })
    }

    /// A program of this toolchain.
    pub(crate) fn program(&self, name: &str) -> Command {
        program(self.toolchain, name)
    }
}

/// The release and the LLVM of a compiler, whether or not it can make BPF objects.
pub(crate) fn version_of(toolchain: Option<&str>) -> Option<(String, Llvm)> {
    let about = ask(toolchain, &["-vV"])?;
    let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some((field("release:")?.to_owned(), Llvm::parse(field("LLVM version:")?)?))
}

fn program(toolchain: Option<&str>, name: &str) -> Command {
    let Some(toolchain) = toolchain else { return Command::new(name) };
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, name]);
    command
}

fn ask(toolchain: Option<&str>, args: &[&str]) -> Option<String> {
    let output = program(toolchain, "rustc").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Names the toolchain to people, in the note beside the committed object for one.
impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compiler: Compiler { toolchain: _, release, llvm, core, sysroot: _ }, linker } = self;
        let core = match core {
            Core::FromSource => "core from rust-src",
            Core::Prebuilt => "prebuilt core",
        };
        write!(f, "rustc {release} ({llvm}), {core}, {linker}, {ARCH} host")
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(None) => write!(f, "there is no working `rustc`"),
            Self::Compiler(Some(toolchain)) => write!(f, "there is no toolchain {toolchain:?}"),
            Self::RustSrc(release) => write!(f, "rustc {release} lacks the component `rust-src`"),
            Self::Linker => write!(f, "there is no `{NAME}` on PATH"),
            Self::LinkerBroken(why) => write!(f, "`{NAME}` does not start: {why}"),
            Self::LinkerTooOld { linker, compiler } => {
                write!(f, "`{NAME}` has {linker}, which is older than rustc's {compiler}")
            }
        }
    }
}

impl std::error::Error for Missing {}

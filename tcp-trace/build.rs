//! Gives the program its eBPF object, the facts about it that `--version` shows, and the hashes that its HTML reports name.
//!
//! A user needs no BPF toolchain: the committed object is embedded as long as the sources that it was made from
//! are unchanged. Who changes them gets an object made from source. `TCP_TRACE_EBPF` forces a way:
//!
//! - `auto` (the default): the committed object if it is current, else one made from source;
//! - `prebuilt`: the committed object, current or not;
//! - `build`: made from source;
//! - `none`: an empty file, for machines that only check or document the code.

#[path = "build/commit.rs"]
mod commit;
#[path = "build/ebpf.rs"]
mod ebpf;
#[path = "build/page.rs"]
mod page;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use ebpf::{recipe::Recipe, record::Committed, sha256, source, toolchain::Toolchain};

/// The environment variable that forces a way.
const MODE: &str = "TCP_TRACE_EBPF";

/// What is embedded, and where it is from.
struct Object {
    bytes: Vec<u8>,
    origin: &'static str,
}

fn main() -> ExitCode {
    if let Err(error) = run() {
        println!("cargo::error={error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    // In a published package nothing of the workspace is there but `tcp-trace` itself.
    let workspace = package.parent().filter(|root| root.join(ebpf::PACKAGE).is_dir());
    let committed = Committed::of(&package);
    watch(&package, &committed, workspace);

    let Object { bytes, origin } = choose(&committed, workspace, &out)?;
    let path = out.join("tcp-trace.bpf.o");
    fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
    let hash = if bytes.is_empty() { "none".to_owned() } else { sha256(&bytes) };
    println!("cargo:rustc-env=TCP_TRACE_EBPF_ORIGIN={origin}");
    println!("cargo:rustc-env=TCP_TRACE_EBPF_SHA256={hash}");
    println!("cargo:rustc-env=TCP_TRACE_COMMIT={}", workspace.map_or("unknown".into(), commit::of));
    page::hashes(&package)
}

/// Cargo runs this script again only if one of these changes.
fn watch(package: &Path, committed: &Committed, workspace: Option<&Path>) {
    println!("cargo:rerun-if-env-changed={MODE}");
    let Committed { object, note } = committed;
    let own = [package.join("build.rs"), package.join("build"), object.clone(), note.clone()];
    let sources = workspace.into_iter().flat_map(|root| {
        let settings = [source::LOCKFILE, source::MANIFEST].map(|file| root.join(file));
        source::code(root, &ebpf::PRODUCT).into_iter().chain(settings)
    });
    let commit = workspace.and_then(commit::changes_with);
    // A file that is not there would count as changed at every build.
    for path in own.into_iter().chain(sources).chain(commit).filter(|path| path.exists()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

fn choose(committed: &Committed, workspace: Option<&Path>, out: &Path) -> Result<Object> {
    let mode = env::var(MODE).unwrap_or_else(|_| "auto".to_owned());
    if mode == "none" {
        return Ok(Object { bytes: Vec::new(), origin: "none" });
    }
    let endian = env::var("CARGO_CFG_TARGET_ENDIAN").unwrap_or_default();
    ensure!(endian == "little", "only little-endian machines are supported; {MODE}=none builds without eBPF");
    match (mode.as_str(), workspace) {
        ("auto" | "prebuilt", None) => prebuilt(committed),
        ("auto", Some(root)) if is_current(committed, root)? => prebuilt(committed),
        ("auto" | "build", Some(root)) => build(root, out),
        ("prebuilt", Some(root)) => {
            if !is_current(committed, root)? {
                println!(
                    "cargo:warning=the committed eBPF object is older than its sources, but {MODE}={mode}"
                );
            }
            prebuilt(committed)
        }
        ("build", None) => bail!("{MODE}=build: the sources of the eBPF object are not here"),
        _ => bail!("{MODE} is {mode:?}; it can be `auto`, `prebuilt`, `build` or `none`"),
    }
}

/// Whether there is an object made from just these sources; a damaged one is an error, not a reason to compile.
fn is_current(committed: &Committed, root: &Path) -> Result<bool> {
    Ok(committed.note.is_file() && committed.read()?.1.source == source::hash(root, &ebpf::PRODUCT)?)
}

fn prebuilt(committed: &Committed) -> Result<Object> {
    let (bytes, _) = committed.read()?;
    Ok(Object { bytes, origin: "prebuilt" })
}

fn build(root: &Path, out: &Path) -> Result<Object> {
    let toolchain = Toolchain::find().map_err(|missing| {
        anyhow!("the eBPF object must be made from source here, but {missing}: run `cargo xtask setup`")
    })?;
    let recipe = Recipe::new(root, &out.join("ebpf-target"), &toolchain, &ebpf::PRODUCT)?;
    let mut cargo = recipe.cargo("build");
    // Its messages are on stderr; whatever is on our stdout, cargo takes for a directive.
    let status = cargo.stdout(Stdio::null()).status().context("starting cargo")?;
    ensure!(status.success(), "compiling {} with {toolchain}: see the messages above", ebpf::PACKAGE);
    let object = recipe.object();
    let bytes = fs::read(&object).with_context(|| format!("reading {}", object.display()))?;
    println!("cargo:warning=eBPF object made from source with {toolchain}");
    Ok(Object { bytes, origin: "built" })
}

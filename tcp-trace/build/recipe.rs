//! The cargo command that makes the eBPF object, with every setting that could change a byte of it.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    Object,
    toolchain::{Core, TARGET, Toolchain},
};

/// Raise this when the recipe changes in a way that the tables below do not show.
const VERSION: &str = "1";

/// The release profile, spelled out so that the workspace's own can change without touching the object.
/// bpf-linker optimizes the whole program itself; all that it needs is one module per crate.
const PROFILE: [(&str, &str); 8] = [
    ("CODEGEN_UNITS", "1"),
    ("DEBUG", "2"),
    ("DEBUG_ASSERTIONS", "false"),
    ("INCREMENTAL", "false"),
    ("LTO", "off"),
    ("OPT_LEVEL", "3"),
    ("OVERFLOW_CHECKS", "false"),
    ("STRIP", "none"),
];

/// BTF is made from the debug information. The programs read the arguments of tracepoints and no registers, so
/// one object serves every architecture; aya-ebpf only wants to be told one.
const FLAGS: [&str; 3] = ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"];

/// The settings that may reach the inner cargo: how to fetch, how to share the machine, how to print.
const KEPT: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_TERM_",
];

/// Everything that is needed to run cargo on an eBPF crate.
pub(crate) struct Recipe<'a> {
    root: PathBuf,
    target_dir: PathBuf,
    toolchain: &'a Toolchain,
    package: &'static str,
}

/// What the recipe adds to the hash of the sources.
pub(crate) fn identity() -> String {
    format!("{VERSION} {TARGET} {PROFILE:?} {FLAGS:?}")
}

impl<'a> Recipe<'a> {
    /// The target folder must not be one that a waiting cargo has locked: the inner cargo would wait for ever.
    pub(crate) fn new(
        root: &Path,
        target_dir: &Path,
        toolchain: &'a Toolchain,
        object: &Object,
    ) -> Result<Self> {
        fs::create_dir_all(target_dir).with_context(|| format!("creating {}", target_dir.display()))?;
        let real = |path: &Path| path.canonicalize().with_context(|| format!("resolving {}", path.display()));
        Ok(Self { root: real(root)?, target_dir: real(target_dir)?, toolchain, package: object.package })
    }

    /// Where `cargo build` leaves the object.
    pub(crate) fn object(&self) -> PathBuf {
        self.target_dir.join(TARGET).join("release").join(self.package)
    }

    /// `cargo build`, or another of cargo's commands that takes the same options.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let Self { root, target_dir, toolchain, package } = self;
        let mut command = toolchain.compiler.program("cargo");
        clean_environment(&mut command);
        command.current_dir(root).arg(subcommand);
        command.args(["--package", package, "--bin", package, "--release", "--locked", "--target", TARGET]);
        command.arg("--target-dir").arg(target_dir);
        match toolchain.compiler.core {
            Core::FromSource => {
                command.args(["-Z", "build-std=core"]).env("RUSTC_BOOTSTRAP", "1");
            }
            // These use one unstable feature, inline assembly for BPF; the value `1` would let all crates use any.
            Core::Prebuilt => {
                command.env("RUSTC_BOOTSTRAP", "aya_ebpf,tcp_trace_ebpf");
            }
        }
        for (key, value) in PROFILE {
            command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", self.flags().join("\x1f"));
        command
    }

    /// Paths are renamed so that the object is the same wherever the sources lie. The last match wins.
    fn flags(&self) -> Vec<String> {
        let Self { root, target_dir, toolchain, package: _ } = self;
        let mut renamed = vec![
            (toolchain.compiler.sysroot.clone(), "/rust"),
            (root.clone(), "/tcp-trace"),
            (target_dir.clone(), "/target"),
        ];
        if let Some(home) = cargo_home() {
            // The folder of a registry is named after its address, which a mirror changes.
            let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
            renamed.push((home, "/cargo"));
            renamed.extend(registries.map(|entry| (entry.path(), "/registry")));
        }
        let renamed =
            renamed.iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
        FLAGS.map(str::to_owned).into_iter().chain(renamed).collect()
    }
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))
}

/// Cargo tells a build script, and clippy tells cargo, a lot about the package being compiled for the host: its
/// flags, its compiler, a wrapper around it. None of that may leak into the compilation for the kernel.
fn clean_environment(command: &mut Command) {
    let foreign = |key: &OsStr| {
        let key = key.to_string_lossy();
        let is_cargos =
            ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "AYA_"].iter().any(|name| key.starts_with(name));
        is_cargos && !KEPT.iter().any(|kept| key.starts_with(kept))
    };
    for (key, _) in env::vars_os().filter(|(key, _)| foreign(key)) {
        command.env_remove(key);
    }
}

//! What a scenario needs beside this repository, and how to get it.

use std::{fmt, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{privilege, process, setup, workspace};

/// Something that has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A program on PATH, and Debian's package that has it.
    Program(&'static str, &'static str),
    /// Rights that only root has.
    Root,
    /// A package of PyPI, in an environment of its own.
    Python(&'static str),
    /// The OpenTelemetry Collector.
    Collector,
    /// The programs of a Kubernetes node.
    Kubernetes,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(program, package) => write!(f, "{program}: apt-get install {package}"),
            Self::Root => f.write_str("root: run it through sudo"),
            Self::Python(package) => write!(f, "{package}: pip install {package}, in a virtual environment"),
            Self::Collector => f.write_str(
                "the OpenTelemetry Collector: built from Debian's packages in six minutes and 6 GB of disk",
            ),
            Self::Kubernetes => {
                f.write_str("Kubernetes: built from Debian's source package in six minutes and 4 GB of disk")
            }
        }
    }
}

impl Need {
    /// Whether it is there.
    pub(super) fn is_met(self, folder: &Path) -> bool {
        match self {
            Self::Program(program, _) => process::exists(program),
            Self::Root => privilege::is_root(),
            Self::Python(package) => {
                let python = python(folder);
                python.is_file()
                    && process::succeeds(&python.to_string_lossy(), &["-c", &format!("import {package}")])
            }
            Self::Collector => collector(folder).is_file(),
            Self::Kubernetes => kubernetes(folder).join("kube-scheduler").is_file(),
        }
    }

    /// Gets it.
    pub(super) fn install(self, folder: &Path) -> Result<()> {
        match self {
            Self::Program(_, package) => setup::packages(&[package]),
            Self::Root => anyhow::bail!("become root"),
            Self::Python(package) => {
                if !python(folder).is_file() {
                    setup::packages(&["python3-venv"])?;
                    process::run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("python")))?;
                }
                process::run(Command::new(python(folder)).args(["-m", "pip", "install", "--quiet", package]))
            }
            Self::Collector => build_collector(folder),
            Self::Kubernetes => {
                setup::packages(&["containernetworking-plugins", "curl", "openssl"])?;
                let script = workspace::root().join("xtask/src/e2e/kubernetes/build.sh");
                process::run(Command::new(script).arg(folder.join("kubernetes-1.20")))
            }
        }
    }
}

/// Python with the packages that scenarios need.
pub(super) fn python(folder: &Path) -> std::path::PathBuf {
    folder.join("python/bin/python")
}

/// The collector.
pub(super) fn collector(folder: &Path) -> std::path::PathBuf {
    folder.join("otelcore")
}

/// The folder with the programs of Kubernetes.
pub(super) fn kubernetes(folder: &Path) -> std::path::PathBuf {
    folder.join("kubernetes-1.20/bin")
}

/// There is no binary of the collector in any registry of packages; its sources are in Debian's unstable release, as
/// libraries of Go. They are unpacked into a folder and compiled there, in a mount namespace: nothing of this host changes.
fn build_collector(folder: &Path) -> Result<()> {
    ensure!(privilege::is_root(), "unpacking another Debian takes root");
    setup::packages(&["mmdebstrap"])?;
    let root = folder.join("debian-unstable");
    if !root.join("usr/share/gocode").is_dir() {
        let packages = "--include=golang-go,golang-opentelemetry-collector-dev,ca-certificates";
        let mut unpack = Command::new("mmdebstrap");
        unpack.args(["--variant=apt", "--mode=root", packages]);
        unpack
            .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Check-Valid-Until \"false\""]);
        unpack.arg("sid").arg(&root);
        if let Some(mirror) = mirror() {
            unpack.arg(mirror);
        }
        process::run(&mut unpack)?;
    }
    let source = root.join("src/otelcore");
    fs::create_dir_all(&source)?;
    fs::copy(workspace::root().join("xtask/src/e2e/collector/main.go"), source.join("main.go"))?;
    let script = "mount -t proc proc \"$1/proc\" && mount --bind /dev \"$1/dev\" && chroot \"$1\" sh -c \
                  'cd /src/otelcore && HOME=/root GO111MODULE=off GOPATH=/usr/share/gocode go build -o /otelcore .'";
    process::run(Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(&root))?;
    fs::copy(root.join("otelcore"), collector(folder)).context("the collector that was built")?;
    Ok(())
}

/// Where this host gets its own packages.
fn mirror() -> Option<String> {
    let sources = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").ok()?;
    let line = sources.lines().find_map(|line| line.strip_prefix("URIs:"))?;
    line.split_whitespace().next().map(str::to_owned)
}

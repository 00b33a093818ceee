//! Removing the debug information of the committed object: seven eighths of it, and of no use to the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{object::toolchain::Compiler, process};

/// Strips a file in place. BTF stays, as its sections are not debug information to the tools.
pub(crate) fn debug_info(compiler: &Compiler, object: &Path) -> Result<()> {
    let mut strip = tool(compiler).context(
        "there is neither rustc's own rust-objcopy nor an llvm-strip; `apt-get install llvm` brings the latter",
    )?;
    process::run(strip.arg("-g").arg(object))
}

/// The compiler's own copy of LLVM's objcopy is preferred, as its version is pinned with the compiler's.
fn tool(compiler: &Compiler) -> Option<Command> {
    let Compiler { sysroot, llvm, .. } = compiler;
    let hosts = fs::read_dir(sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
    if let Some(objcopy) = hosts.map(|host| host.path().join("bin/rust-objcopy")).find(|path| path.is_file())
    {
        let mut command = Command::new(objcopy);
        // It is made to be started by rustc, which has its libraries loaded already.
        command.env("LD_LIBRARY_PATH", sysroot.join("lib"));
        return Some(command);
    }
    let versioned = PathBuf::from(format!("/usr/lib/llvm-{}/bin/llvm-strip", llvm.major));
    if versioned.is_file() {
        return Some(Command::new(versioned));
    }
    let names = [format!("llvm-strip-{}", llvm.major), "llvm-strip".to_owned()];
    names.into_iter().find(|name| process::exists(name)).map(Command::new)
}

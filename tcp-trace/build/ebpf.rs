//! How the eBPF object is made, shared by `tcp-trace/build.rs` and `xtask` so that both do the same thing.
//!
//! - `source`: one hash over everything the object is made from.
//! - `record`: the note kept beside the committed object: that hash, and the object's own.
//! - `toolchain` and `linker`: which compilers and linker on this machine can make it.
//! - `recipe`: the cargo command that makes it.

pub(crate) mod linker;
pub(crate) mod lockfile;
pub(crate) mod recipe;
pub(crate) mod record;
pub(crate) mod source;
pub(crate) mod toolchain;

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The package that holds the kernel half; its only binary has the same name.
pub(crate) const PACKAGE: &str = "tcp-trace-ebpf";

/// An object for the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    /// The package that it is made from; its only binary has the same name.
    pub(crate) package: &'static str,
    /// The folders with its code, relative to the workspace.
    pub(crate) code: &'static [&'static str],
}

/// The kernel half of the program.
pub(crate) const PRODUCT: Object = Object { package: PACKAGE, code: &[PACKAGE, "tcp-trace-common"] };

/// The SHA-256 of some bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

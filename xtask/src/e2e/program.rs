//! The program that is tested.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace;

/// Builds it: optimised, as users have it, unless that takes too long.
pub(super) fn build(debug: bool) -> Result<PathBuf> {
    let mut build = workspace::cargo();
    build.args(["build", "--locked", "--package", workspace::PROGRAM, "--bin", workspace::PROGRAM]);
    if !debug {
        build.arg("--release");
    }
    workspace::executable(build, workspace::PROGRAM)
}

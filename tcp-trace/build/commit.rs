//! The commit that is being built, for `--version`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The short hash, or `unknown` where there is no git or no commit.
pub(crate) fn of(workspace: &Path) -> String {
    git(workspace, &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// The file that git touches whenever another commit is checked out or made, and at no other time.
pub(crate) fn changes_with(workspace: &Path) -> Option<PathBuf> {
    let log = git(workspace, &["rev-parse", "--git-path", "logs/HEAD"])?;
    Some(workspace.join(log))
}

fn git(workspace: &Path, args: &[&str]) -> Option<String> {
    // Sources unpacked inside another project's checkout are not at that project's commit.
    if !workspace.join(".git").exists() {
        return None;
    }
    let output = Command::new("git").current_dir(workspace).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

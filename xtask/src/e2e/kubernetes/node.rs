//! A node of Kubernetes, for the time of a scenario.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    e2e::{need, stage::Stage},
    process,
};

/// It is taken down when this is dropped.
#[derive(Debug)]
pub(super) struct Node {
    programs: PathBuf,
    folder: PathBuf,
}

impl Node {
    pub(super) fn up(stage: &Stage, images: &[PathBuf]) -> Result<Self> {
        let node = Self { programs: need::kubernetes(&stage.shared), folder: stage.folder.join("node") };
        process::run(script("up.sh").arg(&node.programs).arg(&node.folder).args(images))?;
        Ok(node)
    }

    /// Asks the API server; what it says.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(self.folder.join("kubeconfig")).args(arguments);
        let output = kubectl.output().context("starting kubectl")?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = process::run(script("down.sh").arg(&self.folder)) {
            eprintln!("   {error:#}");
        }
    }
}

fn script(name: &str) -> Command {
    Command::new(Path::new(&Stage::repository("xtask/src/e2e/kubernetes")).join(name))
}

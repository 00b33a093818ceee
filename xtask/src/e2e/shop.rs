//! Programs with known habits, in containers as far as the kernel and the kubelet's links know.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::stage::{Running, Stage};
use crate::process;

/// What whoever serves does with a connection that its client has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    Close,
    Leak,
}

/// The program.
const PROGRAM: &str = "xtask/src/e2e/shop.py";
/// Where the kubelet has its links; their names are all that is read.
const LINKS: &str = "/var/log/containers";

/// A network namespace with containers in it; everything is taken away when this is dropped.
#[derive(Debug)]
pub(super) struct Shop {
    netns: String,
    cgroups: PathBuf,
    made: Vec<PathBuf>,
    links: Vec<PathBuf>,
}

impl Shop {
    /// Opens one.
    pub(super) fn new(netns: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let cgroups = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(point))
        });
        let cgroups = cgroups.context("no cgroup2 hierarchy is mounted")?;
        let shop = Self { netns: netns.to_owned(), cgroups, made: Vec::new(), links: Vec::new() };
        process::run(Command::new("ip").args(["netns", "add", netns]))?;
        process::run(Command::new("ip").args(["-n", netns, "link", "set", "lo", "up"]))?;
        Ok(shop)
    }

    /// Starts a service in a container of that name.
    pub(super) fn serve(&mut self, stage: &Stage, name: &str, port: u16, habit: Habit) -> Result<Running> {
        let habit = if habit == Habit::Leak { "leak" } else { "close" };
        self.start(stage, name, &["serve", &port.to_string(), habit])
    }

    /// Starts a caller in a container of that name: so many calls of each port, ten rounds a second.
    pub(super) fn call(&mut self, stage: &Stage, name: &str, count: u32, ports: &[u16]) -> Result<Running> {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let count = count.to_string();
        let mut arguments = vec!["call", count.as_str()];
        arguments.extend(ports.iter().map(String::as_str));
        self.start(stage, name, &arguments)
    }

    fn start(&mut self, stage: &Stage, name: &str, arguments: &[&str]) -> Result<Running> {
        let cgroup = self.container(name)?;
        let mut shell = Command::new("sh");
        let enter = "echo $$ >\"$1/cgroup.procs\" && shift && exec ip netns exec \"$@\"";
        shell.args(["-c", enter, "sh"]).arg(cgroup).arg(&self.netns);
        shell.arg("python3").arg(Stage::repository(PROGRAM)).arg(name).args(arguments);
        stage.start(name, &mut shell)
    }

    /// A container as a node of Kubernetes has it: a cgroup with its id below that of a pod, and a link with its names.
    fn container(&mut self, name: &str) -> Result<PathBuf> {
        ensure!(name.len() < 32 && name.is_ascii(), "a name of a container");
        // Hexadecimal, and another for each name.
        let mut id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        id.extend(std::iter::repeat_n('0', 64 - id.len()));
        let pod = "pod00000000-0000-4000-8000-000000000001";
        let folder = self.cgroups.join("kubepods/besteffort").join(pod).join(&id);
        for ancestor in ["kubepods", "kubepods/besteffort", &format!("kubepods/besteffort/{pod}")] {
            self.made.push(self.cgroups.join(ancestor));
        }
        self.made.push(folder.clone());
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        fs::create_dir_all(LINKS)?;
        let link = Path::new(LINKS).join(format!("{name}-0_shop_{name}-{id}.log"));
        if !link.is_symlink() {
            symlink("/nonexistent", &link).with_context(|| format!("making {}", link.display()))?;
        }
        self.links.push(link);
        Ok(folder)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Nothing more can be done about what cannot be removed.
        let _ = process::run(Command::new("ip").args(["netns", "del", &self.netns]));
        self.made.sort();
        self.made.dedup();
        // A process that was killed leaves its cgroup in a moment, not at once.
        for _ in 0..20 {
            self.made.retain(|folder| folder.is_dir());
            for folder in self.made.iter().rev() {
                let _ = fs::remove_dir(folder);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for link in &self.links {
            let _ = fs::remove_file(link);
        }
        // Only if nobody else has links there.
        let _ = fs::remove_dir(LINKS);
    }
}

//! Where Docker keeps its containers.

use std::{
    ffi::OsStr,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tcp_trace_core::{
    container::{identify, telling_path},
    process::ProcessId,
    survey::Runtime,
};

use super::json;
use crate::survey::{
    cgroups, cmdline,
    proc::{self, Folder},
};

const DEFAULTS: [&str; 2] = ["var/lib/docker", "var/snap/docker/common/var-lib-docker"];
const CONFIGURATION: &str = "etc/docker/daemon.json";
const CONFIGURATION_BYTES: u64 = 1 << 20;
const SMALL: usize = 64 * 1024;
/// Daemons that are asked for theirs.
const DAEMONS: usize = 16;
/// A daemon may be started while we run.
const REFRESH: Duration = Duration::from_secs(30);

/// The folders that running daemons, the configuration, and habit name, in this order.
#[derive(Debug, Default)]
pub(super) struct DataRoots {
    found: Vec<PathBuf>,
    looked: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration {
    data_root: Option<PathBuf>,
    /// Its name before Docker 17.05.
    graph: Option<PathBuf>,
}

impl DataRoots {
    pub(super) fn get(&mut self, root: &Path) -> &[PathBuf] {
        if self.looked.is_none_or(|looked| looked.elapsed() >= REFRESH) {
            let configured = json::<Configuration>(&root.join(CONFIGURATION), CONFIGURATION_BYTES)
                .and_then(|configuration| configuration.data_root.or(configuration.graph));
            let habit = DEFAULTS.into_iter().map(PathBuf::from);
            let all = of_daemons().into_iter().chain(configured).chain(habit);
            self.found = all.map(|path| root.join(path.strip_prefix("/").unwrap_or(&path))).collect();
            self.looked = Some(Instant::now());
        }
        &self.found
    }
}

/// What running daemons were started with. A program in a container may call itself dockerd: only those of the host
/// are believed.
fn of_daemons() -> Vec<PathBuf> {
    let pids = proc::pids().inspect_err(|error| log::debug!("/proc: {error}")).unwrap_or_default();
    let processes = pids.into_iter().filter_map(|pid| Some((pid, Folder::of_process(pid).ok()?)));
    processes.filter_map(|(pid, process)| of_daemon(pid, &process)).take(DAEMONS).collect()
}

fn of_daemon(pid: u32, process: &Folder) -> Option<PathBuf> {
    if process.read(c"comm", SMALL).ok()? != b"dockerd\n" {
        return None;
    }
    let cgroups = cgroups::of(process).ok()?;
    let container = telling_path(&cgroups).and_then(identify).map(|identity| identity.facts.runtime);
    let is_of_host = container.is_none_or(|runtime| runtime == Runtime::Systemd);
    let id = ProcessId::new(pid, None);
    is_of_host.then(|| data_root(&cmdline::read(process.0.as_fd(), id, SMALL)?)).flatten()
}

/// `--data-root DIR` or `--data-root=DIR`; before Docker 17.05 `--graph` or `-g`.
pub(super) fn data_root(cmdline: &[u8]) -> Option<PathBuf> {
    let mut words = cmdline.split(|byte| *byte == 0);
    let value = loop {
        let word = words.next()?;
        if [b"--data-root".as_slice(), b"--graph", b"-g"].contains(&word) {
            break words.next()?;
        }
        let joined = word.strip_prefix(b"--data-root=").or_else(|| word.strip_prefix(b"--graph="));
        if let Some(value) = joined {
            break value;
        }
    };
    value.starts_with(b"/").then(|| PathBuf::from(OsStr::from_bytes(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_root_is_an_absolute_path() {
        let root = |text: &str| data_root(text.replace(' ', "\0").as_bytes());
        for cmdline in ["dockerd --data-root /d -H x", "dockerd --data-root=/d", "dockerd -D -g /d"] {
            assert_eq!(root(cmdline), Some("/d".into()), "{cmdline}");
        }
        for other in ["dockerd", "dockerd --data-root", "dockerd --data-root d", "dockerd --data-root= /d"] {
            assert_eq!(root(other), None, "{other}");
        }
    }
}

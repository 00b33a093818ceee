//! What the runtimes have written to disk about their containers.
//!
//! | runtime | file |
//! |---|---|
//! | Kubernetes | links in `/var/log/containers`, joined by the container's id: links of dead containers stay behind |
//! | containerd | `config.json` of the task, of all its namespaces; the CRI plugin's annotations are in it |
//! | Docker | `DATA-ROOT/containers/ID/config.v2.json` |
//! | podman | `STORAGE/overlay-containers/containers.json` |
//! | CRI-O | `/run/containers/storage/overlay-containers/ID/userdata/config.json` |
//!
//! Images, labels and names are chosen by whoever starts a container, and a rootless user's files are that user's: all
//! of it is read as hostile. A user's files are only asked about that user's cgroups.

mod docker;
mod documents;
mod kubelet;
mod podman;

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags};
use serde::de::DeserializeOwned;
use tcp_trace_core::{
    container::is_id,
    survey::{ContainerFacts, Runtime},
};

use documents::Bundle;

/// Where containerd keeps its tasks: its own, k3s', microk8s', and one started by dockerd.
const TASKS: [&str; 4] = [
    "run/containerd/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
    "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
    "run/docker/containerd/daemon/io.containerd.runtime.v2.task",
];
/// containerd's namespaces that are looked into.
const NAMESPACES: usize = 64;
const CRIO: &str = "run/containers/storage/overlay-containers";
/// A document about one container.
const ONE: u64 = 4 << 20;
/// As much of a name as is kept.
const LONGEST_NAME: usize = 256;

/// The runtimes' files.
#[derive(Debug)]
pub(super) struct RuntimeFiles {
    /// The root of the host's file system.
    root: PathBuf,
    logs: kubelet::Logs,
    docker: docker::DataRoots,
}

impl RuntimeFiles {
    /// Below the root of a file system.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, logs: kubelet::Logs::default(), docker: docker::DataRoots::default() }
    }

    /// Adds what is written about a container that its path has told the id of.
    pub(super) fn complete(&mut self, path: &str, facts: &mut ContainerFacts) {
        if !is_id(&facts.id) {
            return;
        }
        let unnamed = facts.runtime == Runtime::Kubernetes;
        if facts.runtime == Runtime::Containerd || unnamed {
            self.containerd(facts);
        }
        if facts.runtime == Runtime::Docker || unnamed {
            self.docker(facts);
        }
        if facts.runtime == Runtime::CriO || unnamed {
            self.crio(facts);
        }
        if facts.runtime == Runtime::Podman {
            podman::complete(&self.root, path, facts);
        }
        if facts.pod_uid.is_some() || facts.runtime == Runtime::Containerd {
            self.logs.complete(&self.root, facts);
        }
    }

    /// The container whose path says nothing, but which a runtime's file says is there; and where its cgroups begin.
    pub(super) fn claimed(&mut self, path: &str) -> Option<(ContainerFacts, String)> {
        let whole = path.trim_end_matches('/');
        let parent = whole.rsplit_once('/').map_or("", |(parent, _)| parent);
        [whole, parent].into_iter().find_map(|root| {
            let id = root.rsplit_once('/')?.1;
            let facts = self.task(root, id).or_else(|| self.docker_by_id(id))?;
            Some((facts, root.to_owned()))
        })
    }

    /// A containerd task with this id, which is in exactly this cgroup.
    fn task(&mut self, cgroup: &str, id: &str) -> Option<ContainerFacts> {
        if matches!(id, "" | "." | "..") {
            return None;
        }
        let mut facts = bare(id, Runtime::Containerd);
        let (runtime, bundle) =
            self.bundle(id, |bundle| bundle.linux.cgroups_path.as_deref() == Some(cgroup))?;
        facts.runtime = runtime;
        bundle.annotations.complete(&mut facts);
        if runtime == Runtime::Docker {
            self.docker(&mut facts);
        }
        // Without Kubernetes and nerdctl a task has no name but its id, which `ctr run` was given.
        facts.name = facts.name.or_else(|| (!is_id(id)).then(|| id.to_owned()));
        Some(facts)
    }

    fn docker_by_id(&mut self, id: &str) -> Option<ContainerFacts> {
        let mut facts = is_id(id).then(|| bare(id, Runtime::Docker))?;
        self.docker(&mut facts).then_some(facts)
    }

    fn docker(&mut self, facts: &mut ContainerFacts) -> bool {
        let roots = self.docker.get(&self.root);
        let paths = roots.iter().map(|root| root.join("containers").join(&facts.id).join("config.v2.json"));
        let document = paths.into_iter().find_map(|path| json::<documents::Docker>(&path, ONE));
        let Some(document) = document else { return false };
        facts.runtime = Runtime::Docker;
        document.complete(facts);
        true
    }

    fn containerd(&self, facts: &mut ContainerFacts) {
        if let Some((runtime, bundle)) = self.bundle(&facts.id, |_| true) {
            facts.runtime = runtime;
            bundle.annotations.complete(facts);
        }
    }

    /// The task with this id that is what we look for, in whatever namespace; the one that Docker uses is `moby`.
    fn bundle(&self, id: &str, is_it: impl Fn(&Bundle) -> bool) -> Option<(Runtime, Bundle)> {
        let tasks = TASKS.iter().map(|tasks| self.root.join(tasks));
        let namespaces = tasks.flat_map(|tasks| fs::read_dir(tasks).into_iter().flatten().take(NAMESPACES));
        namespaces.flatten().find_map(|namespace| {
            let bundle =
                json::<Bundle>(&namespace.path().join(id).join("config.json"), ONE).filter(|b| is_it(b))?;
            let is_docker = namespace.file_name() == "moby";
            Some((if is_docker { Runtime::Docker } else { Runtime::Containerd }, bundle))
        })
    }

    fn crio(&self, facts: &mut ContainerFacts) {
        let path = self.root.join(CRIO).join(&facts.id).join("userdata/config.json");
        // podman's bundles lie there as well.
        let is_crio = |bundle: &Bundle| bundle.annotations.is_crio();
        if let Some(bundle) = json::<Bundle>(&path, ONE).filter(is_crio) {
            facts.runtime = Runtime::CriO;
            bundle.annotations.complete(facts);
        }
    }
}

fn bare(id: &str, runtime: Runtime) -> ContainerFacts {
    ContainerFacts {
        id: id.to_owned(),
        name: None,
        runtime,
        image: None,
        pod_uid: None,
        pod: None,
        namespace: None,
        qos: None,
    }
}

/// What the documents of each runtime would add to the facts of a container, all of them from these bytes.
pub(super) fn documents(bytes: &[u8]) -> Vec<ContainerFacts> {
    let of = |runtime| bare("0", runtime);
    let (mut docker, mut bundle, mut podman) =
        (of(Runtime::Docker), of(Runtime::Containerd), of(Runtime::Podman));
    if let Ok(document) = serde_json::from_slice::<documents::Docker>(bytes) {
        document.complete(&mut docker);
    }
    if let Ok(document) = serde_json::from_slice::<Bundle>(bytes) {
        document.annotations.complete(&mut bundle);
    }
    if let Ok(list) = serde_json::from_slice(bytes) {
        podman::complete_from(list, &mut podman);
    }
    let _ = (docker::data_root(bytes), podman::graph_root(&String::from_utf8_lossy(bytes)));
    vec![docker, bundle, podman]
}

/// A field of a document: never empty, never longer than a name is.
fn field(text: Option<&str>) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(text.chars().take(LONGEST_NAME).collect())
}

/// A document of a regular file; `None`, and a line in the log, if there is none, or it is another kind of document.
fn json<T: DeserializeOwned>(path: &Path, limit: u64) -> Option<T> {
    let bytes = bytes(path, limit)?;
    serde_json::from_slice(&bytes).inspect_err(|error| log::debug!("{}: {error}", path.display())).ok()
}

/// The bytes of a regular file that is no longer than this. It is not opened for reading before it is known to be one:
/// opening a device does something, and opening a FIFO waits.
fn bytes(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&found).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        log::debug!("{}: no regular file", path.display());
        return None;
    }
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let mut bytes = Vec::new();
    let read = file.and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    let problem = match read {
        Err(error) => error.to_string(),
        Ok(length) if length as u64 > limit => format!("longer than {limit} bytes"),
        Ok(_) => return Some(bytes),
    };
    log::debug!("{}: {problem}", path.display());
    None
}

#[cfg(test)]
pub(super) mod tests;

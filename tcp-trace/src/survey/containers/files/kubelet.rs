//! The kubelet's links to the logs of containers. Their names are enough; the logs are not opened.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tcp_trace_core::{container::LogName, survey::ContainerFacts};

use super::field;

const LINKS: &str = "var/log/containers";
/// Links that are kept: of a node with the most pods that Kubernetes is tested with, many times over.
const MOST: usize = 16 * 1024;
/// Between two listings.
const PAUSE: Duration = Duration::from_secs(1);

/// The links, by container id.
#[derive(Debug, Default)]
pub(super) struct Logs {
    names: FxHashMap<String, Names>,
    listed: Option<Instant>,
}

#[derive(Debug)]
struct Names {
    pod: Option<String>,
    namespace: Option<String>,
    container: Option<String>,
}

impl Logs {
    /// Adds the names of a container that has a link.
    pub(super) fn complete(&mut self, root: &Path, facts: &mut ContainerFacts) {
        if facts.name.is_some() && facts.pod.is_some() && facts.namespace.is_some() {
            return;
        }
        let recent = self.listed.is_some_and(|listed| listed.elapsed() < PAUSE);
        if !self.names.contains_key(&facts.id) && !recent {
            self.list(&root.join(LINKS));
        }
        if let Some(names) = self.names.get(&facts.id) {
            facts.name = facts.name.take().or_else(|| names.container.clone());
            facts.pod = facts.pod.take().or_else(|| names.pod.clone());
            facts.namespace = facts.namespace.take().or_else(|| names.namespace.clone());
        }
    }

    fn list(&mut self, links: &Path) {
        self.listed = Some(Instant::now());
        self.names.clear();
        for entry in fs::read_dir(links).into_iter().flatten().flatten().take(MOST) {
            let file_name = entry.file_name();
            if let Some(name) = file_name.to_str().and_then(LogName::parse) {
                let (pod, namespace, container) =
                    (field(Some(name.pod)), field(Some(name.namespace)), field(Some(name.container)));
                self.names.insert(name.id.to_owned(), Names { pod, namespace, container });
            }
        }
    }
}

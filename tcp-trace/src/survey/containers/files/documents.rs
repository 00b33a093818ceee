//! The documents, as far as they are used.

use std::collections::BTreeMap;

use serde::Deserialize;
use tcp_trace_core::survey::ContainerFacts;

use super::field;

/// `config.v2.json` of Docker.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Docker {
    name: Option<String>,
    #[serde(default)]
    config: DockerConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DockerConfig {
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

impl Docker {
    pub(super) fn complete(&self, facts: &mut ContainerFacts) {
        let labels = Annotations(self.config.labels.clone().unwrap_or_default());
        labels.complete(facts);
        let name = self.name.as_deref().map(|name| name.trim_start_matches('/'));
        // Of a pod's container Docker's name is made up of the names that the labels have singly.
        facts.name = facts.name.take().or_else(|| field(name));
        facts.image = facts.image.take().or_else(|| field(self.config.image.as_deref()));
    }
}

/// `config.json` of the OCI runtime specification.
#[derive(Debug, Deserialize)]
pub(super) struct Bundle {
    #[serde(default)]
    pub(super) annotations: Annotations,
    #[serde(default)]
    pub(super) linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Linux {
    pub(super) cgroups_path: Option<String>,
}

/// Annotations or labels of a container.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Annotations(BTreeMap<String, String>);

impl Annotations {
    /// Adds what the kubelet's CRI runtimes and nerdctl have noted.
    pub(super) fn complete(&self, facts: &mut ContainerFacts) {
        let add = |to: &mut Option<String>, keys: &[&str]| {
            let found = keys.iter().find_map(|key| field(self.0.get(*key).map(String::as_str)));
            *to = to.take().or(found);
        };
        let containerd = "io.kubernetes.cri.container-name";
        add(&mut facts.name, &[containerd, "io.kubernetes.container.name", "nerdctl/name"]);
        add(&mut facts.pod, &["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
        add(&mut facts.namespace, &["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
        add(&mut facts.pod_uid, &["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]);
        add(&mut facts.image, &["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"]);
    }

    pub(super) fn is_crio(&self) -> bool {
        self.0.keys().any(|key| key.starts_with("io.kubernetes.cri-o."))
    }
}

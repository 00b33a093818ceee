//! Resources: one for each container, and one for the host and the agent itself.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::resource::v1::Resource;
use tcp_trace_core::{
    log::Origin,
    survey::{ContainerFacts, Runtime},
};

use super::{attributes::Attributes, names};

/// Makes resources.
#[derive(Debug)]
pub(super) struct Resources {
    origin: Origin,
    /// What the configuration adds.
    extra: BTreeMap<String, String>,
}

/// Labels of the configuration that OpenTelemetry has a name for.
const LABELS: [(&str, &str); 3] = [
    ("environment", "deployment.environment.name"),
    ("region", "cloud.region"),
    ("zone", "cloud.availability_zone"),
];

impl Resources {
    pub(super) fn new(origin: Origin, extra: BTreeMap<String, String>) -> Self {
        Self { origin, extra }
    }

    /// The agent's own. Its service is the agent; what the sender's environment says of a service is about this one.
    pub(super) fn host(&self) -> Resource {
        let mut attributes = BTreeMap::from([
            (names::SERVICE_NAME, names::SCOPE.to_owned()),
            (names::SERVICE_VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        self.place(&mut attributes);
        attributes.extend(self.extra.iter().map(|(key, value)| (key.as_str(), value.clone())));
        resource(&attributes, None)
    }

    /// A container's.
    pub(super) fn container(&self, facts: &ContainerFacts) -> Resource {
        let ContainerFacts { id, name, runtime, image, pod_uid, pod, namespace, qos: _ } = facts;
        let mut attributes = BTreeMap::from([(names::SERVICE_NAME, service(facts).to_owned())]);
        self.place(&mut attributes);
        let of_others = |key: &&String| !key.starts_with("service.");
        let extra = self.extra.keys().filter(of_others);
        attributes.extend(extra.filter_map(|key| Some((key.as_str(), self.extra.get(key)?.clone()))));
        let in_kubernetes = pod_uid.is_some() || pod.is_some();
        let mut set = |key, value: &Option<String>| {
            attributes.extend(value.clone().map(|value| (key, value)));
        };
        set(names::POD_UID, pod_uid);
        set(names::POD_NAME, pod);
        set(names::NAMESPACE, namespace);
        set(names::SERVICE_NAMESPACE, namespace);
        match runtime {
            Runtime::Systemd => set(names::SYSTEMD_UNIT, &Some(id.clone())),
            _ => {
                set(names::CONTAINER_ID, &Some(id.clone()));
                set(names::CONTAINER_NAME, name);
                set(names::CONTAINER_RUNTIME, &Some(runtime.name().to_owned()));
            }
        }
        if in_kubernetes {
            set(names::K8S_CONTAINER, name);
            set(names::NODE, &Some(self.origin.host.clone()));
        }
        let (image, tag) = image.as_deref().map_or((None, None), |image| {
            let (image, tag) = split_image(image);
            (Some(image.to_owned()), tag.map(str::to_owned))
        });
        set(names::IMAGE_NAME, &image);
        resource(&attributes, tag.as_deref())
    }

    /// Where it is: the same for all that one agent sends.
    fn place<'a>(&'a self, attributes: &mut BTreeMap<&'a str, String>) {
        let Origin { host, cluster, labels } = &self.origin;
        attributes.insert(names::HOST_NAME, host.clone());
        attributes.insert(names::SERVICE_INSTANCE, host.clone());
        attributes.insert(names::OS_TYPE, "linux".to_owned());
        attributes.extend(cluster.clone().map(|cluster| (names::CLUSTER, cluster)));
        attributes.extend(labels.iter().map(|(key, value)| {
            let named = LABELS.iter().find(|(label, _)| label == key);
            (named.map_or(key.as_str(), |(_, name)| name), value.clone())
        }));
    }
}

/// In the order of their names: the same resource is the same bytes.
fn resource(attributes: &BTreeMap<&str, String>, tag: Option<&str>) -> Resource {
    let mut all = Attributes::default();
    for (key, value) in attributes {
        all.text(*key, value);
        if *key == names::IMAGE_NAME {
            all.list(names::IMAGE_TAGS, tag.map(str::to_owned));
        }
    }
    Resource { attributes: all.into_vec(), ..Resource::default() }
}

/// What the service in a container is called: a name that is the same on every host that it runs on. In Kubernetes that is
/// the container's name, because the name of a pod is of one pod only; a systemd unit is called without its instance.
pub(super) fn service(facts: &ContainerFacts) -> &str {
    if facts.runtime == Runtime::Systemd {
        let unit = facts.id.rsplit_once('.').map_or(facts.id.as_str(), |(unit, _kind)| unit);
        return unit.split_once('@').map_or(unit, |(unit, _instance)| unit);
    }
    match (&facts.name, &facts.image) {
        (Some(name), _) => name,
        (None, Some(image)) => {
            let (image, _tag) = split_image(image);
            image.rsplit_once('/').map_or(image, |(_, name)| name)
        }
        (None, None) => &facts.id,
    }
}

/// `registry:5000/shop/cart:1.4@sha256:…` is `registry:5000/shop/cart` and `1.4`.
fn split_image(image: &str) -> (&str, Option<&str>) {
    if image.starts_with("sha256:") {
        // Not a name at all.
        return (image, None);
    }
    let image = image.split_once('@').map_or(image, |(image, _digest)| image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    }
}

/// Whether a container has a resource of its own. A scope of systemd is a login session or a command that was started by
/// hand: another one each time.
pub(super) fn has_own(facts: &ContainerFacts) -> bool {
    facts.runtime != Runtime::Systemd || !facts.id.ends_with(".scope")
}

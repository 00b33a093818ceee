//! Which container a process is in, by the paths of its cgroups: text in, text out.
//!
//! Every runtime makes a cgroup for each of its containers and gives it a name that has the container's id in it. The
//! names are set by whoever may make cgroups, so what is not exactly a runtime's name is nobody's. The kernel refuses
//! a newline in them (`cgroup_mkdir`, `kernel/cgroup/cgroup.c`), which keeps `/proc/PID/cgroup` readable by lines;
//! every other character may occur.

use crate::survey::{ContainerFacts, Runtime, ServiceClass};

/// Names of cgroups that begin with the runtime's own word and end with the id; systemd's cgroup driver adds
/// `.scope`. The runtimes' monitors (`crio-conmon-…`, `libpod-conmon-…`) do not fit, because what follows is no id.
const PREFIXES: [(&str, Runtime); 5] = [
    ("docker", Runtime::Docker),
    ("cri-containerd", Runtime::Containerd),
    ("nerdctl", Runtime::Containerd),
    ("crio", Runtime::CriO),
    ("libpod", Runtime::Podman),
];

/// Suffixes of systemd units that have processes; a slice has none of its own.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

impl Runtime {
    /// Its name, as reports show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Systemd => "systemd",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// What a cgroup path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The container, or the systemd unit where there is no container. Names that only the runtime knows are missing.
    pub facts: ContainerFacts,
    /// The path of its own cgroup: the beginning of the path that was asked about.
    pub root: &'a str,
}

/// Which container a cgroup path is in. Of nested containers the innermost; a systemd unit only where there is no
/// container at all, because systemd runs in containers too.
#[must_use]
pub fn identify(path: &str) -> Option<Identity<'_>> {
    let path = existing(path);
    let mut walk = Walk::default();
    let mut end = 0;
    for component in path.split('/') {
        end += component.len();
        walk.step(component, path.get(..end).unwrap_or(path));
        end += 1;
    }
    walk.container.or(walk.unit)
}

/// The path of a cgroup that was removed while a process was in it is followed by this (`proc_cgroup_show`).
fn existing(path: &str) -> &str {
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

/// From the root inwards.
#[derive(Default)]
struct Walk<'a> {
    parent: &'a str,
    grandparent: &'a str,
    in_kubepods: bool,
    pod: Option<Pod>,
    parent_is_pod: bool,
    container: Option<Identity<'a>>,
    unit: Option<Identity<'a>>,
}

#[derive(Clone)]
struct Pod {
    uid: String,
    class: ServiceClass,
}

impl<'a> Walk<'a> {
    fn step(&mut self, component: &'a str, root: &'a str) {
        let pod = pod_slice(component).or_else(|| self.pod_folder(component));
        let is_pod = pod.is_some();
        self.pod = pod.or_else(|| self.pod.take());
        if let Some((runtime, id)) = self.container_named(component) {
            self.container = Some(Identity { facts: facts(runtime, id, self.pod.as_ref()), root });
        } else if is_unit(component) {
            self.unit = Some(Identity { facts: facts(Runtime::Systemd, component, None), root });
        }
        self.in_kubepods |= component == "kubepods";
        self.parent_is_pod = is_pod;
        self.grandparent = std::mem::replace(&mut self.parent, component);
    }

    /// The cgroupfs driver of the kubelet: `kubepods/burstable/podUID`.
    fn pod_folder(&self, component: &str) -> Option<Pod> {
        let uid = component.strip_prefix("pod").filter(|uid| self.in_kubepods && is_uid(uid))?;
        let class = match self.parent {
            "kubepods" => ServiceClass::Guaranteed,
            "burstable" => ServiceClass::Burstable,
            "besteffort" => ServiceClass::BestEffort,
            _ => return None,
        };
        Some(Pod { uid: uid.to_owned(), class })
    }

    fn container_named(&self, component: &'a str) -> Option<(Runtime, &'a str)> {
        prefixed(component).or_else(|| self.lxc(component)).or_else(|| {
            let runtime = match self.parent {
                // Amazon ECS starts its tasks by Docker, below a cgroup of its own.
                _ if self.grandparent == "ecs" => Runtime::Docker,
                "docker" | "moby" => Runtime::Docker,
                // containerd's namespaces: that of nerdctl and ctr, and that of its CRI plugin.
                "default" | "k8s.io" => Runtime::Containerd,
                _ if self.parent_is_pod => Runtime::Kubernetes,
                _ => return None,
            };
            is_id(component).then_some((runtime, component))
        })
    }

    /// LXC 4 and later, LXD, Incus: `lxc.payload.NAME`; earlier `lxc.payload/NAME` and `lxc/NAME`. Their
    /// monitors run on the host: `lxc.monitor.NAME`.
    fn lxc(&self, component: &'a str) -> Option<(Runtime, &'a str)> {
        let name = match self.parent {
            "lxc" | "lxc.payload" => component,
            _ => component.strip_prefix("lxc.payload.")?,
        };
        (!name.is_empty()).then_some((Runtime::Lxc, name))
    }
}

fn facts(runtime: Runtime, id: &str, pod: Option<&Pod>) -> ContainerFacts {
    let named_by_path = matches!(runtime, Runtime::Lxc | Runtime::Systemd);
    ContainerFacts {
        id: id.to_owned(),
        name: named_by_path.then(|| id.to_owned()),
        runtime,
        image: None,
        pod_uid: pod.map(|pod| pod.uid.clone()),
        pod: None,
        namespace: None,
        qos: pod.map(|pod| pod.class),
    }
}

/// `docker-ID.scope`, `crio-ID`; and `SLICE:cri-containerd:ID`, which a runtime with the cgroupfs driver makes of the
/// name that it was given for the systemd driver.
fn prefixed(component: &str) -> Option<(Runtime, &str)> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    PREFIXES.into_iter().find_map(|(prefix, runtime)| {
        let dashed = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
        let id = dashed.or_else(|| {
            let (before, id) = name.rsplit_once(':')?;
            before.strip_suffix(prefix)?.strip_suffix(':').map(|_slice| id)
        });
        id.filter(|id| is_id(id)).map(|id| (runtime, id))
    })
}

/// The systemd driver of the kubelet: `kubepods-burstable-podUID.slice`, with underscores in the uid; below a cgroup
/// root of the kubelet's own (`kubelet.slice` in kind) the name has that root's in front.
fn pod_slice(component: &str) -> Option<Pod> {
    let slice = component.split(':').next()?;
    let (classes, uid) = slice.strip_suffix(".slice")?.rsplit_once("-pod")?;
    let (before, class) = classes.rsplit_once("kubepods")?;
    let class = match class {
        "" => ServiceClass::Guaranteed,
        "-burstable" => ServiceClass::Burstable,
        "-besteffort" => ServiceClass::BestEffort,
        _ => return None,
    };
    let uid = uid.replace('_', "-");
    (is_uid(&uid) && (before.is_empty() || before.ends_with('-'))).then_some(Pod { uid, class })
}

/// Ids of containers are 256 random bits everywhere but in LXC.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Uids of pods: a UUID from the API server; of a static pod a hash, without dashes.
fn is_uid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    (lengths == [8, 4, 4, 4, 12] || lengths == [32]) && parts.into_iter().all(is_hex)
}

fn is_unit(component: &str) -> bool {
    UNITS.iter().any(|suffix| component.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty()))
}

/// The path that tells most, of a `/proc/PID/cgroup` (cgroups(7)): one with a container, whatever its hierarchy;
/// else that of cgroup v2; where that is the root, one of v1. On a hybrid host a process may be in a container by the
/// v1 hierarchies and still in its runtime's unit by v2.
#[must_use]
pub fn telling_path(proc_cgroup: &str) -> Option<&str> {
    let rank = |hierarchy: &str, path: &str| {
        let is_v2 = hierarchy == "0";
        match identify(path).map(|identity| identity.facts.runtime) {
            _ if path == "/" => (0, 0, is_v2),
            Some(Runtime::Systemd) | None if is_v2 => (3, 0, is_v2),
            Some(Runtime::Systemd) => (2, 0, is_v2),
            None => (1, 0, is_v2),
            // A container in a container may be known to some of the hierarchies only.
            Some(_) => (4, path.matches('/').count(), is_v2),
        }
    };
    lines(proc_cgroup).max_by_key(|(hierarchy, path)| rank(hierarchy, path)).map(|(_, path)| existing(path))
}

/// The path in the v2 hierarchy, of a `/proc/PID/cgroup`.
#[must_use]
pub fn v2_path(proc_cgroup: &str) -> Option<&str> {
    lines(proc_cgroup).find(|(hierarchy, _)| *hierarchy == "0").map(|(_, path)| existing(path))
}

/// A `/proc/PID/cgroup` that was read in a cgroup namespace, with the paths of the v2 hierarchy as the host has them;
/// `root` is the namespace's root there. What leads out of the host's own hierarchy stays as it is.
#[must_use]
pub fn seen_from(proc_cgroup: &str, root: &str) -> String {
    let whole = |line: &str| {
        let path = line.strip_prefix("0::").filter(|path| path.starts_with('/'))?;
        Some(format!("0::{}", joined(root, path)?))
    };
    proc_cgroup.lines().map(|line| whole(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// `/a/b/c` and `/../x` are `/a/b/x`. Only at its beginning can the kernel's path lead upwards.
fn joined(root: &str, path: &str) -> Option<String> {
    let (mut root, mut path) = (root.trim_end_matches('/'), path);
    while let Some(rest) = path.strip_prefix("/..").filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        root = root.rsplit_once('/')?.0;
        path = rest;
    }
    let whole = format!("{root}{}", if path == "/" { "" } else { path });
    Some(if whole.is_empty() { "/".to_owned() } else { whole })
}

/// Number of the hierarchy, and path.
fn lines(proc_cgroup: &str) -> impl Iterator<Item = (&str, &str)> {
    proc_cgroup.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, _controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with('/').then_some((hierarchy, path))
    })
}

/// The name of a link in `/var/log/containers`, which the kubelet makes for each container, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogName<'a> {
    /// Name of the pod.
    pub pod: &'a str,
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the container.
    pub container: &'a str,
    /// Id of the container.
    pub id: &'a str,
}

impl<'a> LogName<'a> {
    /// Of `POD_NAMESPACE_CONTAINER-ID.log`. None of the names can hold an underscore.
    #[must_use]
    pub fn parse(file_name: &'a str) -> Option<Self> {
        let (names, id) = file_name.strip_suffix(".log")?.rsplit_once('-')?;
        let mut names = names.split('_');
        let (pod, namespace, container) = (names.next()?, names.next()?, names.next()?);
        let whole = ![pod, namespace, container].contains(&"") && names.next().is_none() && is_id(id);
        whole.then_some(Self { pod, namespace, container, id })
    }
}

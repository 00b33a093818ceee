//! `--container NAME|ID`: which sockets are a container's.

use std::collections::{BTreeMap, BTreeSet};

use tcp_trace_core::{
    container::{identify, telling_path, v2_path},
    process::printable,
    survey::{ContainerFacts, Runtime},
};

use super::{Containers, Place};
use crate::survey::{
    cgroups,
    proc::{self, Folder},
};

/// As short as an id may be cut.
const SHORTEST_PREFIX: usize = 4;
/// Candidates that an error lists.
const LISTED: usize = 20;

/// Where the sockets of a container are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerMatch {
    /// The container.
    pub facts: ContainerFacts,
    /// Ids of its cgroups in the v2 hierarchy, without those of containers in it; empty where it has none there, and
    /// then its sockets carry no id that is its own.
    pub cgroup_ids: Vec<u64>,
    /// Its network namespace; `None` if it cannot be read, or its processes are in several.
    pub netns: Option<u32>,
    /// Whether that is the host's: the namespace of process 1, or where that may not be read, our own.
    pub host_netns: bool,
    /// Whether processes outside the container are in that namespace as well: the host's, or those of other containers
    /// of its pod. A filter by namespace lets their sockets in.
    pub shared_netns: bool,
    /// Its processes.
    pub pids: Vec<u32>,
}

/// Why no container was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// More than one fits.
    #[error("{} containers fit {}: {}; give more of the id", .candidates.len(), printable(.text), listed(.candidates))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Those that fit.
        candidates: Vec<String>,
    },
    /// None fits.
    #[error("no container is named {} or has an id that begins so; {}", printable(.text), there_are(.running))]
    Unknown {
        /// What was asked for.
        text: String,
        /// Those that run here.
        running: Vec<String>,
    },
}

fn listed(candidates: &[String]) -> String {
    let more = candidates.len().saturating_sub(LISTED);
    let shown: Vec<_> = candidates.iter().take(LISTED).map(|text| printable(text)).collect();
    let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

fn there_are(running: &[String]) -> String {
    if running.is_empty() {
        "no process here is in a container of Docker, containerd, CRI-O, podman, LXC or Kubernetes".to_owned()
    } else {
        format!("running here: {}", listed(running))
    }
}

/// A container with processes.
struct Running {
    facts: ContainerFacts,
    pids: Vec<u32>,
    /// Its own cgroups in the v2 hierarchy.
    roots: BTreeSet<String>,
}

impl Containers {
    /// The container with this name (`CONTAINER`, or `POD/CONTAINER`, or `NAMESPACE/POD/CONTAINER`), this id, or an id
    /// that begins with this and is no other's; among the containers that have processes.
    ///
    /// # Errors
    /// If none fits, or several do.
    pub fn resolve(&mut self, text: &str) -> Result<ContainerMatch, ResolveError> {
        let mut running: Vec<Running> = self.running().into_values().collect();
        let fits: [fn(&ContainerFacts, &str) -> bool; 3] = [has_id, has_name, has_prefix];
        let best = fits.into_iter().find_map(|fits| {
            let found: Vec<usize> = (0..running.len())
                .filter(|at| running.get(*at).is_some_and(|r| fits(&r.facts, text)))
                .collect();
            (!found.is_empty()).then_some(found)
        });
        let name_all =
            |running: &[Running]| running.iter().map(|one| describe(&one.facts)).collect::<Vec<_>>();
        match best.as_deref() {
            None => Err(ResolveError::Unknown { text: text.to_owned(), running: name_all(&running) }),
            Some([one]) => Ok(self.located(running.swap_remove(*one))),
            Some(several) => {
                let candidates = name_all(&running);
                let candidates = several.iter().filter_map(|at| candidates.get(*at).cloned()).collect();
                Err(ResolveError::Ambiguous { text: text.to_owned(), candidates })
            }
        }
    }

    /// The containers of all processes. Nothing else has sockets that do something.
    fn running(&mut self) -> BTreeMap<(Runtime, String), Running> {
        let mut running = BTreeMap::new();
        for pid in pids() {
            let cgroups = Folder::of_process(pid).and_then(|folder| cgroups::of(&folder));
            let Ok(cgroups) = cgroups else { continue };
            let Some(path) = telling_path(&cgroups) else { continue };
            let Some(Place { facts, root: _ }) = self.place(path) else { continue };
            if facts.runtime == Runtime::Systemd {
                continue;
            }
            let root = v2_path(&cgroups).and_then(|path| self.place(path));
            let root = root.filter(|place| place.facts.id == facts.id).map(|place| place.root);
            let entry = running.entry((facts.runtime, facts.id.clone()));
            let one = entry.or_insert_with(|| Running { facts, pids: Vec::new(), roots: BTreeSet::new() });
            one.pids.push(pid);
            one.roots.extend(root);
        }
        running
    }

    fn located(&mut self, running: Running) -> ContainerMatch {
        let Running { facts, pids, roots } = running;
        let below = roots.iter().flat_map(|root| self.tree.below(root)).filter(|(_, path)| {
            identify(path)
                .is_none_or(|inner| inner.facts.id == facts.id || inner.facts.runtime == Runtime::Systemd)
        });
        let cgroup_ids = below.map(|(id, _)| id).collect::<BTreeSet<_>>().into_iter().collect();
        let spaces: BTreeSet<u32> = pids.iter().filter_map(|pid| netns(*pid)).collect();
        let netns = spaces.first().copied().filter(|_| spaces.len() == 1);
        let shared_netns = netns.is_some() && is_shared(netns, &pids);
        let host_netns =
            netns.is_some() && netns == self::netns(1).or_else(|| self::netns(std::process::id()));
        ContainerMatch { facts, cgroup_ids, netns, host_netns, shared_netns, pids }
    }
}

/// Whether somebody outside the container is in its namespace.
fn is_shared(space: Option<u32>, inside: &[u32]) -> bool {
    let inside: BTreeSet<u32> = inside.iter().copied().collect();
    pids().into_iter().any(|pid| !inside.contains(&pid) && netns(pid) == space)
}

fn netns(pid: u32) -> Option<u32> {
    Folder::of_process(pid).ok()?.inode(c"ns/net", b"net")
}

/// All processes; none if `/proc` cannot be listed.
fn pids() -> Vec<u32> {
    proc::pids().inspect_err(|error| log::debug!("/proc: {error}")).unwrap_or_default()
}

fn has_id(facts: &ContainerFacts, text: &str) -> bool {
    facts.id == text
}

fn has_name(facts: &ContainerFacts, text: &str) -> bool {
    let name = facts.name.as_deref();
    let mut parts = text.rsplitn(3, '/');
    let (container, pod, namespace) = (parts.next(), parts.next(), parts.next());
    let whole = name.is_some() && name == Some(text);
    whole
        || name.is_some()
            && name == container
            && pod.is_some()
            && facts.pod.as_deref() == pod
            && (namespace.is_none() || facts.namespace.as_deref() == namespace)
}

fn has_prefix(facts: &ContainerFacts, text: &str) -> bool {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.len() >= SHORTEST_PREFIX
        && is_hex
        && facts.runtime != Runtime::Lxc
        && facts.id.starts_with(&text.to_ascii_lowercase())
}

/// `NAMESPACE/POD/CONTAINER (docker 0123456789ab)`.
fn describe(facts: &ContainerFacts) -> String {
    let short =
        facts.id.get(..12).filter(|_| tcp_trace_core::container::is_id(&facts.id)).unwrap_or(&facts.id);
    let parts = [&facts.namespace, &facts.pod, &facts.name];
    let names: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    format!("{} ({} {short})", names.join("/"), facts.runtime.name()).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, name: Option<&str>) -> ContainerFacts {
        ContainerFacts {
            id: id.to_owned(),
            name: name.map(str::to_owned),
            runtime: Runtime::Docker,
            image: None,
            pod_uid: None,
            pod: Some("cart-1".to_owned()),
            namespace: Some("shop".to_owned()),
            qos: None,
        }
    }

    #[test]
    fn names_ids_and_beginnings_of_ids_fit() {
        let facts = container(&"0123456789abcdef".repeat(4), Some("api"));
        for name in ["api", "cart-1/api", "shop/cart-1/api"] {
            assert!(has_name(&facts, name), "{name}");
        }
        for other in ["", "/", "ap", "cart-2/api", "other/cart-1/api", "/cart-1/api", "cart-1"] {
            assert!(!has_name(&facts, other), "{other}");
        }
        assert!(has_prefix(&facts, "0123") && has_prefix(&facts, "0123456789AB"));
        assert!(!has_prefix(&facts, "012") && !has_prefix(&facts, "1234") && !has_prefix(&facts, "0123x"));
        assert!(!has_name(&container("web", None), ""));
        assert_eq!(describe(&facts), "shop/cart-1/api (docker 0123456789ab)");
        assert_eq!(
            describe(&ContainerFacts { pod: None, namespace: None, name: None, ..facts }),
            "(docker 0123456789ab)"
        );
    }

    #[test]
    fn errors_say_what_is_there_and_disturb_no_terminal() {
        let unknown =
            ResolveError::Unknown { text: "\u{1b}[31m".into(), running: vec!["web\n (lxc web)".into()] };
        assert_eq!(
            unknown.to_string(),
            "no container is named \\u{1b}[31m or has an id that begins so; running here: web\\u{a} (lxc web)"
        );
        let none = ResolveError::Unknown { text: "web".into(), running: Vec::new() };
        assert!(none.to_string().ends_with("podman, LXC or Kubernetes"), "{none}");
        let many: Vec<String> = (0..25).map(|number| format!("c{number}")).collect();
        let ambiguous = ResolveError::Ambiguous { text: "c".into(), candidates: many }.to_string();
        assert!(
            ambiguous.starts_with("25 containers fit c: c0, c1,") && ambiguous.contains("c19, and 5 more;")
        );
    }
}

//! Which container a cgroup is: its id by the path, its name by what the runtime has written to disk.
//!
//! No runtime is asked: their sockets need more rights than their files, and a container that has just gone is known
//! to neither. What was found once is kept, so that a report can name it afterwards.

mod files;
mod resolve;
mod tree;

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tcp_trace_core::{
    container::identify,
    survey::{ContainerFacts, Runtime},
};

pub use resolve::{ContainerMatch, ResolveError};

use files::RuntimeFiles;
use tree::CgroupTree;

/// Containers that are remembered; the first to come is the first to go.
const MOST: usize = 4096;
/// A container can be renamed.
const REFRESH: Duration = Duration::from_secs(30);
/// Files of a container that has just been started may still be written.
const RETRY: Duration = Duration::from_secs(2);

/// What the documents of each runtime would add to the facts of a container: for the fuzz targets.
pub(super) fn documents(bytes: &[u8]) -> Vec<ContainerFacts> {
    files::documents(bytes)
}

/// The paths of all cgroups below a mount of the hierarchy.
pub(super) fn every_cgroup(mount: PathBuf) -> Vec<String> {
    CgroupTree::new(Some(mount)).below("/").into_iter().map(|(_, path)| path).collect()
}

/// The containers of this host, as far as they were asked about.
#[derive(Debug)]
pub struct Containers {
    files: RuntimeFiles,
    tree: CgroupTree,
    /// By the path of the container's own cgroup, or of one that is no container's.
    known: FxHashMap<String, Known>,
    order: VecDeque<String>,
}

/// A container and where its cgroups begin.
#[derive(Clone, Debug)]
struct Place {
    facts: ContainerFacts,
    root: String,
}

#[derive(Debug)]
struct Known {
    place: Option<Place>,
    looked: Instant,
}

impl Default for Containers {
    fn default() -> Self {
        Self::new()
    }
}

impl Containers {
    /// Of this host; nothing is read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with(PathBuf::from("/"), CgroupTree::new(crate::bpf::cgroup_mount_point()))
    }

    fn with(root: PathBuf, tree: CgroupTree) -> Self {
        Self { files: RuntimeFiles::new(root), tree, known: FxHashMap::default(), order: VecDeque::new() }
    }

    /// The container of a cgroup path, or the systemd unit where there is none.
    pub fn of_path(&mut self, path: &str) -> Option<ContainerFacts> {
        self.place(path).map(|place| place.facts)
    }

    /// Path and container of a cgroup of the v2 hierarchy, by its id; `None` if no such cgroup was ever seen.
    pub fn of_cgroup_id(&mut self, id: u64) -> Option<(String, Option<ContainerFacts>)> {
        let path = self.tree.path_of(id)?;
        let facts = self.of_path(&path);
        Some((path, facts))
    }

    fn place(&mut self, path: &str) -> Option<Place> {
        let identity = identify(path).map(|found| Place { facts: found.facts, root: found.root.to_owned() });
        // The path tells all about these.
        if path == "/"
            || identity.as_ref().is_some_and(|p| matches!(p.facts.runtime, Runtime::Systemd | Runtime::Lxc))
        {
            return identity;
        }
        let key = identity.as_ref().map_or(path, |place| &place.root).to_owned();
        let before = self.known.get(&key);
        if let Some(known) = before.filter(|known| known.is_fresh()) {
            return known.place.clone();
        }
        let found = match identity {
            Some(mut place) => {
                self.files.complete(path, &mut place.facts);
                Some(place)
            }
            None => self.files.claimed(path).map(|(facts, root)| Place { facts, root }),
        };
        let place = before.and_then(|known| known.place.clone()).map_or(found.clone(), |old| {
            // Its files are gone: what they said before still holds.
            Some(found.filter(|new| new.facts.name.is_some() || old.facts.name.is_none()).unwrap_or(old))
        });
        self.remember(key, place.clone());
        place
    }

    fn remember(&mut self, key: String, place: Option<Place>) {
        let known = Known { place, looked: Instant::now() };
        if self.known.insert(key.clone(), known).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        let nameless = self.place.as_ref().is_some_and(|place| place.facts.name.is_none());
        self.looked.elapsed() < if nameless { RETRY } else { REFRESH }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "aaaaaaaaaaaaaaaa0123456789abcdef0123456789abcdef0123456789abcdef";

    fn outdated(containers: &mut Containers) {
        let long_ago = Instant::now().checked_sub(REFRESH).unwrap();
        containers.known.values_mut().for_each(|known| known.looked = long_ago);
    }

    #[test]
    fn what_was_known_outlives_the_files() {
        let root = files::tests::Root::new("outlives");
        let folder = format!("var/lib/docker/containers/{ID}");
        root.write(&format!("{folder}/config.v2.json"), r#"{"Name":"/web","Config":{"Image":"nginx"}}"#);
        let mut containers = Containers::with(root.path(), CgroupTree::new(None));
        let path = format!("/docker/{ID}");
        let facts = containers.of_path(&path).unwrap();
        assert_eq!((facts.name.as_deref(), facts.image.as_deref()), (Some("web"), Some("nginx")));
        root.write(&format!("{folder}/config.v2.json"), r#"{"Name":"/shop"}"#);
        assert_eq!(containers.of_path(&format!("{path}/init")), Some(facts), "not asked again at once");
        outdated(&mut containers);
        let renamed = containers.of_path(&path).unwrap();
        assert_eq!(renamed.name.as_deref(), Some("shop"));
        root.remove(&folder);
        outdated(&mut containers);
        assert_eq!(containers.of_path(&path), Some(renamed));
    }

    #[test]
    fn memory_is_bounded() {
        let root = files::tests::Root::new("bounded");
        let mut containers = Containers::with(root.path(), CgroupTree::new(None));
        for number in 0..MOST + 100 {
            assert!(containers.of_path(&format!("/docker/{number:064x}")).is_some());
            assert_eq!(containers.of_path(&format!("/plain{number}")), None);
        }
        assert_eq!((containers.known.len(), containers.order.len()), (MOST, MOST));
    }

    #[test]
    fn the_path_alone_names_units_and_lxc() {
        let mut containers = Containers::with(PathBuf::from("/nonexistent"), CgroupTree::new(None));
        let unit = containers.of_path("/system.slice/nginx.service/x").unwrap();
        assert_eq!((unit.runtime, unit.id.as_str()), (Runtime::Systemd, "nginx.service"));
        assert_eq!(containers.of_path("/lxc.payload.web").unwrap().name.as_deref(), Some("web"));
        assert_eq!(containers.of_path("/"), None);
        assert!(containers.known.is_empty());
    }
}

//! podman's list of containers, of the storage that a container must be in.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tcp_trace_core::survey::ContainerFacts;

use super::{bytes, field, json};
use crate::survey::users::users;

/// Storage drivers that a list can be of.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];
/// Containers that end with the next boot are in a list of their own.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
const STORAGE: &str = "var/lib/containers/storage";
const OF_USER: &str = ".local/share/containers/storage";
/// The host's configuration wins over the distribution's.
const CONFIGURATIONS: [&str; 2] = ["etc/containers/storage.conf", "usr/share/containers/storage.conf"];
const CONFIGURATION_BYTES: u64 = 1 << 20;
/// A list of some ten thousand containers.
const LIST_BYTES: u64 = 16 << 20;

/// A container in a list.
#[derive(Deserialize)]
pub(super) struct Stored {
    id: String,
    names: Option<Vec<String>>,
    /// A document in a text.
    metadata: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    image_name: Option<String>,
}

/// Adds the name and the image.
pub(super) fn complete(root: &Path, path: &str, facts: &mut ContainerFacts) {
    let lists = storages(root, path).into_iter().flat_map(|storage| {
        DRIVERS.into_iter().flat_map(move |driver| {
            let folder = storage.join(format!("{driver}-containers"));
            LISTS.into_iter().map(move |list| folder.join(list))
        })
    });
    let stored = lists.filter_map(|list| json::<Vec<Stored>>(&list, LIST_BYTES));
    for list in stored {
        if complete_from(list, facts) {
            return;
        }
    }
}

/// The same from one list. Returns whether the container is in it.
pub(super) fn complete_from(list: Vec<Stored>, facts: &mut ContainerFacts) -> bool {
    let one = list.into_iter().find(|one| one.id == facts.id);
    let Some(Stored { id: _, names, metadata }) = one else { return false };
    let name = names.as_ref().and_then(|names| names.first());
    facts.name = facts.name.take().or_else(|| field(name.map(String::as_str)));
    let metadata = metadata.and_then(|text| serde_json::from_str::<Metadata>(&text).ok());
    let image = metadata.and_then(|metadata| metadata.image_name);
    facts.image = facts.image.take().or_else(|| field(image.as_deref()));
    true
}

/// The user's whose cgroup it is; else the host's.
fn storages(root: &Path, path: &str) -> Vec<PathBuf> {
    if let Some(uid) = uid(path) {
        let home = users().get(&uid).map(|user| user.home.strip_prefix("/").unwrap_or(&user.home));
        return home.map(|home| root.join(home).join(OF_USER)).into_iter().collect();
    }
    let configured = CONFIGURATIONS.into_iter().find_map(|file| {
        let text = bytes(&root.join(file), CONFIGURATION_BYTES)?;
        graph_root(&String::from_utf8_lossy(&text))
    });
    let configured = configured.map(|path| root.join(path.strip_prefix("/").unwrap_or(&path)));
    let habit = root.join(STORAGE);
    configured.into_iter().filter(|path| *path != habit).chain([habit.clone()]).collect()
}

/// Of `/user.slice/user-1000.slice/…`; root's own sessions have the host's storage.
fn uid(path: &str) -> Option<u32> {
    let of = |component: &str| component.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok();
    path.split('/').find_map(of).filter(|uid| *uid != 0)
}

/// `graphroot = "/path"` of a storage.conf (containers-storage.conf(5)), which is TOML.
pub(super) fn graph_root(configuration: &str) -> Option<PathBuf> {
    configuration.lines().find_map(|line| {
        let value = line.trim().strip_prefix("graphroot")?.trim_start().strip_prefix('=')?.trim();
        let path = value.strip_prefix('"')?.split('"').next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_is_the_users_or_the_hosts() {
        assert_eq!(uid("/user.slice/user-1000.slice/user@1000.service/x"), Some(1000));
        assert_eq!(uid("/user.slice/user-0.slice/session-1.scope"), None);
        assert_eq!(uid("/machine.slice/user-x.slice"), None);
        let text = "# graphroot = \"/no\"\n[storage]\n graphroot=\"/srv/c\" # here\n";
        assert_eq!(graph_root(text), Some("/srv/c".into()));
        assert_eq!(graph_root("graphroot = \"relative\"\ngraphroots = \"/x\"\n"), None);
    }
}

//! The cgroup v2 hierarchy: ids to paths. The id of a cgroup is the inode number of its folder (`cgroup_id`,
//! `include/linux/cgroup.h`; the same on 64-bit hosts), and is never given to another.
//!
//! A handle could be opened by id (`open_by_handle_at`), but that needs a capability and finds no more than a walk,
//! which costs one listing per cgroup and is only made for an id that is new.

use std::{
    fs,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

/// Cgroups of a host; the kernel's own limit (`cgroup.max.descendants`) is none.
const MOST: usize = 64 * 1024;
const DEEPEST: usize = 64;
/// Between two walks: an id that no walk finds is of a cgroup that was removed.
const PAUSE: Duration = Duration::from_secs(1);

/// The cgroups that were seen so far.
#[derive(Debug)]
pub(super) struct CgroupTree {
    mount: Option<PathBuf>,
    paths: FxHashMap<u64, String>,
    walked: Option<Instant>,
}

impl CgroupTree {
    /// Below a mount of the whole hierarchy, if there is one.
    pub(super) fn new(mount: Option<PathBuf>) -> Self {
        Self { mount, paths: FxHashMap::default(), walked: None }
    }

    /// The path of a cgroup, removed ones included that were seen before.
    pub(super) fn path_of(&mut self, id: u64) -> Option<String> {
        let recent = self.walked.is_some_and(|walked| walked.elapsed() < PAUSE);
        if !self.paths.contains_key(&id) && !recent {
            let found = self.below("/");
            self.walked = Some(Instant::now());
            if self.paths.len() + found.len() > MOST {
                self.paths.clear();
            }
            self.paths.extend(found);
        }
        self.paths.get(&id).cloned()
    }

    /// Ids and paths of a cgroup and those below it.
    pub(super) fn below(&self, path: &str) -> Vec<(u64, String)> {
        let Some(mount) = &self.mount else { return Vec::new() };
        let top = mount.join(path.trim_start_matches('/'));
        let Ok(metadata) = fs::metadata(&top) else { return Vec::new() };
        let mut found = vec![(metadata.ino(), path.to_owned())];
        let mut open = vec![(top, path.trim_end_matches('/').to_owned(), 0)];
        while let Some((folder, path, depth)) = open.pop() {
            for (id, name) in children(&folder) {
                if found.len() >= MOST {
                    return found;
                }
                let (inner, inner_path) = (folder.join(&name), format!("{path}/{}", name.to_string_lossy()));
                found.push((id, inner_path.clone()));
                if depth < DEEPEST {
                    open.push((inner, inner_path, depth + 1));
                }
            }
        }
        found
    }
}

/// Inode numbers and names of the folders in a folder, as the listing itself has them. One that goes meanwhile has
/// none.
fn children(folder: &Path) -> impl Iterator<Item = (u64, std::ffi::OsString)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| (entry.ino(), entry.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::containers::files::tests::Root;

    #[test]
    fn removed_cgroups_keep_their_paths() {
        let root = Root::new("tree");
        root.write("a/b c/cgroup.procs", "");
        root.write("d/cgroup.procs", "");
        let ino = |path: &str| fs::metadata(root.path().join(path)).unwrap().ino();
        let (b, d) = (ino("a/b c"), ino("d"));
        let mut tree = CgroupTree::new(Some(root.path()));
        assert_eq!(tree.path_of(b).as_deref(), Some("/a/b c"));
        assert_eq!(tree.path_of(ino("")).as_deref(), Some("/"));
        root.remove("d");
        tree.walked = None;
        assert_eq!(tree.path_of(u64::MAX), None);
        assert_eq!(tree.path_of(d).as_deref(), Some("/d"));
        let below: Vec<String> = tree.below("/a").into_iter().map(|(_, path)| path).collect();
        assert_eq!(below, ["/a", "/a/b c"]);
        assert!(tree.below("/nowhere").is_empty());
    }
}

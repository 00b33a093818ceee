//! The network namespaces of this host, as far as they can be found, and a visit to each.
//!
//! Found are: the calling thread's own, those that processes live in (`/proc/PID/ns/net`: of the thread group's
//! leader), those that `ip netns` named, and other bind mounts of namespace files. Not found is a namespace that only a
//! thread, a descriptor or a socket keeps: looking at every thread and descriptor of the host costs as much as
//! everything else together, and is done for one that is asked for by its number only. A process that lives in another pid namespace is not in this `/proc`.

use std::{
    collections::VecDeque,
    fs::{self, File, Metadata},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread,
};

use rustc_hash::FxHashMap;
use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use tcp_trace_core::doctor::{Feature, names};

use super::proc;

/// Namespaces that are visited at most.
const MAX_NAMESPACES: usize = 1 << 16;
/// The calling thread's namespace.
const OWN: &str = "/proc/thread-self/ns/net";
/// Ways into a namespace that are remembered: the first may be gone when it is needed.
const MAX_DOORS: usize = 4;
/// How often further ways are looked for when all of these are gone.
const MAX_SEARCHES: usize = 3;

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Inode number, which is how the kernel's own programs know it.
    pub inum: u32,
    /// Its name, where `ip netns` has one.
    pub name: Option<String>,
    /// Whether the thread that looked lives in it.
    pub own: bool,
    /// A process that lives in it.
    pub pid: Option<u32>,
    /// Files that it can be entered by.
    doors: VecDeque<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// The namespaces, the caller's own first, then by inode number.
    pub all: Vec<Namespace>,
    /// What could not be looked at, for people, a sentence each.
    pub problems: Vec<String>,
}

/// The network namespaces of this host; with `only`, that one, if it can be found.
#[must_use]
pub fn find(only: Option<u32>) -> Namespaces {
    look(Search { only, ..Search::default() })
}

/// This network namespace, which a file is known of: then it need not be one that can be found.
#[must_use]
pub fn find_at(inum: u32, file: &Path) -> Namespaces {
    let mut search = Search { only: Some(inum), ..Search::default() };
    search.add(inum, || file.to_owned());
    look(search)
}

/// A file of a network namespace that nothing but some process's descriptor keeps: a look at all descriptors, which is
/// dear, and so for one namespace that was asked for by number only.
#[must_use]
pub fn open_among_descriptors(wanted: u32) -> Option<File> {
    let link = format!("net:[{wanted}]");
    let of_process = |pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let found = descriptors
            .flatten()
            .map(|entry| entry.path())
            .find(|path| fs::read_link(path).is_ok_and(|target| target.as_os_str() == link.as_str()))?;
        File::open(found)
            .ok()
            .filter(|file| file.metadata().is_ok_and(|data| inum(&data).ok() == Some(wanted)))
    };
    proc::pids().ok()?.into_iter().find_map(of_process)
}

fn look(mut search: Search) -> Namespaces {
    search.own();
    search.processes();
    for directory in ["/run/netns", "/var/run/netns"] {
        search.named(Path::new(directory));
    }
    search.bind_mounts(&fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default());
    search.finish()
}

/// Runs `visit` inside each namespace, one after the other, on a thread made for it, so that the calling one stays
/// where it is. Returns what could not be visited, a sentence each.
///
/// # Errors
///
/// If no thread can be started.
pub fn for_each(
    namespaces: &[Namespace],
    mut visit: impl FnMut(&Namespace) + Send,
) -> io::Result<Vec<String>> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(scope, || {
            let mut refused = Refused::default();
            for namespace in namespaces {
                match enter(namespace) {
                    Ok(()) => visit(namespace),
                    Err(error) => refused.add(namespace, &error),
                }
            }
            refused.problems()
        })?;
        worker.join().map_err(|_panic| io::Error::other("the thread that visits network namespaces panicked"))
    })
}

/// Moves the calling thread, unless it is there already: no privilege is needed for its own.
fn enter(namespace: &Namespace) -> io::Result<()> {
    if inum(&fs::metadata(OWN)?)? == namespace.inum {
        return Ok(());
    }
    let file = open(namespace)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// A file of it. All processes whose files were remembered may have ended since, and others may live there still.
fn open(namespace: &Namespace) -> io::Result<File> {
    let mut opened = open_known(namespace);
    for _ in 0..MAX_SEARCHES {
        if !opened.as_ref().is_err_and(is_gone) {
            break;
        }
        match find(Some(namespace.inum)).all.iter().find(|found| found.inum == namespace.inum) {
            Some(found) => opened = open_known(found),
            None => break,
        }
    }
    opened
}

fn open_known(namespace: &Namespace) -> io::Result<File> {
    let mut last = io::Error::from(Errno::NOENT);
    for door in &namespace.doors {
        match File::open(door) {
            // The process may have ended since, and its pid may be another's.
            Ok(file) if inum(&file.metadata()?)? == namespace.inum => return Ok(file),
            Ok(_another) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

fn inum(file: &Metadata) -> io::Result<u32> {
    u32::try_from(file.ino()).map_err(io::Error::other)
}

/// Namespaces that could not be visited. One that is gone by now is none.
#[derive(Default)]
struct Refused {
    not_permitted: u64,
    others: Vec<String>,
}

impl Refused {
    /// Single sentences beyond these would say the same.
    const MAX: usize = 8;

    fn add(&mut self, namespace: &Namespace, error: &io::Error) {
        match Errno::from_io_error(error) {
            Some(Errno::PERM | Errno::ACCESS) => self.not_permitted += 1,
            Some(Errno::NOENT | Errno::SRCH) => {}
            _ if self.others.len() < Self::MAX => {
                self.others.push(format!("network namespace {} cannot be entered: {error}", namespace.inum));
            }
            _ => {}
        }
    }

    fn problems(self) -> Vec<String> {
        let not_permitted = (self.not_permitted > 0).then(|| {
            let number = self.not_permitted;
            let what = if number == 1 {
                "another network namespace".to_owned()
            } else {
                format!("{number} other network namespaces")
            };
            let needed = names(Feature::Namespaces.capabilities());
            format!("{what} cannot be entered without {needed}: the sockets there are not listed")
        });
        not_permitted.into_iter().chain(self.others).collect()
    }
}

/// A search under way.
#[derive(Default)]
struct Search {
    only: Option<u32>,
    found: FxHashMap<u32, Namespace>,
    /// Processes whose namespace may not be read.
    hidden: u64,
    omitted: bool,
    problems: Vec<String>,
}

impl Search {
    fn add(&mut self, inum: u32, door: impl FnOnce() -> PathBuf) -> Option<&mut Namespace> {
        if self.only.is_some_and(|only| only != inum) {
            return None;
        }
        if self.found.len() >= MAX_NAMESPACES && !self.found.contains_key(&inum) {
            self.omitted = true;
            return None;
        }
        let new = || Namespace { inum, name: None, own: false, pid: None, doors: VecDeque::new() };
        let namespace = self.found.entry(inum).or_insert_with(new);
        if namespace.doors.len() < MAX_DOORS {
            namespace.doors.push_back(door());
        }
        Some(namespace)
    }

    fn own(&mut self) {
        match fs::metadata(OWN).and_then(|file| inum(&file)) {
            Ok(inum) => {
                if let Some(namespace) = self.add(inum, || PathBuf::from(OWN)) {
                    namespace.own = true;
                }
            }
            Err(error) => self.problems.push(format!("{OWN}: {error}")),
        }
    }

    fn processes(&mut self) {
        let entries = match fs::read_dir("/proc") {
            Ok(entries) => entries,
            Err(error) => return self.problems.push(format!("/proc: {error}: processes are not looked at")),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let path = entry.path().join("ns/net");
            match fs::read_link(&path).map(|link| inum_of_link(&link)) {
                Ok(Some(inum)) => {
                    if let Some(namespace) = self.add(inum, || path) {
                        namespace.pid.get_or_insert(pid);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.hidden += 1,
                // A process that has ended meanwhile.
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// Namespaces as `ip netns add` keeps them: a file for each, by its name.
    fn named(&mut self, directory: &Path) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            // The empty file that is left when the mount is not there is no namespace.
            let Some(inum) = namespace_file(&path) else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(namespace) = self.add(inum, || path) {
                namespace.name.get_or_insert(name);
            }
        }
    }

    /// Namespace files that are mounted elsewhere: container runtimes keep them so.
    fn bind_mounts(&mut self, mountinfo: &str) {
        for (inum, point) in mounted(mountinfo) {
            self.add(inum, || point);
        }
    }

    fn finish(self) -> Namespaces {
        let Self { only, found, hidden, omitted, mut problems } = self;
        // The one that was asked for is there: others do not matter.
        let is_enough = only.is_some() && !found.is_empty();
        let mut all: Vec<_> = found.into_values().collect();
        all.sort_by_key(|namespace| (!namespace.own, namespace.inum));
        if hidden > 0 && !is_enough {
            let whose = if hidden == 1 { "a process".to_owned() } else { format!("{hidden} processes") };
            problems.push(format!(
                "the network namespace of {whose} may not be read: one that only those live in is missing"
            ));
        }
        if omitted {
            problems.push(format!("more than {MAX_NAMESPACES} network namespaces: the rest is not visited"));
        }
        Namespaces { all, problems }
    }
}

/// The inode number of a namespace file; `None` of another file. All namespace files are of one file system.
fn namespace_file(path: &Path) -> Option<u32> {
    let (found, own) = (fs::metadata(path).ok()?, fs::metadata(OWN).ok()?);
    if found.dev() == own.dev() { inum(&found).ok() } else { None }
}

/// `net:[4026531840]`
fn inum_of_link(link: &Path) -> Option<u32> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Mounted files of network namespaces, and where (proc_pid_mountinfo(5)): their root is what `readlink` would show.
pub(super) fn mounted(mountinfo: &str) -> impl Iterator<Item = (u32, PathBuf)> + '_ {
    mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let inum = source.starts_with("nsfs ").then(|| inum_of_link(Path::new(root)))??;
        Some((inum, PathBuf::from(point.replace("\\040", " "))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_outlives_the_processes_that_showed_the_way() {
        let inum = inum(&fs::metadata(OWN).unwrap()).unwrap();
        let doors = VecDeque::from([PathBuf::from("/proc/0/ns/net"), PathBuf::from("/proc/self/ns/mnt")]);
        let namespace = Namespace { inum, name: None, own: false, pid: None, doors };
        let file = open(&namespace).unwrap();
        assert_eq!(super::inum(&file.metadata().unwrap()).unwrap(), inum);
        // The inode numbers of namespaces begin above it.
        let gone = Namespace { inum: 1, ..namespace };
        assert!(is_gone(&open(&gone).unwrap_err()));
    }

    #[test]
    fn the_own_namespace_needs_no_privilege_and_comes_first() {
        let found = find(None);
        let own = fs::metadata(OWN).unwrap().ino();
        let first = found.all.first().unwrap();
        assert!(first.own && u64::from(first.inum) == own && first.pid.is_some());
        let mut visited = Vec::new();
        assert_eq!(for_each(&found.all[..1], |namespace| visited.push(namespace.inum)).unwrap(), [""; 0]);
        assert_eq!(visited, [first.inum]);
    }

    #[test]
    fn a_namespace_that_is_not_there_is_not_found() {
        assert_eq!(find(Some(1)).all, []);
    }

    #[test]
    fn mounted_namespaces_are_read() {
        let mountinfo = "\
30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 23 0:4 net:[4026532289] /run/docker/netns/a\\040b rw shared:9 - nsfs nsfs rw
41 23 0:4 mnt:[4026532290] /run/x rw - nsfs nsfs rw
42 23 0:4 net:[4026532291] /run/y rw - tmpfs nsfs rw
";
        let found: Vec<_> = mounted(mountinfo).collect();
        assert_eq!(found, [(4_026_532_289, PathBuf::from("/run/docker/netns/a b"))]);
        assert_eq!(inum_of_link(Path::new("net:[x]")), None);
    }

    #[test]
    fn who_is_gone_is_no_problem_and_who_is_not_permitted_is_counted() {
        let namespace = |inum| Namespace { inum, name: None, own: false, pid: None, doors: VecDeque::new() };
        let gone = for_each(&[namespace(1)], |_| panic!("cannot be entered")).unwrap();
        assert_eq!(gone, [""; 0]);
        let mut refused = Refused::default();
        refused.add(&namespace(1), &Errno::PERM.into());
        refused.add(&namespace(2), &Errno::PERM.into());
        refused.add(&namespace(3), &Errno::NOMEM.into());
        let problems = refused.problems();
        assert!(
            problems[0].starts_with("2 other network namespaces cannot be entered without CAP_SYS_ADMIN")
        );
        assert!(problems[1].starts_with("network namespace 3 cannot be entered: "), "{problems:?}");
    }
}

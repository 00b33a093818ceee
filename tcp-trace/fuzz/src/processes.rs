//! What the processes of the host decide about: their names, cgroups, executables, stacks; and what is written of them.

use std::{cell::OnceCell, fs::File, os::fd::AsRawFd as _, os::unix::fs::FileExt as _, sync::Once};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use tcp_trace::{bpf, stacks as unwinding, survey::fuzzing as survey};
use tcp_trace_common::stack::{COPY, FRAMES, StackDump};
use tcp_trace_core::{
    container::{self, LogName, identify, seen_from, telling_path, v2_path},
    process::printable,
    survey::Runtime,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::choice;

/// Paths of cgroups, `/proc/PID/cgroup`, and the names of the kubelet's links.
pub fn cgroups(data: &[u8]) {
    let (kind, text) = choice(data);
    if let Some(found) = identify(&text) {
        assert!(text.starts_with(found.root) && !found.facts.id.is_empty());
        // One that calls itself so cannot be told from one that was removed: the kernel writes both alike.
        if !found.root.ends_with(" (deleted)") {
            let own = identify(found.root).expect("a container's own cgroup is in it");
            assert_eq!((&own.facts.id, own.facts.runtime), (&found.facts.id, found.facts.runtime));
        }
        let is_hash = !matches!(found.facts.runtime, Runtime::Lxc | Runtime::Systemd);
        assert!(!is_hash || container::is_id(&found.facts.id));
    }
    for path in [telling_path(&text), v2_path(&text)].into_iter().flatten() {
        assert!(path.starts_with('/') && !path.contains('\n') && text.contains(path));
    }
    let root = if kind & 1 == 0 { "/a/b" } else { "/" };
    let seen = seen_from(&text, root);
    assert_eq!(seen.lines().count(), text.lines().count(), "a line stays a line");
    if let Some(name) = LogName::parse(&text) {
        let LogName { pod, namespace, container, id } = name;
        assert_eq!(format!("{pod}_{namespace}_{container}-{id}.log"), text);
    }
    let shown = printable(&text);
    assert_eq!(printable(&shown), shown, "what is printable is not escaped again");
    assert!(!shown.chars().any(char::is_control));
}

/// What container runtimes have written to disk.
pub fn documents(data: &[u8]) {
    for facts in survey::documents(data) {
        let texts = [&facts.name, &facts.image, &facts.pod, &facts.namespace, &facts.pod_uid];
        for text in texts.into_iter().flatten() {
            assert!(!text.is_empty() && text.chars().count() <= 256, "{text:?}");
        }
    }
}

/// Files of `/proc` and tracefs.
pub fn proc(data: &[u8]) {
    let (kind, text) = choice(data);
    match kind % 6 {
        0 => {
            let survey::Process { start_ns, .. } = survey::process(&text);
            assert!(start_ns.is_none_or(|ns| ns % 10_000_000 == 0 || ns == u64::MAX));
        }
        1 => {
            let words = survey::words(data);
            assert!(words.len() <= 64 && words.iter().all(|word| !word.contains('\0')));
        }
        2 => _ = (survey::counters(&text), survey::pair(&text), survey::inode(data)),
        3 => {
            let (users, namespaces) = survey::tables(&text);
            assert!(users.max(namespaces).max(bpf::fuzzing::cgroup_mounts(&text)) <= text.lines().count());
        }
        4 => _ = bpf::fuzzing::is_known_format(&text),
        _ => {
            for address in [0, 0x1000, u64::MAX] {
                let mapping = unwinding::fuzzing::mapping(&text, address);
                assert!(mapping.is_none_or(|(start, end)| start <= address && address < end));
            }
        }
    }
}

/// A file of the program's own that has these bytes, and nothing else.
fn with_file<T>(data: &[u8], work: impl FnOnce(&File) -> T) -> T {
    thread_local!(static FILE: OnceCell<File> = const { OnceCell::new() });
    FILE.with(|file| {
        let file = file.get_or_init(|| memfd_create(c"fuzz", MemfdFlags::CLOEXEC).unwrap().into());
        ftruncate(file, 0).unwrap();
        file.write_all_at(data, 0).unwrap();
        work(file)
    })
}

/// An executable file, behind three words of addresses to look for.
pub fn executables(data: &[u8]) {
    let (addresses, file) = addresses(data);
    with_file(file, |file| {
        let rows = unwinding::fuzzing::executable(file.try_clone().unwrap(), &addresses);
        assert!(rows.is_err() || rows.is_ok_and(|rows| rows <= addresses.len()));
    });
}

/// The same file, whose functions are named by its own symbols and debug information.
pub fn symbols(data: &[u8]) {
    // Panics of the reader are contained: libFuzzer is to see those only that are not.
    static CONTAINED: Once = Once::new();
    CONTAINED.call_once(|| drop(std::panic::take_hook()));
    let (addresses, file) = addresses(data);
    with_file(file, |file| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let found =
            addresses.iter().flat_map(|address| unwinding::fuzzing::functions(path.as_ref(), *address));
        for frame in found {
            let texts = [&frame.function, &frame.file];
            assert!(texts.into_iter().flatten().all(|text| text.chars().count() <= 512));
        }
    });
}

/// Addresses small enough to be in the file, and the rest.
fn addresses(data: &[u8]) -> ([u64; 3], &[u8]) {
    let Some((words, file)) = data.split_first_chunk::<6>() else { return ([0; 3], data) };
    let [a, b, c, d, e, f] = words.map(u64::from);
    ([a << 8 | b, c << 8 | d, 0x40_0000 | e << 8 | f], file)
}

/// A dump of a stack.
pub fn stacks(data: &[u8]) {
    let mut dump = StackDump::new_zeroed();
    let bytes = dump.as_mut_bytes();
    let length = data.len().min(bytes.len());
    let (head, tail) = data.split_at(length.min(64));
    if let Some(place) = bytes.get_mut(..head.len()) {
        place.copy_from_slice(head);
    }
    // What there is of the rest, half of it as the kernel's chain and half as the stack: a short input has both.
    let (chain, stack) = tail.split_at((tail.len() / 2).min(8 * FRAMES) / 8 * 8);
    let stack = stack.get(..stack.len().min(COPY)).unwrap_or_default();
    if let Some(place) = bytes.get_mut(64..64 + chain.len()) {
        place.copy_from_slice(chain);
    }
    if let Some(place) = bytes.get_mut(64 + 8 * FRAMES..64 + 8 * FRAMES + stack.len()) {
        place.copy_from_slice(stack);
    }
    // Often the registers are right.
    if dump.how & 1 == 1 {
        dump.ip = dump.frames[0];
    }
    if dump.how & 2 == 2 {
        dump.copied = u32::try_from(stack.len()).unwrap_or(0);
    }
    assert!(unwinding::fuzzing::frames(&dump) <= 64);
}

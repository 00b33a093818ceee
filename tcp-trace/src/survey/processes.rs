//! Who a process is, as `/proc` shows it (proc(5)).

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, statat};
use tcp_trace_core::{container, process::ProcessId, survey::ProcessFacts};

use super::{
    cgroups, cmdline,
    containers::Containers,
    proc::{self, Folder},
    users::users,
};
use crate::host;

/// `/proc` counts in ticks of USER_HZ, which is 100 on every architecture that Rust knows.
const TICK_NS: u64 = 10_000_000;
/// How much of a command line is kept.
const CMDLINE_BYTES: usize = 4096;
const CMDLINE_WORDS: usize = 64;
/// More than the kernel ever writes into `stat`, `status` or `limits`.
const SMALL: usize = 16 * 1024;

/// A process; `None` if there is none with this pid, or it has ended meanwhile: half of what it was is not told.
///
/// All is read below one descriptor of `/proc/PID`, so that a pid that is taken again cannot mix two processes up.
/// What may not be read is `None`.
#[must_use]
pub fn facts(pid: u32, containers: &mut Containers) -> Option<ProcessFacts> {
    let folder = Folder::of_process(pid).ok()?;
    let start_ns = start(&folder)?;
    let (uid, threads_group) = parse_status(&folder.text(c"status", SMALL).ok()?)?;
    // `/proc/TID` exists for every thread, unlisted.
    if threads_group != pid {
        return None;
    }
    let cgroup = cgroups::of(&folder).ok();
    let cgroup = cgroup.as_deref().and_then(container::telling_path).map(str::to_owned);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let id = ProcessId::new(pid, Some(start_ns));
    let facts = ProcessFacts {
        id,
        comm: text(without_newline(folder.read(c"comm", SMALL).ok()?)),
        exe: folder.link(c"exe").ok().map(text),
        cmdline: cmdline::read(folder.0.as_fd(), id, CMDLINE_BYTES)
            .map(|bytes| words(&bytes))
            .unwrap_or_default(),
        uid,
        user: users().get(&uid).map(|user| user.name.clone()),
        nofile: folder.text(c"limits", SMALL).ok().and_then(|text| parse_nofile(&text)),
        fds: count_descriptors(&folder),
        netns: folder.inode(c"ns/net", b"net"),
        container: cgroup.as_deref().and_then(|path| containers.of_path(path)),
        cgroup,
    };
    // Still the same, alive: nothing of the above was missing because it had gone.
    (start(&folder)? == start_ns).then_some(facts)
}

/// What identifies the process with this pid for good; `None` if there is none, or it has ended.
#[must_use]
pub fn id(pid: u32) -> Option<ProcessId> {
    let folder = Folder::of_process(pid).ok()?;
    let start_ns = start(&folder)?;
    let (_, threads_group) = parse_status(&folder.text(c"status", SMALL).ok()?)?;
    (threads_group == pid).then(|| ProcessId::new(pid, Some(start_ns)))
}

/// The name of the process with this pid.
#[must_use]
pub fn comm(pid: u32) -> Option<String> {
    let bytes = Folder::of_process(pid).ok()?.read(c"comm", SMALL).ok()?;
    Some(String::from_utf8_lossy(&without_newline(bytes)).into_owned())
}

/// When the process with this pid started, as [`ProcessId::start_ns`] has it; `None` if there is none that runs.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    ProcessId::new(pid, Some(start(&Folder::of_process(pid).ok()?)?)).start_ns
}

/// When it started, of a process that is not a zombie: one that has ended has no descriptors any more, and most of
/// the rest cannot be read.
fn start(folder: &Folder) -> Option<u64> {
    parse_start(&folder.text(c"stat", SMALL).ok()?).map(host::boottime_of_kernel)
}

/// Field 22 of `/proc/PID/stat`, nanoseconds since boot. The name in the second field may hold anything, `)` too.
pub(super) fn parse_start(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let ticks: u64 = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then(|| ticks.saturating_mul(TICK_NS))
}

/// Effective user id and thread group of `/proc/PID/status`. The kernel escapes newlines in the name there.
pub(super) fn parse_status(status: &str) -> Option<(u32, u32)> {
    let field = |key: &str, column: usize| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().nth(column)?.parse().ok()
    };
    Some((field("Uid:", 1)?, field("Tgid:", 0)?))
}

/// The soft limit of open files of `/proc/PID/limits`.
pub(super) fn parse_nofile(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Since 6.2 the size of `/proc/PID/fd` is their number (`proc_fd_getattr`, `fs/proc/fd.c`), and whoever sees the
/// process may know it; before that it is 0.
fn count_descriptors(folder: &Folder) -> Option<u64> {
    let size = statat(&folder.0, c"fd", AtFlags::SYMLINK_NOFOLLOW).ok()?.st_size;
    if let Some(count) = u64::try_from(size).ok().filter(|count| *count > 0) {
        return Some(count);
    }
    let mut count = 0;
    let descriptors = Folder::open(Some(folder), c"fd").ok()?;
    let listed = descriptors.numbers(&mut proc::listing_buffer(), |_, _| {
        count += 1;
        true
    });
    listed.ok().map(|()| count)
}

fn without_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    // The kernel adds one; what stands before it is the name's own.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    bytes
}

/// The words of a command line, which the process may have overwritten with anything; what it left empty at the end
/// is not shown.
pub(super) fn words(cmdline: &[u8]) -> Vec<String> {
    let end = cmdline.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let used = cmdline.get(..end).unwrap_or_default();
    let mut words: Vec<String> = used
        .split(|byte| *byte == 0)
        .take(CMDLINE_WORDS)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    if used.is_empty() {
        words.clear();
    } else if cmdline.len() == CMDLINE_BYTES
        && let Some(last) = words.last_mut().filter(|last| last.ends_with('\u{fffd}'))
    {
        // A character that the cut went through.
        last.pop();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_is_described() {
        let facts = facts(std::process::id(), &mut Containers::new()).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert_eq!(parse_status(&status), Some((facts.uid, facts.id.pid)));
        assert_eq!(facts.exe, std::env::current_exe().unwrap().to_str().map(str::to_owned));
        assert_eq!(facts.cmdline, std::env::args().take(CMDLINE_WORDS).collect::<Vec<_>>());
        assert_eq!(format!("{}\n", facts.comm), std::fs::read_to_string("/proc/self/comm").unwrap());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        assert_eq!(facts.nofile, limit);
        assert!(facts.fds.unwrap() >= 3);
        assert!(facts.netns.is_some() && facts.cgroup.is_some());
    }

    #[test]
    fn threads_zombies_and_nobody_are_no_processes() {
        let mut containers = Containers::new();
        let thread = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get());
        assert_eq!(facts(thread.join().unwrap().unsigned_abs(), &mut containers), None);
        assert_eq!(facts(u32::MAX, &mut containers), None);
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let gone = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            facts(child.id(), &mut containers).is_none()
        });
        assert!(gone, "a zombie is not shown");
        child.wait().unwrap();
    }

    #[test]
    fn a_name_cannot_pretend_to_be_fields() {
        let rest = (5..=21).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("7 (x) R 1 (y) S 4 {rest} 1234 99\n");
        assert_eq!(parse_start(&stat), Some(12_340_000_000));
        assert_eq!(parse_start(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_start("7 (x"), None);
        assert_eq!(parse_start("7 (x) S 1"), None);
    }

    #[test]
    fn limits_and_status_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n";
        assert_eq!(parse_nofile(limits), Some(1024));
        assert_eq!(parse_nofile(&limits.replace("1024  ", "unlimited")), None);
        assert_eq!(parse_status("Name:\ta\\nUid:\t9\nTgid:\t7\nUid:\t1\t2\t3\t4\n"), Some((2, 7)));
        assert_eq!(parse_status("Tgid:\t7\n"), None);
    }

    #[test]
    fn hostile_command_lines_stay_data_and_short() {
        assert_eq!(words(b"sh\0-c\0\x1b[31m\xff\0\0\0"), ["sh", "-c", "\u{1b}[31m\u{fffd}"]);
        assert_eq!(words(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(words(b""), Vec::<String>::new());
        assert_eq!(words(&[0; 9]), Vec::<String>::new());
        assert_eq!(words("x\0".repeat(500).as_bytes()).len(), CMDLINE_WORDS);
        let mut cut = vec![b'x'; CMDLINE_BYTES];
        cut[CMDLINE_BYTES - 1] = 0xc3;
        assert_eq!(words(&cut), ["x".repeat(CMDLINE_BYTES - 1)]);
    }
}

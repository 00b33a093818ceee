//! Where an agent's documents go, against the real programs: `logrotate`, `systemd-journald`, `rsyslogd`, a full disk.

mod files;
mod journal;
mod syslog;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use tcp_trace_core::{
    log::{DegradationNotice, Document},
    session::Degradation,
    time::WallTime,
};

use crate::{Test, tracer::PATIENCE};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("logrotate_renames_the_file_and_no_line_is_lost", files::logrotate_renames_it),
    ("logrotate_copies_and_truncates_and_every_line_is_whole", files::logrotate_copies_and_truncates_it),
    ("a_full_disk_leaves_whole_lines_and_loses_none", files::a_full_disk),
    ("the_journal_shows_every_field", journal::fields),
    ("the_journal_takes_what_is_larger_than_a_datagram", journal::large),
    ("rsyslog_understands_every_message", syslog::messages),
    ("rsyslog_is_restarted_and_the_rest_arrives", syslog::restarted),
];

/// A folder for the length of a test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcp-trace-sinks-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that runs until the end of a test.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is there.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A document that is told from others by its time.
fn numbered(number: u64, reason: &str) -> Document {
    Document::Degradation(DegradationNotice {
        time: WallTime(number),
        degradation: Degradation { feature: "x".into(), reason: reason.into(), remedy: None },
        over: false,
    })
}

/// The numbers of a file's lines, each of which is a whole document.
fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{}", path.display());
    let number = |line: &str| {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        line["time"].as_str().unwrap()[20..29].parse().unwrap()
    };
    text.lines().map(number).collect()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

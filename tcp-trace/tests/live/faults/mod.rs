//! What goes wrong around the program: whatever it is, events are seen or counted as lost, it is said, it passes when its
//! cause does, and nothing is left behind. `docs/reliability.md` has a row for each of these tests.

mod disks;
mod endpoints;
mod hardship;
mod limits;
mod others;
mod outputs;
mod processes;
mod signals;

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

use crate::{Test, tracer::PATIENCE};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_stopped_reader_counts_its_loss_and_repairs_it", outputs::a_stopped_reader),
    ("a_reader_that_goes_away_ends_it", outputs::a_reader_that_goes_away),
    ("a_pipe_that_nobody_reads_does_not_keep_it", outputs::a_pipe_that_nobody_reads),
    ("a_pipe_that_is_read_again_loses_nothing_unsaid", outputs::a_pipe_that_is_read_again),
    ("a_pipe_that_nobody_opens_does_not_keep_it", outputs::a_pipe_that_nobody_opens),
    ("nobody_to_tell_is_no_reason_to_end", outputs::nobody_to_tell),
    ("a_full_disk_ends_a_recording_with_its_report", disks::a_full_disk_ends_a_recording),
    ("an_agent_goes_on_while_its_disk_is_full", disks::an_agent_goes_on),
    ("on_a_read_only_root_it_works", disks::a_read_only_root),
    ("endpoints_that_answer_nonsense_cost_their_own_sinks_only", endpoints::nonsense),
    ("at_every_moment_of_a_start_a_signal_leaves_nothing", signals::at_every_moment_of_a_start),
    ("at_every_moment_of_a_stop_a_signal_leaves_nothing", signals::at_every_moment_of_a_stop),
    ("two_at_once_are_both_exact", others::two_at_once),
    ("tcpstates_before_and_after_changes_nothing", others::tcpstates),
    ("bpftrace_on_the_same_hook_changes_nothing", others::bpftrace),
    ("statistics_of_programs_change_nothing", others::statistics),
    ("a_paranoid_kernel_lets_root_trace", others::paranoid),
    ("without_descriptors_it_says_so_and_recovers", limits::without_descriptors),
    ("with_few_descriptors_it_starts_or_says_why_not", limits::few_descriptors),
    ("without_threads_it_says_so_or_goes_on", limits::without_threads),
    ("out_of_memory_leaves_nothing", limits::out_of_memory),
    ("locked_memory_that_is_refused_is_named", limits::locked_memory),
    ("thousands_of_processes_that_end_at_once_are_counted", processes::thousands_that_end_at_once),
    ("a_process_that_does_not_answer_is_told_of", processes::one_that_does_not_answer),
    ("a_survey_that_hangs_does_not_keep_reports", processes::a_survey_that_hangs),
    ("a_container_that_goes_keeps_its_name", processes::a_container_that_goes),
    ("a_cgroup_that_goes_is_no_trouble", processes::a_cgroup_that_goes),
    ("namespaces_that_go_during_a_survey_are_no_trouble", processes::namespaces_that_go),
    ("without_proc_it_says_what_is_not_known", hardship::without_proc),
    ("without_cgroup2_it_says_what_is_not_known", hardship::without_cgroup2),
    ("without_btf_it_says_what_is_not_known", hardship::without_btf),
    ("what_hidepid_hides_is_said", hardship::hidepid),
    ("in_a_time_namespace_it_is_as_exact", hardship::time_namespace),
    ("a_clock_that_is_set_is_told_of", hardship::a_clock_that_is_set),
];

/// A folder that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcp-trace-faults-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A file system of its own in it, of a few pages.
    fn disk(&self, size: &std::ffi::CStr) -> Disk {
        let path = self.path("disk");
        fs::create_dir(&path).unwrap();
        mount("tcp-trace-test", &path, "tmpfs", MountFlags::empty(), size).unwrap();
        Disk(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file system that is there as long as its test; to be dropped before its folder.
struct Disk(String);

impl Disk {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.0.as_str(), UnmountFlags::DETACH);
    }
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a report says that it does without, with its reasons.
fn degradations(report: &Value) -> Vec<(String, String)> {
    let of = |row: &Value| {
        let [feature, reason] = ["feature", "reason"].map(|key| row[key].as_str().unwrap().to_owned());
        (feature, reason)
    };
    report["source"]["degradations"].as_array().unwrap().iter().map(of).collect()
}

fn reports(stdout: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often all these reports together count a transition.
fn total(reports: &[Value], old: &str, new: &str) -> u64 {
    reports.iter().map(|report| crate::tracer::count(report, old, new)).sum()
}

//! Disks that are full, or not to be written to.

use std::{fs, io};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount},
    thread::{UnshareFlags, unshare_unsafe},
};
use serde_json::Value;
use tcp_trace_testkit::{
    NetNs,
    scale::scaled,
    workload::{ChurnPlan, churn},
};

use super::{Folder, until};
use crate::tracer::{Tracer, assert_sums, count, text};

/// The recording ends where the disk does; the run ends in order then, with what it has seen.
pub(super) fn a_full_disk_ends_a_recording() {
    let folder = Folder::new();
    let disk = folder.disk(c"size=64k");
    let recording = disk.path("f.tctrace");
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    for command in [&["report", "--json", "--record"][..], &["record"]] {
        let tracer = Tracer::start(&[command, &[&recording, "--netns", &netns]].concat());
        churn(&ns, scaled(2_000, 1_000), &ChurnPlan::default()).unwrap();
        let output = tracer.wait();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("writing the recording") && said.contains("No space left on device"), "{said}");
        if command[0] == "report" {
            let live: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(live["loss"]["balanced"], true, "{}", live["loss"]);
            assert_sums(&live["loss"]);
            assert!(count(&live, "CLOSE", "SYN_SENT") > 0, "{}", live["transitions"]);
        }
        // What was written before is intact, and what follows it is said not to be.
        let replayed = Tracer::run(&["report", "--json", "--from", &recording]);
        let report: Value = serde_json::from_slice(&replayed.stdout).unwrap();
        assert!(report["schema"].is_string(), "{report}");
        assert_eq!(replayed.status.code(), Some(1), "{}", text(&replayed.stderr));
        assert!(text(&replayed.stderr).contains("f.tctrace"), "{}", text(&replayed.stderr));
        fs::remove_file(&recording).unwrap();
    }
}

fn lines(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One sink on a disk that is full, one on another: the other has everything, is told of it, and told when it is over.
pub(super) fn an_agent_goes_on() {
    let connections = scaled(1_000, 300);
    let folder = Folder::new();
    let disk = folder.disk(c"size=4m");
    let ballast = disk.path("ballast");
    fs::write(&ballast, vec![0; (4 << 20) - (64 << 10)]).unwrap();
    let ns = NetNs::new().unwrap();
    let (config, good, full) = (folder.path("agent.toml"), folder.path("good"), disk.path("full"));
    let sink = |name: &str, path: &str, queue: u32| {
        format!(
            "[sinks.{name}]\nlevel = \"all\"\nrate = 1000000\nqueue = {queue}\n[sinks.{name}.file]\npath = \"{path}\"\n"
        )
    };
    let head = format!("[report]\ninterval = \"1s\"\n[source]\nnetns = \"{}\"\n", ns.inum());
    fs::write(&config, head + &sink("good", &good, 1_000_000) + &sink("full", &full, 500)).unwrap();
    let tracer = Tracer::start(&["agent", "--config", &config]);
    churn(&ns, connections, &ChurnPlan::default()).unwrap();
    let notice = |over: bool| {
        until("the notice of the full disk", || {
            lines(&good).into_iter().find(|line| {
                line["event"] == "tcp.degradation"
                    && line["degradation"]["feature"] == "sink full"
                    && line["over"] == over
            })
        })
    };
    let told = notice(false);
    assert!(told["degradation"]["reason"].as_str().unwrap().contains("No space left on device"), "{told}");
    fs::remove_file(&ballast).unwrap();
    notice(true);
    let output = tracer.stop();
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("0 lost (balanced)"), "{said}");
    assert!(said.contains("tcp-trace: sink full: ") && said.contains("documents were lost"), "{said}");
    let changes = |path: &str| {
        let opened = |line: &&Value| line["event"] == "tcp.state_change" && line["new_state"] == "SYN_SENT";
        lines(path).iter().filter(opened).count() as u64
    };
    assert_eq!(changes(&good), connections);
    assert!((1..connections).contains(&changes(&full)), "{} whole lines", changes(&full));
}

fn read_only_root() -> io::Result<()> {
    // SAFETY: between fork and exec; the mounts of nobody else are changed.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    Ok(mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, c"")?)
}

pub(super) fn a_read_only_root() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start_under(&["report", "--json", "--netns", &netns], read_only_root);
    churn(&ns, 100, &ChurnPlan::default()).unwrap();
    let report = tracer.report();
    crate::tracer::assert_whole(&report);
    assert_eq!(count(&report, "CLOSE", "SYN_SENT"), 100);
    let output = Tracer::run_under(&["record", "/tcp-trace-cannot-be-here"], read_only_root);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/tcp-trace-cannot-be-here: Read-only file system"), "{said}");
}

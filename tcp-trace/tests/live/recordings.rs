//! A recording says what the live run said, byte for byte.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

use tcp_trace_testkit::{
    NetNs,
    workload::{ChurnPlan, churn, churn_for},
};

use crate::{
    Test,
    tracer::{Tracer, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_replayed_report_is_the_live_one", a_replayed_report_is_the_live_one),
    ("replayed_findings_are_the_live_ones", replayed_findings_are_the_live_ones),
    ("replayed_intervals_are_the_live_ones", replayed_intervals_are_the_live_ones),
    ("a_replayed_stream_is_the_live_one", a_replayed_stream_is_the_live_one),
    ("record_writes_what_report_reads", record_writes_what_report_reads),
];

/// A file that is removed in the end.
struct Recording(PathBuf);

impl Recording {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tcp-trace-{}-{name}.tctrace", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Not there if the test failed before it was made.
        let _ = fs::remove_file(&self.0);
    }
}

#[track_caller]
fn assert_same(live: &[u8], replayed: &[u8]) {
    assert!(!live.is_empty());
    assert!(live == replayed, "live:\n{}\nreplayed:\n{}", text(live), text(replayed));
}

fn a_replayed_report_is_the_live_one() {
    let (ns, file) = (NetNs::new().unwrap(), Recording::new("report"));
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["report", "--json", "--netns", &netns, "--record", file.path()]);
    churn(&ns, 500, &ChurnPlan::default()).unwrap();
    let live = tracer.stop().stdout;
    assert_same(&live, &Tracer::run(&["report", "--json", "--from", file.path()]).stdout);
    let mode = fs::metadata(&file.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a recording tells who talks to whom");
}

/// A leak that grows from report to report, and a destination that refuses: slopes, ages and `since` come out the same.
fn replayed_findings_are_the_live_ones() {
    let (ns, file) = (NetNs::new().unwrap(), Recording::new("findings"));
    let netns = ns.inum().to_string();
    let config = Recording::new("findings-config");
    fs::write(&config.0, "[findings.close_wait_leak]\nmin_sockets = 2\n").unwrap();
    let arguments = ["report", "--json", "--interval", "500ms", "--close-wait-after", "100ms"];
    let arguments = [&arguments[..], &["--config", config.path(), "--fail-on", "warning"]].concat();
    let tracer = Tracer::start(&[&arguments[..], &["--netns", &netns, "--record", file.path()]].concat());
    let listener = ns.run(|| TcpListener::bind("127.0.0.1:7000")).unwrap();
    let mut forgotten = Vec::new();
    for _ in 0..5 {
        for _ in 0..3 {
            drop(ns.run(|| TcpStream::connect("127.0.0.1:7000")).unwrap());
            forgotten.push(listener.accept().unwrap());
            assert!(ns.run(|| TcpStream::connect("127.0.0.1:9")).is_err(), "nobody listens there");
        }
        sleep(Duration::from_millis(300));
    }
    let live = tracer.stop();
    let replayed = Tracer::run(&[&arguments[..], &["--from", file.path()]].concat());
    assert_eq!((live.status.code(), replayed.status.code()), (Some(5), Some(5)));
    assert_same(&live.stdout, &replayed.stdout);
    let reports: Vec<Value> =
        text(&live.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = |id: &str| {
        let findings = reports.iter().rev().flat_map(|report| report["findings"].as_array().unwrap());
        findings.into_iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id}")).clone()
    };
    let leak = last("close_wait_leak");
    assert_eq!(leak["subject"]["process"]["pid"], std::process::id());
    let number =
        |name: &str| leak["evidence"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert!(number("growth over")["value"].as_u64().unwrap() > 1, "{leak:#}");
    assert!(leak["since"].is_string(), "{leak:#}");
    assert_eq!(last("connect_failures")["subject"]["peer"]["port"], 9);
}

fn replayed_intervals_are_the_live_ones() {
    let (ns, file) = (NetNs::new().unwrap(), Recording::new("intervals"));
    let netns = ns.inum().to_string();
    let arguments = ["report", "--interval", "400ms"];
    let tracer = Tracer::start(&[&arguments[..], &["--netns", &netns, "--record", file.path()]].concat());
    churn_for(&ns, Duration::from_secs(1), &ChurnPlan::default()).unwrap();
    let live = tracer.stop().stdout;
    let reports = text(&live).matches("transitions seen").count();
    assert!(reports >= 3, "{reports} reports:\n{}", text(&live));
    assert!(!text(&live).contains("NOT BALANCED"), "{}", text(&live));
    let replayed = Tracer::run(&[&arguments[..], &["--from", file.path()]].concat());
    assert_same(&live, &replayed.stdout);
}

fn a_replayed_stream_is_the_live_one() {
    let (ns, file) = (NetNs::new().unwrap(), Recording::new("stream"));
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["stream", "-Ttw", "--netns", &netns, "--record", file.path()]);
    churn(&ns, 100, &ChurnPlan::default()).unwrap();
    let live = tracer.stop().stdout;
    assert_same(&live, &Tracer::run(&["stream", "-Ttw", "--from", file.path()]).stdout);
}

fn record_writes_what_report_reads() {
    let (ns, file) = (NetNs::new().unwrap(), Recording::new("record"));
    let tracer = Tracer::start(&["record", file.path(), "--netns", &ns.inum().to_string()]);
    churn(&ns, 300, &ChurnPlan::default()).unwrap();
    let output = tracer.stop();
    assert!(output.status.success() && output.stdout.is_empty());
    let report = Tracer::run(&["report", "--json", "--from", file.path()]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    crate::tracer::assert_whole(&report);
    assert_eq!(crate::tracer::count(&report, "CLOSE", "SYN_SENT"), 300);
}

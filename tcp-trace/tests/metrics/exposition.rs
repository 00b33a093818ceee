//! What is exposed, as a committed file, and what promtool says of it.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use tcp_trace::sink::prometheus::{Format, expose};

use crate::{Entry, golden, root, source};

pub(crate) const TESTS: &[Entry] = &[
    ("the_committed_recording_exposes_the_committed_file", None, the_committed_recording),
    ("promtool_has_nothing_to_say", Some("promtool"), promtool_has_nothing_to_say),
];

fn the_committed_recording() {
    golden(&root().join("tcp-trace/tests/data/metrics.prom"), &expose(&source::snapshot(), Format::Text));
    let open = expose(&source::snapshot(), Format::OpenMetrics);
    golden(&root().join("tcp-trace/tests/data/metrics.openmetrics"), &open);
}

/// It checks the format and the names; any remark is one too many.
fn promtool_has_nothing_to_say() {
    for (what, snapshot) in
        [("idle", source::idle()), ("incident", source::snapshot()), ("full", source::full())]
    {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics", "--extended"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(expose(&snapshot, Format::Text).as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{what}: {}\n{said}", output.status);
    }
}

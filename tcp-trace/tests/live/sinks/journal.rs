//! The journal: a `systemd-journald` of the test's own, in a mount namespace of its own.

use std::{path::PathBuf, process::Command};

use serde_json::Value;
use tcp_trace::sink::journald::{Config, Journald};
use tcp_trace_core::log::{Document, Origin};

use super::{Daemon, eventually, numbered, run};
use crate::{
    documents::{documents, origin},
    requirements::{Feature, requires},
};

/// What it needs of its own, so that the host's journal, if there is one, is left alone.
const ALONE: &str = "mount --make-rprivate / && mount -t tmpfs tmpfs /run/systemd && mount -t tmpfs tmpfs /run/log \
                     && mkdir /run/systemd/journal && exec /lib/systemd/systemd-journald";

struct Journal(Daemon);

impl Journal {
    fn start() -> Self {
        let journal = Self(Daemon::start(Command::new("unshare").args(["--mount", "sh", "-c", ALONE])));
        eventually("the journal listens", || journal.socket().exists().then_some(()));
        journal
    }

    fn socket(&self) -> PathBuf {
        self.inside("run/systemd/journal/socket")
    }

    fn inside(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root/{path}", self.0.0.id()).into()
    }

    fn sink(&self, origin: &Origin) -> Journald {
        let config: Config = toml::from_str(&format!("socket = '{}'", self.socket().display())).unwrap();
        Journald::new(&config, origin).unwrap()
    }

    /// The entries of ours, once there are so many.
    fn entries(&self, count: usize) -> Vec<Value> {
        let folder = self.inside("run/log/journal").display().to_string();
        eventually("every entry is in the journal", || {
            let arguments =
                ["--directory", &folder, "--all", "--output", "json", "SYSLOG_IDENTIFIER=tcp-trace"];
            let text = run("journalctl", &arguments);
            let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (entries.len() >= count).then_some(entries)
        })
    }
}

pub(super) fn fields() {
    requires(&[Feature::Journal]);
    let journal = Journal::start();
    let documents = documents();
    journal.sink(&origin()).send(documents).unwrap();
    let entries = journal.entries(documents.len());
    assert_eq!(entries.len(), documents.len());
    for (document, entry) in documents.iter().zip(&entries) {
        assert_eq!(entry["MESSAGE"], document.message());
        assert_eq!(entry["PRIORITY"], document.severity().syslog().to_string());
        assert_eq!(entry["TCP_TRACE_EVENT"], document.event());
        assert_eq!(entry["TCP_TRACE_CLUSTER"], "eu-west");
        assert_eq!(entry["TCP_TRACE_LABEL_DEPLOY"], "2026-01-14.3");
        assert_eq!(entry["MESSAGE_ID"].as_str().unwrap().len(), 32);
        for (name, value) in document.fields() {
            let found = &entry[format!("TCP_TRACE_{}", name.to_ascii_uppercase())];
            let has = |found: &Value| *found == value || is_bytes(found, value.as_bytes());
            // A field that occurs more than once is a list.
            assert!(has(found) || found.as_array().is_some_and(|all| all.iter().any(has)), "{name}: {entry}");
        }
        let line: Value = serde_json::from_str(&text(&entry["TCP_TRACE_JSON"])).unwrap();
        assert_eq!((&line["event"], &line["host"]), (&entry["TCP_TRACE_EVENT"], &Value::from("shop-1")));
    }
    tcpstates_fields(documents, &entries);
}

/// What a query that was written for bcc's `tcpstates -Y` asks for.
fn tcpstates_fields(documents: &[Document], entries: &[Value]) {
    let (change, entry) = documents
        .iter()
        .zip(entries)
        .find_map(|(document, entry)| match document {
            Document::Transition(change) if change.duration_ns.is_some() && change.owner.is_some() => {
                Some((change, entry))
            }
            _ => None,
        })
        .unwrap();
    let expected = [
        ("OBJECT_PID", change.owner.unwrap().process.pid.to_string()),
        ("OBJECT_IPV4_SOURCE_ADDRESS", change.local.address.to_string()),
        ("OBJECT_TCP_SOURCE_PORT", change.local.port.to_string()),
        ("OBJECT_IPV4_DESTINATION_ADDRESS", change.peer.address.to_string()),
        ("OBJECT_TCP_DESTINATION_PORT", change.peer.port.to_string()),
        ("OBJECT_TCP_OLD_STATE", change.old.to_string()),
        ("OBJECT_TCP_NEW_STATE", change.new.to_string()),
        ("OBJECT_TCP_SPAN_TIME", (change.duration_ns.unwrap() / 1_000).to_string()),
    ];
    for (name, value) in expected {
        assert_eq!(entry[name], value, "{name}: {entry}");
    }
    assert!(entries.iter().any(|entry| entry["OBJECT_IPV6_SOURCE_ADDRESS"] == "2001:db8::10"));
}

/// `journalctl` shows a field with characters that it would not print as its bytes.
fn is_bytes(found: &Value, bytes: &[u8]) -> bool {
    let number = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
    found.as_array().is_some_and(|found| found.iter().map(number).eq(bytes.iter().copied().map(Some)))
}

fn text(value: &Value) -> String {
    match value {
        Value::Array(bytes) => {
            let bytes = bytes.iter().map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()).collect();
            String::from_utf8(bytes).unwrap()
        }
        value => value.as_str().unwrap().to_owned(),
    }
}

pub(super) fn large() {
    requires(&[Feature::Journal]);
    let journal = Journal::start();
    let reason = "long ".repeat(100_000);
    let mut sink = journal.sink(&origin());
    sink.send(&[numbered(1, &reason), numbered(2, "short")]).unwrap();
    let entries = journal.entries(2);
    assert_eq!(text(&entries[0]["TCP_TRACE_REASON"]), reason);
    assert_eq!(entries[1]["TCP_TRACE_REASON"], "short");
    drop(journal);
    let failure = sink.send(&[numbered(3, "nobody listens")]).unwrap_err();
    assert!(failure.done == 0 && failure.why.contains("is systemd-journald running?"), "{failure:?}");
}

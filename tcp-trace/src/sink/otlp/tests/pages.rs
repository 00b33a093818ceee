//! `docs/otlp.md` has every name that is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use tcp_trace_core::{
    log::{Document, FindingStep},
    time::WallTime,
};

use super::{
    documents::{self, cart, degradation, leak},
    encoding::{texts, through},
};

fn page() -> String {
    fs::read_to_string(path()).unwrap()
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/otlp.md")
}

/// Parts of names that stand for many.
fn general(key: &str) -> String {
    for (prefix, rest) in [
        ("tcp.transitions.", "OLD.NEW"),
        ("tcp.time_in_state.", "STATE"),
        ("tcp_trace.finding.evidence.", "NAME"),
    ] {
        if key.starts_with(prefix) {
            return format!("{prefix}{rest}");
        }
    }
    match key {
        _ if key.starts_with("tcp.sockets.") => "tcp.sockets.STATE".to_owned(),
        _ if key.starts_with("tcp_trace.findings.") => "tcp_trace.findings.SEVERITY".to_owned(),
        _ => key.to_owned(),
    }
}

#[test]
fn every_name_that_is_sent_is_in_the_book() {
    let mut documents = documents::of_the_recording();
    documents.extend([leak(cart(), FindingStep::Changed), degradation(false)]);
    let page = page();
    let mut missing = BTreeSet::new();
    for (resource, record) in through(&documents) {
        let keys = resource.into_keys().chain(record.attributes.into_iter().map(|pair| pair.key));
        let keys = keys.chain([record.event_name]).map(|key| general(&key));
        missing.extend(keys.filter(|key| !page.contains(&format!("`{key}`"))));
    }
    // A label of the test's own.
    missing.remove("deploy");
    assert!(missing.is_empty(), "docs/otlp.md lacks {missing:#?}");
}

/// As the book shows it: resource, record, attributes.
fn shown(document: &Document) -> String {
    let (resource, record) = through(std::slice::from_ref(document)).pop().unwrap();
    let list = |name: &str, pairs: BTreeMap<String, String>| {
        let lines = pairs.iter().map(|(key, value)| format!("  {key}: {value}\n"));
        format!("{name}\n{}", lines.collect::<String>())
    };
    let body = texts(&[KeyValue { key: "body".to_owned(), value: record.body.clone(), key_strindex: 0 }]);
    let fields = BTreeMap::from([
        ("event_name".to_owned(), record.event_name.clone()),
        ("severity".to_owned(), format!("{} {}", record.severity_number, record.severity_text)),
        ("time".to_owned(), format!("{:.9}", WallTime(record.time_unix_nano).timestamp())),
        ("body".to_owned(), body["body"].clone()),
    ]);
    list("resource", resource) + &list("record", fields) + &list("attributes", texts(&record.attributes))
}

#[test]
fn the_examples_are_what_is_sent() {
    let closed = documents::of_the_recording()
        .into_iter()
        .find(|document| matches!(document, Document::Closed(closed) if closed.half_open_ns.is_some()));
    let mut page = page();
    for (name, document) in [("finding", leak(cart(), FindingStep::Opened)), ("closed", closed.unwrap())] {
        let mark = format!("<!-- example: {name} -->\n");
        let (before, after) = page.split_once(&mark).unwrap();
        let rest = match after.trim_start().strip_prefix("```text\n") {
            Some(block) => block.split_once("```\n").unwrap().1,
            None => after,
        };
        page = format!("{before}{mark}\n```text\n{}```\n{}", shown(&document), rest);
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(path(), &page).unwrap();
    }
    assert!(
        self::page() == page,
        "docs/otlp.md shows something else than what is sent; BLESS=1 cargo test -p tcp-trace --lib otlp makes it anew"
    );
}

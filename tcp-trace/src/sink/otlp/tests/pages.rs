//! `docs/otlp.md` has every name that is sent.

use std::{collections::BTreeSet, fs, path::Path};

use tcp_trace_core::log::FindingStep;

use super::{
    documents::{self, cart, degradation, leak},
    encoding::through,
};

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/otlp.md")).unwrap()
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

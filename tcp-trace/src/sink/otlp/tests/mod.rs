mod delivery;
mod documents;
mod encoding;
mod environment;
mod pages;
mod server;

use std::collections::BTreeMap;

use tcp_trace_core::log::Origin;

use super::{Config, Exporter};

/// No variable is set.
fn bare(_name: &str) -> Option<String> {
    None
}

fn origin() -> Origin {
    Origin {
        host: "node-7".to_owned(),
        cluster: Some("prod".to_owned()),
        labels: BTreeMap::from([
            ("deploy".to_owned(), "2026-11-22.3".to_owned()),
            ("environment".to_owned(), "production".to_owned()),
        ]),
    }
}

fn exporter(config: &Config) -> Exporter {
    Exporter::with_environment(config, &origin(), &bare).unwrap()
}

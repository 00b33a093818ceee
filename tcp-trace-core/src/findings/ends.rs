//! Ends of connections, in evidence.

use crate::{endpoint::Endpoint, report::PeerCount};

/// The most frequent one, and how many have it: `127.0.0.1:8080 (37 of 41)`; `None` if there are none.
pub(super) fn common(all: &[PeerCount], count: u64) -> Option<String> {
    let most = all.first()?;
    let others = match all.len() {
        1 => String::new(),
        ends => format!(", {ends} in all"),
    };
    Some(format!("{} ({} of {count}{others})", end(most), most.count))
}

/// `127.0.0.1:8080`, or an address alone.
pub(super) fn end(end: &PeerCount) -> String {
    match end.port {
        Some(port) => Endpoint { address: end.address, port }.to_string(),
        None => end.address.to_string(),
    }
}

//! What became of a socket, for people: one line.

use std::fmt::Write as _;

use tcp_trace_core::{kill::Entry, process::printable};

use super::units::duration;

pub(super) fn line(entry: &Entry) -> String {
    let Entry { time, action, reason, process, local, peer, fds, unread_bytes, .. } = entry;
    let bound = if entry.age_exact == Some(false) { "≥ " } else { "" };
    let mut text = format!(
        "{:.3} {} {local} ← {peer} cookie {} netns {} of {} ({})",
        time.timestamp(),
        action.phrase(),
        entry.cookie,
        entry.netns,
        printable(&process.comm),
        process.pid,
    );
    let fds: Vec<_> = fds.iter().map(u32::to_string).collect();
    // Writing to a string does not fail.
    let _ =
        write!(text, " fd {}, age {bound}{}, {unread_bytes} unread", fds.join(","), duration(entry.age_ns));
    if let Some(kind) = entry.kind {
        text += &format!(", {}", kind.phrase());
    }
    if let Some(reason) = reason {
        text += &format!(": {}", printable(reason));
    }
    text
}

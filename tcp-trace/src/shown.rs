//! How a path is shown to people.

use std::path::Path;

use tcp_trace_core::process::printable;

/// A path with everything escaped that could disturb a terminal, or be taken for a line of its own: the name of a file is whatever
/// somebody has called it.
pub(crate) fn shown(path: impl AsRef<Path>) -> String {
    printable(&path.as_ref().to_string_lossy()).into_owned()
}

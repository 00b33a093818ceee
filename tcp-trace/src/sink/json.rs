//! JSON: one document a line, which disturbs no terminal. The schemas are in `docs/schema/`, and tests hold real output against them.

use std::io::{self, Write};

/// Writes a value and a newline.
pub(super) fn line(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    tcp_trace_core::json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

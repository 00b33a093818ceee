//! Distributions of durations as bars.

use maud::Markup;
use tcp_trace_core::report::Report;

/// Of completed handshakes.
pub(super) fn half_open(_report: &Report) -> Markup {
    Markup::default()
}

/// Of connects that were answered.
pub(super) fn connects(_report: &Report) -> Markup {
    Markup::default()
}

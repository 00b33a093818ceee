//! Short words for the tests.

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// `measured` ns lies within 1 ms of `wanted`.
#[track_caller]
pub(crate) fn assert_about(measured_ns: u64, wanted: Duration) {
    let off = Duration::from_nanos(measured_ns).abs_diff(wanted);
    assert!(off < ms(1), "{measured_ns} ns instead of {wanted:?}");
}

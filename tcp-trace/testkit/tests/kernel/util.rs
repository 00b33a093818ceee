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

/// `measured` is `wanted`, never less, and not much more: a busy hypervisor may take the virtual CPU away for a
/// while.
#[track_caller]
pub(crate) fn assert_about(measured_ns: u64, wanted: Duration) {
    let measured = Duration::from_nanos(measured_ns);
    assert!(measured + ms(1) > wanted && measured < wanted + ms(100), "{measured:?} instead of {wanted:?}");
}

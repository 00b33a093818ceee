//! Short words for the tests.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Test;

pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A busy hypervisor may take the virtual CPU away for some ms; hardly in three rounds of a test. The assertions
/// of each round are the test's own.
pub(crate) fn rounds(round: Test) -> io::Result<()> {
    for _ in 0..2 {
        if let Ok(result) = std::panic::catch_unwind(round) {
            return result;
        }
        eprintln!("once more");
    }
    round()
}

/// `measured` ns lies within 1 ms of `wanted`.
#[track_caller]
pub(crate) fn assert_about(measured_ns: u64, wanted: Duration) {
    let off = Duration::from_nanos(measured_ns).abs_diff(wanted);
    assert!(off < ms(1), "{measured_ns} ns instead of {wanted:?}");
}

//! How much load this machine can take: an emulated one is twenty times slower than a real one.

/// Names the factor in the environment.
pub const SCALE_VARIABLE: &str = "TCP_TRACE_TEST_SCALE";

/// `count`, times `TCP_TRACE_TEST_SCALE` (1.0 without it, never more), but at least `least`.
///
/// # Panics
/// When the variable is no number above 0: a test would otherwise pass for another load than was meant.
#[must_use]
pub fn scaled(count: u64, least: u64) -> u64 {
    by(count, least, factor())
}

/// Whether this machine takes smaller loads, because it is slow: moments that lie close together elsewhere may be far
/// apart here.
///
/// # Panics
/// As [`scaled`].
#[must_use]
pub fn is_slow() -> bool {
    factor() < 1.0
}

fn factor() -> f64 {
    let Ok(text) = std::env::var(SCALE_VARIABLE) else { return 1.0 };
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 => factor.min(1.0),
        _ => panic!("{SCALE_VARIABLE}={text}: give a number above 0, and at most 1"),
    }
}

fn by(count: u64, least: u64, factor: f64) -> u64 {
    ((count as f64 * factor) as u64).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_shrink_down_to_a_floor() {
        assert_eq!(by(2_000, 100, 1.0), 2_000);
        assert_eq!(by(2_000, 100, 0.1), 200);
        assert_eq!(by(2_000, 100, 0.001), 100);
    }
}

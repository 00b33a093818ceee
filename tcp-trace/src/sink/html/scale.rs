//! Axes: where a value stands, and which values are worth a line.

use crate::sink::units::count;

/// A coordinate as it is written: to the tenth, which is less than anybody sees.
pub(super) fn at(coordinate: f64) -> f64 {
    let rounded = (coordinate * 10.0).round() / 10.0;
    // Neither −0 nor what is no number.
    if rounded.is_finite() && rounded != 0.0 { rounded } else { 0.0 }
}

/// A round number at or above `value`, and the step between lines below it. In whole numbers, which are the same on any
/// machine; sockets have no halves.
pub(super) fn nice(value: u64) -> (u64, u64) {
    let mut magnitude = 1_u64;
    loop {
        for factor in [10, 20, 25, 50] {
            // Of the smallest magnitude those that are whole.
            let step = magnitude.saturating_mul(factor) / 10;
            if step > 0 && step * 10 == magnitude.saturating_mul(factor) && step.saturating_mul(4) >= value {
                return (value.div_ceil(step).max(1).saturating_mul(step).max(4.min(step * 4)), step);
            }
        }
        let Some(next) = magnitude.checked_mul(10) else { return (value, value.max(1)) };
        magnitude = next;
    }
}

/// `1,200`, `45k`, `1.2M`: what fits beside an axis.
pub(super) fn short(value: u64) -> String {
    match value {
        1_000_000_000.. => format!("{}G", tenths(value / 100_000_000)),
        1_000_000.. => format!("{}M", tenths(value / 100_000)),
        10_000.. => format!("{}k", tenths(value / 100)),
        value => count(value),
    }
}

fn tenths(value: u64) -> String {
    if value.is_multiple_of(10) { count(value / 10) } else { format!("{}.{}", count(value / 10), value % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_above_what_they_show() {
        let ends = [0, 3, 4, 5, 7, 48, 99, 101, 12_345].map(nice);
        assert_eq!(
            ends,
            [(4, 1), (4, 1), (4, 1), (6, 2), (8, 2), (60, 20), (100, 25), (150, 50), (15_000, 5_000)]
        );
        assert_eq!(nice(u64::MAX).0, u64::MAX);
    }

    #[test]
    fn numbers_beside_an_axis_are_short() {
        assert_eq!([0, 1_200, 45_500, 1_250_000].map(short), ["0", "1,200", "45.5k", "1.2M"]);
    }

    #[test]
    fn a_coordinate_is_a_number() {
        assert_eq!([-0.01, 1.26, f64::NAN].map(at).map(|at| at.to_string()), ["0", "1.3", "0"]);
    }
}

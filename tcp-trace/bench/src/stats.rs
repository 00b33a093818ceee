//! What a handful of measurements come to.

use serde::Serialize;

/// Measurements of one thing, summed up. The noise is shown, not hidden in a mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// How many there were.
    pub(crate) rounds: usize,
}

impl Summary {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { median: median_of_sorted(&values), min, max, rounds: values.len() })
    }
}

fn median_of_sorted(values: &[f64]) -> f64 {
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    } else {
        at(half)
    }
}

/// The slope of the line through these points that is nearest to them (least squares); `None` if there is no such line.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    (below > 0.0).then(|| above / below)
}

/// In which order the candidates have their turns in a round: each round begins with another one, and every second one
/// goes backwards, so that none always follows the same neighbour.
pub(crate) fn order(candidates: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates).collect();
    if candidates > 0 {
        order.rotate_left(round % candidates);
    }
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(Summary::of([]), None);
        let summary = |median, min, max, rounds| Some(Summary { median, min, max, rounds });
        assert_eq!(Summary::of([7.0]), summary(7.0, 7.0, 7.0, 1));
        assert_eq!(Summary::of([9.0, 1.0, 2.0]), summary(2.0, 1.0, 9.0, 3));
        assert_eq!(Summary::of([9.0, 1.0, 2.0, 4.0]), summary(3.0, 1.0, 9.0, 4));
        assert_eq!(
            Summary::of([f64::NAN, 3.0]),
            summary(3.0, 3.0, 3.0, 1),
            "what is not a number is left out"
        );
    }

    #[test]
    fn a_slope_needs_two_places() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 5.0), (1.0, 6.0)]), None);
        let found = slope(&[(0.0, 1.0), (10.0, 3.0), (20.0, 5.0)]).unwrap();
        assert!((found - 0.2).abs() < 1e-9, "{found}");
    }

    #[test]
    fn every_candidate_has_one_turn_a_round() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [0, 2, 1]);
        assert_eq!(order(3, 2), [2, 0, 1]);
        assert_eq!(order(0, 5), [0; 0]);
    }
}

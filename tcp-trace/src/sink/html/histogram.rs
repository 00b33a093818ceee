//! Distributions of durations as bars.

use maud::{Markup, html};
use tcp_trace_core::report::{Distribution, Report};

use super::scale::at;
use crate::sink::units::{count, duration};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 200.0;
/// Where the bars are: left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (10.0, 24.0, 890.0, 160.0);

/// Of completed handshakes.
pub(super) fn half_open(report: &Report) -> Markup {
    bars(
        "How long completed handshakes were half-open; beyond 1 s each bar is one more SYN-ACK sent again",
        &report.distributions.half_open,
    )
}

/// Of connects that were answered.
pub(super) fn connects(report: &Report) -> Markup {
    bars(
        "How long connects took until they were answered; beyond 1 s each bar is one more SYN sent again",
        &report.distributions.connect,
    )
}

fn bars(name: &str, distribution: &Distribution) -> Markup {
    let Distribution { bounds_ns, counts, coarse, sum_ns: _ } = distribution;
    let most = counts.iter().max().copied().unwrap_or(0);
    if most == 0 {
        return Markup::default();
    }
    let step = (FRAME.2 - FRAME.0) / counts.len() as f64;
    html! {
        figure.chart.histogram {
            figcaption { (name) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (count(distribution.count())) " durations" } {
                path.grid d={ "M" (FRAME.0) "," (FRAME.3) " H" (FRAME.2) } {}
                @for (place, number) in counts.iter().enumerate() {
                    @let height = (*number as f64 / most as f64 * (FRAME.3 - FRAME.1)).max(if *number > 0 { 1.5 } else { 0.0 });
                    @let middle = FRAME.0 + (place as f64 + 0.5) * step;
                    g {
                        title { (range(bounds_ns, place)) ": " (count(*number)) }
                        rect.c0 x=(at(middle - step * 0.42)) y=(at(FRAME.3 - height)) width=(at(step * 0.84)) height=(at(height)) {}
                        @if *number > 0 { text.number.middle x=(at(middle)) y=(at(FRAME.3 - height - 6.0)) { (count(*number)) } }
                        text.tick.middle x=(at(middle)) y=(FRAME.3 + 17.0) { (bound(bounds_ns, place)) }
                    }
                }
            }
            @if *coarse > 0 {
                p.note { "Of these, " (count(*coarse)) " were aggregated in the kernel and are only known to within a power of two." }
            }
        }
    }
}

/// What is written under a bar.
fn bound(bounds: &[u64], place: usize) -> String {
    match (bounds.get(place), bounds.last()) {
        (Some(bound), _) => format!("≤ {}", whole(*bound)),
        (None, Some(last)) => format!("> {}", whole(*last)),
        (None, None) => String::new(),
    }
}

/// What falls into a bar.
fn range(bounds: &[u64], place: usize) -> String {
    match place.checked_sub(1).and_then(|before| bounds.get(before)) {
        Some(before) if place < bounds.len() => format!("over {}, {}", whole(*before), bound(bounds, place)),
        _ => bound(bounds, place),
    }
}

/// A bound is a round number.
fn whole(nanoseconds: u64) -> String {
    duration(Some(nanoseconds)).replace(".00 ", " ").replace(".0 ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [100_000, 1_000_000_000, 63_000_000_000];

    #[test]
    fn bars_say_what_falls_into_them() {
        let texts = [0, 1, 2, 3].map(|place| range(&BOUNDS, place));
        assert_eq!(texts, ["≤ 100 µs", "over 100 µs, ≤ 1 s", "over 1 s, ≤ 1m03s", "> 1m03s"]);
    }

    #[test]
    fn one_of_many_is_still_seen() {
        let distribution =
            Distribution { bounds_ns: &BOUNDS, counts: vec![1_000_000, 1, 0, 0], ..Distribution::default() };
        let text = bars("A", &distribution).into_string();
        assert!(text.contains("1,000,000</text>") && text.contains("height=\"1.5\""), "{text}");
        assert!(bars("A", &Distribution::default()).into_string().is_empty());
    }
}

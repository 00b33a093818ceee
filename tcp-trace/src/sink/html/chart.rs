//! Populations over time: areas on top of each other, an axis of sockets, and one of the clock.

use maud::{Markup, html};
use tcp_trace_core::{report::SeriesPoint, time::WallTime};

use super::{
    head::clock,
    scale::{at, nice, short},
};
use crate::sink::units::count;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 210.0;
/// Where the areas are: left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (56.0, 10.0, 890.0, 180.0);
/// Times on the axis.
const TIMES: u64 = 5;

/// One area.
pub(super) struct Band {
    /// What it is of.
    pub(super) name: String,
    /// Its colour: the name of a class.
    pub(super) class: &'static str,
    /// A value for each point.
    pub(super) values: Vec<u64>,
}

/// A chart with its legend; the first band is at the bottom. `None` of fewer than two points.
pub(super) fn chart(name: &str, unit: &str, points: &[SeriesPoint], bands: &[Band]) -> Option<Markup> {
    let (first, last) = (points.first()?.time, points.last()?.time);
    if points.len() < 2 || last <= first {
        return None;
    }
    let x = |time: WallTime| {
        let share = time.0.saturating_sub(first.0) as f64 / (last.0 - first.0) as f64;
        at(FRAME.0 + share.clamp(0.0, 1.0) * (FRAME.2 - FRAME.0))
    };
    let places: Vec<f64> = points.iter().map(|point| x(point.time)).collect();
    let sums = sums(points.len(), bands);
    let most = sums.last().and_then(|top| top.iter().max()).copied().unwrap_or(0);
    let (end, step) = nice(most);
    let y = |value: u64| at(FRAME.3 - value as f64 / end as f64 * (FRAME.3 - FRAME.1));
    let below = std::iter::once(vec![0; points.len()]).chain(sums.iter().cloned());
    let areas: Vec<_> = bands
        .iter()
        .zip(below.zip(&sums))
        .map(|(band, (low, high))| (band.class, area(&places, &low, high, y)))
        .collect();
    let label = format!("{name}: at most {} {unit}", count(most));
    Some(html! {
        figure.chart {
            figcaption { (name) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(label) {
                @for line in (0..=end).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
                    path.grid d={ "M" (FRAME.0) "," (y(line)) " H" (FRAME.2) } {}
                    text.tick.n x=(FRAME.0 - 6.0) y=(y(line) + 4.0) { (short(line)) }
                }
                @for (class, path) in &areas { path.band.(class) d=(path) {} }
                @for tick in 0..TIMES { (time(first, last, tick, x)) }
            }
            @if bands.len() > 1 {
                ul.key { @for band in bands { li { span.swatch.(band.class) {} (band.name) } } }
            }
        }
    })
}

/// For each band, what it and those below it come to at each point.
fn sums(points: usize, bands: &[Band]) -> Vec<Vec<u64>> {
    let mut so_far = vec![0_u64; points];
    bands
        .iter()
        .map(|band| {
            for (sum, value) in so_far.iter_mut().zip(&band.values) {
                *sum = sum.saturating_add(*value);
            }
            so_far.clone()
        })
        .collect()
}

/// There along the top, and back along the bottom.
fn area(places: &[f64], low: &[u64], high: &[u64], y: impl Fn(u64) -> f64) -> String {
    let there = places.iter().zip(high);
    let back = places.iter().zip(low).rev();
    let points: Vec<_> = there.chain(back).map(|(x, value)| format!("{x},{}", y(*value))).collect();
    format!("M{}Z", points.join(" "))
}

fn time(first: WallTime, last: WallTime, tick: u64, x: impl Fn(WallTime) -> f64) -> Markup {
    let at = WallTime(first.0 + (last.0 - first.0) / (TIMES - 1) * tick);
    let class = match tick {
        0 => "start",
        tick if tick == TIMES - 1 => "end",
        _ => "middle",
    };
    html! { text.tick.(class) x=(x(at)) y=(FRAME.3 + 18.0) { (clock(at)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: u64) -> SeriesPoint {
        SeriesPoint {
            time: WallTime(second * 1_000_000_000),
            span_ns: 1_000_000_000,
            seen: 0,
            lost: 0,
            established: None,
            close_wait: None,
            time_wait: None,
            half_open: None,
        }
    }

    fn band(values: &[u64]) -> Band {
        Band { name: "<b>".to_owned(), class: "c0", values: values.to_vec() }
    }

    #[test]
    fn bands_stand_on_each_other() {
        let points = [point(0), point(10)];
        let text = chart("A", "sockets", &points, &[band(&[1, 2]), band(&[3, 2])]).unwrap().into_string();
        assert!(text.contains("M56,137.5 890,95 890,180 56,180Z"), "{text}");
        assert!(text.contains("M56,10 890,10 890,95 56,137.5Z"), "{text}");
        assert!(text.contains("at most 4 sockets") && text.contains("&lt;b&gt;"), "{text}");
        assert!(text.contains(">00:00:05</text>"), "{text}");
    }

    #[test]
    fn one_moment_is_no_course() {
        assert!(chart("A", "sockets", &[point(0)], &[band(&[1])]).is_none());
        assert!(chart("A", "sockets", &[point(0), point(0)], &[band(&[1, 1])]).is_none());
    }
}

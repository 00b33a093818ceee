//! Populations over time: areas on top of each other, an axis of sockets, and one of the clock.

use maud::{Markup, html};
use tcp_trace_core::{report::SeriesPoint, time::WallTime};

use super::{
    head::clock,
    scale::{at, nice, short},
};
use crate::sink::units::count;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 190.0;
/// Where the areas are: left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (52.0, 8.0, 592.0, 162.0);
/// Times on the axis.
const TIMES: u64 = 4;

/// One area.
pub(super) struct Band {
    /// What it is of.
    pub(super) name: String,
    /// Its colour: the name of a class.
    pub(super) class: &'static str,
    /// A value for each point; what is `None` is not known, and not drawn.
    pub(super) values: Vec<Option<u64>>,
}

/// A chart with its legend; the first band is at the bottom. A point's value holds for all of its time, so that areas have
/// steps: nobody has looked in between. `None` of fewer than two points.
pub(super) fn chart(name: &str, unit: &str, points: &[SeriesPoint], bands: &[Band]) -> Option<Markup> {
    let first = points.first().map(|point| point.time.minus(point.span_ns))?;
    let last = points.last()?.time;
    if points.len() < 2 || last <= first {
        return None;
    }
    let x = |time: WallTime| {
        let share = time.0.saturating_sub(first.0) as f64 / (last.0 - first.0) as f64;
        at(FRAME.0 + share.clamp(0.0, 1.0) * (FRAME.2 - FRAME.0))
    };
    let places: Vec<_> = std::iter::once(first).chain(points.iter().map(|point| point.time)).map(x).collect();
    let layers = layers(points.len(), bands);
    let most = layers.iter().flatten().flatten().map(|(_, high)| *high).max().unwrap_or(0);
    let (end, step) = nice(most);
    let y = |value: u64| at(FRAME.3 - value as f64 / end as f64 * (FRAME.3 - FRAME.1));
    let unseen = unseen(&layers, points.len());
    Some(html! {
        figure.chart {
            figcaption { (name) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (name) ": at most " (count(most)) " " (unit) } {
                @for line in (0..=end).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
                    path.grid d={ "M" (FRAME.0) "," (y(line)) " H" (FRAME.2) } {}
                    text.tick.n x=(FRAME.0 - 6.0) y=(y(line) + 4.0) { (short(line)) }
                }
                @for (band, layer) in bands.iter().zip(&layers) { path.band.(band.class) d=(area(&places, layer, y)) {} }
                @for (from, to) in &unseen { (hatched(&places, *from, *to)) }
                @for tick in 0..TIMES { (time(first, last, tick, x)) }
            }
            @if bands.iter().any(|band| band.name != name) || !unseen.is_empty() {
                ul.key {
                    @for band in bands { li { span.swatch.(band.class) {} (band.name) } }
                    @if !unseen.is_empty() { li { span.swatch.unseen {} "not known" } }
                }
            }
        }
    })
}

/// For each band, between which two heights it stands at each point.
fn layers(points: usize, bands: &[Band]) -> Vec<Vec<Option<(u64, u64)>>> {
    let mut so_far = vec![0_u64; points];
    bands
        .iter()
        .map(|band| {
            so_far
                .iter_mut()
                .zip(&band.values)
                .map(|(sum, value)| {
                    let low = *sum;
                    *sum = sum.saturating_add((*value)?);
                    Some((low, *sum))
                })
                .collect()
        })
        .collect()
}

/// A block for each stretch in which the heights stay the same.
fn area(places: &[f64], layer: &[Option<(u64, u64)>], y: impl Fn(u64) -> f64) -> String {
    let mut path = String::new();
    let mut from = 0;
    for stretch in layer.chunk_by(|a, b| a == b) {
        let to = from + stretch.len();
        let ends = (places.get(from), places.get(to));
        if let (Some(Some((low, high))), (Some(left), Some(right))) = (stretch.first(), ends)
            && low < high
        {
            path += &format!("M{left},{}V{}H{right}V{}z", y(*low), y(*high), y(*low));
        }
        from = to;
    }
    path
}

/// From where to where no band is known.
fn unseen(layers: &[Vec<Option<(u64, u64)>>], points: usize) -> Vec<(usize, usize)> {
    let is_unseen = |at: usize| layers.iter().all(|layer| layer.get(at).copied().flatten().is_none());
    let unseen: Vec<_> = (0..points).map(is_unseen).collect();
    let mut from = 0;
    let mut found = Vec::new();
    for stretch in unseen.chunk_by(|a, b| a == b) {
        let to = from + stretch.len();
        if stretch.first() == Some(&true) {
            found.push((from, to));
        }
        from = to;
    }
    found
}

fn hatched(places: &[f64], from: usize, to: usize) -> Markup {
    let (left, right) = (places.get(from).copied().unwrap_or(0.0), places.get(to).copied().unwrap_or(0.0));
    html! {
        rect.unseen x=(left) y=(FRAME.1) width=(at((right - left).max(0.0))) height=(FRAME.3 - FRAME.1) { title { "not known" } }
    }
}

fn time(first: WallTime, last: WallTime, tick: u64, x: impl Fn(WallTime) -> f64) -> Markup {
    let since = u128::from(last.0 - first.0) * u128::from(tick) / u128::from(TIMES - 1);
    let at = WallTime(first.0 + u64::try_from(since).unwrap_or(0));
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

    fn band(values: &[Option<u64>]) -> Band {
        Band { name: "<b>".to_owned(), class: "c0", values: values.to_vec() }
    }

    #[test]
    fn bands_stand_on_each_other_and_have_steps() {
        let points = [point(1), point(2), point(4)];
        let bands = [band(&[Some(1), Some(1), Some(2)]), band(&[Some(3), Some(0), Some(2)])];
        let text = chart("A", "sockets", &points, &bands).unwrap().into_string();
        assert!(text.contains("M52,162V123.5H322V162zM322,162V85H592V162z"), "{text}");
        assert!(text.contains("M52,123.5V8H187V123.5zM322,85V8H592V85z"), "{text}");
        assert!(text.contains("at most 4 sockets") && text.contains("&lt;b&gt;"), "{text}");
        assert!(text.contains(">00:00:04</text>") && !text.contains("not known"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_not_drawn_as_nothing() {
        let points = [point(1), point(2)];
        let text = chart("A", "sockets", &points, &[band(&[None, Some(4)])]).unwrap().into_string();
        assert!(text.contains("<rect class=\"unseen\" x=\"52\" y=\"8\" width=\"270\""), "{text}");
        assert!(text.contains("not known</li>"), "{text}");
    }

    #[test]
    fn one_moment_is_no_course() {
        assert!(chart("A", "sockets", &[point(1)], &[band(&[Some(1)])]).is_none());
    }
}

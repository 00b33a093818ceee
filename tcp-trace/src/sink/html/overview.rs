//! What happened all in all: the state diagram with its numbers, and how populations went.

use maud::{Markup, html};
use tcp_trace_core::{
    diagram::{self, Kind},
    report::{ProcessSample, ProcessSeries, Report, Series, SeriesPoint},
};

use super::{
    Section,
    chart::{Band, chart},
    diagram as drawing,
    table::{Cell, Column, table},
};
use crate::sink::{report_table::who, units::count};

/// Processes that have a band of their own; the rest share one.
const BANDS: [&str; 7] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6"];
const REST: &str = "rest";

/// The state diagram, and the same as tables.
pub(super) fn diagram(report: &Report) -> Option<Section> {
    Some(Section {
        id: "diagram",
        short: "States",
        title: "States and transitions".to_owned(),
        body: html! {
            div.scroll tabindex="0" role="region" aria-label="State diagram" { (drawing::diagram(report)) }
            (states(report))
            (transitions(report))
        },
    })
}

fn states(report: &Report) -> Markup {
    let columns = [
        Column::text("State"),
        Column::number("Entered"),
        Column::number("Now"),
        Column::number("p50"),
        Column::number("p90"),
        Column::number("p99"),
        Column::number("Longest"),
    ];
    let seen = report.states.iter().filter(|(_, state)| state.entered > 0 || state.live.unwrap_or(0) > 0);
    let rows = seen.map(|(name, state)| {
        let time = &state.duration;
        vec![
            Cell::text(name.to_string()),
            Cell::count(state.entered),
            Cell::maybe(state.live),
            Cell::duration(time.p50_ns),
            Cell::duration(time.p90_ns),
            Cell::duration(time.p99_ns),
            Cell::duration(time.max_ns),
        ]
    });
    table("States: how often entered, sockets now in them, time spent in them", &columns, rows.collect())
}

fn transitions(report: &Report) -> Markup {
    let mut cells = report.transitions.clone();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.count));
    let rows = cells.iter().map(|cell| {
        let kind = diagram::classify(cell.old, cell.new);
        let what = match (kind, diagram::edge(cell.old, cell.new)) {
            (_, Some(edge)) => edge.label,
            (Kind::Anomalous, None) => "no part of the diagram",
            (_, None) => "-",
        };
        vec![
            Cell::text(cell.old.to_string()),
            Cell::text(cell.new.to_string()),
            Cell::count(cell.count),
            Cell::text(what).alarming(kind == Kind::Anomalous),
        ]
    });
    let columns =
        [Column::text("From"), Column::text("To"), Column::number("Count"), Column::text("What happens")];
    table("Transitions", &columns, rows.collect())
}

/// How populations went, if that was kept.
pub(super) fn over_time(report: &Report) -> Option<Section> {
    let series = report.series.as_ref()?;
    let points = &series.points;
    let charts: Vec<_> = [
        transitions_chart(points),
        by_process("CLOSE_WAIT, by process", series, |sample| sample.close_wait, |point| point.close_wait),
        by_process(
            "TIME_WAIT, by process: entered less than a minute before, which is how long it lasts (inferred)",
            series,
            |sample| sample.time_wait,
            |point| point.time_wait,
        ),
        total("Half-open requests", points, |point| point.half_open),
        total("ESTABLISHED", points, |point| point.established),
    ]
    .into_iter()
    .flatten()
    .collect();
    Some(Section {
        id: "over-time",
        short: "Over time",
        title: "Over time".to_owned(),
        body: html! {
            @if charts.is_empty() {
                p { "The run was too short to draw anything: the kernel's counters were read " (count(points.len() as u64)) " times in it." }
            } @else {
                p.note {
                    (count(points.len() as u64)) " points; "
                    @if series.readings > 1 {
                        "each is the one with the most sockets of up to " (series.readings) " readings of the counters."
                    } @else { "one at each reading of the kernel's counters." }
                    " Times are UTC."
                }
            }
            (hatching())
            div.charts { @for chart in &charts { (chart) } }
        },
    })
}

/// What stretches are filled with of which nothing is known.
fn hatching() -> Markup {
    html! {
        svg width="0" height="0" aria-hidden="true" {
            pattern id="unseen" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                path.grid d="M0,0 V6" {}
            }
        }
    }
}

/// Transitions a second, the lost ones apart.
fn transitions_chart(points: &[SeriesPoint]) -> Option<Markup> {
    let rate = |number: u64, point: &SeriesPoint| match point.span_ns {
        0 => 0,
        span => u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(span)).unwrap_or(u64::MAX),
    };
    let seen: Vec<_> = points.iter().map(|p| Some(rate(p.seen.saturating_sub(p.lost), p))).collect();
    let lost: Vec<_> = points.iter().map(|p| Some(rate(p.lost, p))).collect();
    let name = "Transitions a second, before any filter";
    let mut bands = vec![Band { name: name.to_owned(), class: "c0", values: seen }];
    if lost.iter().any(|lost| *lost > Some(0)) {
        bands.push(Band { name: "lost (counted by kind)".to_owned(), class: "lost", values: lost });
    }
    chart(name, "a second", points, &bands)
}

/// A population that belongs to nobody in particular; nothing where it is not known or was never there.
fn total(name: &str, points: &[SeriesPoint], of: impl Fn(&SeriesPoint) -> Option<u64>) -> Option<Markup> {
    let values: Vec<_> = points.iter().map(of).collect();
    let any = values.iter().any(|value| *value > Some(0));
    let bands = [Band { name: name.to_owned(), class: "c0", values }];
    any.then(|| chart(name, "sockets", points, &bands)).flatten()
}

/// Those with the highest peaks for themselves, the others together.
fn by_process(
    name: &str,
    series: &Series,
    of: impl Fn(&ProcessSample) -> u32,
    all: impl Fn(&SeriesPoint) -> Option<u64>,
) -> Option<Markup> {
    let points = &series.points;
    let all: Vec<_> = points.iter().map(all).collect();
    let mut rest = all.clone();
    if rest.iter().all(|number| number.unwrap_or(0) == 0) {
        return None;
    }
    let peak = |row: &&ProcessSeries| row.samples.iter().map(&of).max().unwrap_or(0);
    let mut rows: Vec<_> = series.processes.iter().filter(|row| peak(row) > 0).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(peak(row)));
    let mut bands = Vec::new();
    for (row, class) in rows.into_iter().zip(BANDS) {
        // Before it was followed it may have had some, which are among those of others.
        let mut values: Vec<_> = all.iter().map(|all| all.map(|_| 0)).collect();
        for sample in &row.samples {
            let at = sample.point as usize;
            if let (Some(value), Some(rest)) = (values.get_mut(at), rest.get_mut(at)) {
                let number = u64::from(of(sample));
                *value = value.map(|_| number);
                *rest = rest.map(|rest| rest.saturating_sub(number));
            }
        }
        bands.push(Band { name: who(row.process.as_ref()), class, values });
    }
    if rest.iter().any(|number| *number > Some(0)) {
        bands.push(Band { name: "others".to_owned(), class: REST, values: rest });
    }
    chart(name, "sockets", points, &bands)
}

//! Connection attempts: how long they took, and which failed.

use maud::{Markup, html};
use tcp_trace_core::report::{Connect, Report};

use super::{
    Section, histogram,
    table::{Cell, Column, table},
};
use crate::sink::report_table::{end, failures, who};

/// The section; nothing if nobody tried to connect.
pub(super) fn section(report: &Report) -> Option<Section> {
    if report.connect.is_empty() {
        return None;
    }
    Some(Section {
        id: "connects",
        short: "Connects",
        title: "Connects: from SYN to established, and what failed".to_owned(),
        body: html! {
            (histogram::connects(report))
            (destinations(report))
            (failing(report))
        },
    })
}

fn destinations(report: &Report) -> Markup {
    let columns = [
        Column::text("Destination"),
        Column::number("Answered"),
        Column::number("p50"),
        Column::number("p90"),
        Column::number("p99"),
        Column::number("Longest"),
        Column::text("Failed"),
    ];
    let rows = report.connect.iter().map(|row| {
        let time = &row.completed;
        let failed = failures(row);
        vec![
            Cell::text(end(row.peer)),
            Cell::count(time.count),
            Cell::duration(time.p50_ns),
            Cell::duration(time.p90_ns),
            Cell::duration(time.p99_ns),
            Cell::duration(time.max_ns),
            Cell::valued(failed.clone(), Some(sum(row) as f64)).alarming(sum(row) > 0),
        ]
    });
    table("Destinations", &columns, rows.collect())
}

fn sum(row: &Connect) -> u64 {
    let Connect { refused, timed_out, unreachable, reset, aborted, failed, .. } = *row;
    [refused, timed_out, unreachable, reset, aborted, failed].into_iter().fold(0, u64::saturating_add)
}

/// Whose attempts failed.
fn failing(report: &Report) -> Markup {
    let columns = [
        Column::text("Process"),
        Column::text("Destination"),
        Column::number("Refused"),
        Column::number("Timed out"),
        Column::number("Unreachable"),
        Column::number("Reset"),
        Column::number("Given up"),
        Column::number("No port"),
        Column::number("Other"),
        Column::number("Answered"),
    ];
    let pairs = report.connect.iter().flat_map(|row| row.failing.iter().map(move |failing| (row, failing)));
    let rows = pairs.map(|(row, failing)| {
        let numbers = [
            failing.refused,
            failing.timed_out,
            failing.unreachable,
            failing.reset,
            failing.given_up,
            failing.no_port,
            failing.failed,
            failing.answered,
        ];
        let names = [Cell::text(who(failing.process.as_ref())), Cell::text(end(row.peer))];
        names.into_iter().chain(numbers.map(Cell::count)).collect()
    });
    table("Whose attempts failed", &columns, rows.collect())
}

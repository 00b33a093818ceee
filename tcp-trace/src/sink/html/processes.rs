//! Who had a part: processes and containers.

use maud::{Markup, html};
use tcp_trace_core::report::Report;

use super::{
    Section,
    closing::{container, descriptors},
    table::{Cell, Column, table},
};
use crate::sink::{
    report_table::{container_name, who},
    units::count,
};

/// The section; nothing if nobody had a part.
pub(super) fn section(report: &Report) -> Option<Section> {
    if report.processes.is_empty() {
        return None;
    }
    Some(Section {
        id: "processes",
        short: "Processes",
        title: "Processes and containers".to_owned(),
        body: html! {
            (processes(report))
            @if report.omitted > 0 {
                p.more { (count(report.omitted)) " transitions are of processes that had no room in the table." }
            }
            (containers(report))
        },
    })
}

fn processes(report: &Report) -> Markup {
    let columns = [
        Column::text("Process"),
        Column::number("Transitions"),
        Column::number("Sockets now"),
        Column::text("Most frequent"),
        Column::text("Program"),
        Column::text("User"),
        Column::text("Container"),
        Column::number("Descriptors"),
    ];
    let rows = report.processes.iter().map(|row| {
        let process = row.process.as_ref();
        let busiest = row.transitions.iter().rev().max_by_key(|cell| cell.count);
        let busiest = busiest.map_or_else(
            || "-".to_owned(),
            |cell| format!("{} → {} ×{}", cell.old, cell.new, count(cell.count)),
        );
        vec![
            Cell::text(who(process)),
            Cell::count(row.total),
            Cell::count(row.live),
            Cell::text(busiest),
            Cell::text(process.and_then(|process| process.exe.as_deref()).unwrap_or("-")),
            Cell::text(process.and_then(|process| process.user.as_deref()).unwrap_or("-")),
            Cell::text(container(process)),
            descriptors(process),
        ]
    });
    table("Processes, busiest first", &columns, rows.collect())
}

fn containers(report: &Report) -> Markup {
    let containers = report.containers.as_deref().unwrap_or_default();
    if containers.iter().all(|row| row.container.is_none()) {
        return Markup::default();
    }
    let columns = [
        Column::text("Container"),
        Column::number("Processes"),
        Column::number("Transitions"),
        Column::number("Sockets now"),
        Column::number("Lingering CLOSE_WAIT"),
        Column::number("TIME_WAIT entered"),
    ];
    let rows = containers.iter().map(|row| {
        let name = row.container.as_ref().map_or_else(|| "(host or unknown)".to_owned(), container_name);
        vec![
            Cell::text(name),
            Cell::count(row.processes),
            Cell::count(row.total),
            Cell::count(row.live),
            Cell::count(row.close_wait).alarming(row.close_wait > 0),
            Cell::count(row.time_wait),
        ]
    });
    table("Containers", &columns, rows.collect())
}

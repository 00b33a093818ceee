//! Half-open: handshakes that completed, requests that did not, and what the kernel counted of them.

use maud::{Markup, html};
use tcp_trace_core::{
    process::printable,
    report::{NamespaceSummary, Queue, Report},
};

use super::{
    Section, histogram,
    table::{Cell, Column, table},
};
use crate::sink::{
    report_table::{
        end,
        half_open::{cause, counters},
        who,
    },
    units::count,
};

/// The section; nothing if nobody listened.
pub(super) fn section(report: &Report) -> Option<Section> {
    if report.half_open.listeners.is_empty() {
        return None;
    }
    Some(Section {
        id: "half-open",
        short: "Half-open",
        title: "Half-open: from SYN to final ACK".to_owned(),
        body: html! {
            (histogram::half_open(report))
            (listeners(report))
            (queues(report))
            (prefixes(report))
            (namespaces(report))
        },
    })
}

fn listeners(report: &Report) -> Markup {
    let columns = [
        Column::text("Listener"),
        Column::text("Process"),
        Column::number("Done"),
        Column::number("p50"),
        Column::number("p90"),
        Column::number("p99"),
        Column::number("Longest"),
        Column::number("Cookie"),
        Column::number("Unknown"),
        Column::number("SYN-ACK resent"),
    ];
    let rows = report.half_open.listeners.iter().map(|listener| {
        let time = &listener.completed;
        vec![
            Cell::text(end(listener.local)),
            Cell::text(who(listener.process.as_ref())),
            Cell::count(time.count),
            Cell::duration(time.p50_ns),
            Cell::duration(time.p90_ns),
            Cell::duration(time.p99_ns),
            Cell::duration(time.max_ns),
            Cell::maybe(listener.cookies),
            Cell::count(listener.unknown),
            Cell::maybe(listener.resent),
        ]
    });
    table(
        "Listeners: handshakes that completed; cookie and unknown ones have no duration",
        &columns,
        rows.collect(),
    )
}

fn queues(report: &Report) -> Markup {
    let columns = [
        Column::text("Listener"),
        Column::text("Cause"),
        Column::number("Now"),
        Column::number("For ≥ 1 s"),
        Column::number("Expired"),
        Column::number("Reset"),
        Column::number("Either"),
        Column::number("SYN queue"),
        Column::number("Accept queue"),
        Column::number("Turned away"),
        Column::number("Sources"),
    ];
    let rows = report.half_open.listeners.iter().map(|listener| {
        vec![
            Cell::text(end(listener.local)),
            Cell::text(cause(listener)).alarming(listener.cause.is_some()),
            Cell::maybe(listener.live),
            Cell::maybe(listener.overdue),
            Cell::maybe(listener.expired),
            Cell::maybe(listener.reset),
            Cell::maybe(listener.dead),
            queue(listener.syn_queue),
            queue(listener.accept_queue),
            Cell::maybe(listener.drops).alarming(listener.drops.unwrap_or(0) > 0),
            Cell::valued(
                listener.sources.map_or_else(|| "-".to_owned(), |sources| format!("≈ {}", count(sources))),
                listener.sources.map(|sources| sources as f64),
            ),
        ]
    });
    table("Listeners: requests that wait or died, and queues against their limits", &columns, rows.collect())
}

fn queue(queue: Option<Queue>) -> Cell {
    let text = queue.map(|Queue { length, limit }| format!("{} of {}", count(length), count(limit)));
    let full = queue.is_some_and(|Queue { length, limit }| limit > 0 && length >= limit);
    Cell::valued(text.unwrap_or_else(|| "-".to_owned()), queue.map(|queue| queue.length as f64))
        .alarming(full)
}

/// Where requests come from.
fn prefixes(report: &Report) -> Markup {
    let columns = [
        Column::text("Listener"),
        Column::text("From"),
        Column::number("Requests"),
        Column::number("Completed"),
        Column::number("Half-open now"),
        Column::number("Expired"),
        Column::number("Reset"),
    ];
    let pairs =
        report.half_open.listeners.iter().flat_map(|l| l.prefixes.iter().map(move |prefix| (l, prefix)));
    let rows = pairs.map(|(listener, prefix)| {
        vec![
            Cell::text(end(listener.local)),
            Cell::text(&prefix.prefix),
            Cell::count(prefix.requests),
            Cell::count(prefix.completed),
            Cell::maybe(prefix.live),
            Cell::maybe(prefix.expired),
            Cell::maybe(prefix.reset),
        ]
    });
    table("Where requests come from", &columns, rows.collect())
}

fn namespaces(report: &Report) -> Markup {
    let rows = report.half_open.namespaces.iter().flat_map(|namespace| {
        let NamespaceSummary { netns, name, .. } = namespace;
        let name = name.as_deref().map_or_else(|| netns.to_string(), |name| printable(name).into_owned());
        let counted = counters(namespace).into_iter().filter(|(number, _)| *number > 0);
        counted.map(move |(number, what)| vec![Cell::text(&name), Cell::text(what), Cell::count(number)])
    });
    let columns = [Column::text("Network namespace"), Column::text("Counter"), Column::number("In this run")];
    table("What the kernel counted of listeners", &columns, rows.collect())
}

//! What is wrong, how it develops, and who hurts.

use ratatui::layout::Rect;
use tcp_trace_core::findings::{Finding, Severity};

use super::{
    super::{
        frame::{Frame, Sample},
        model::{Action, Model, Overlay},
        palette::{self, Tone},
        rows::{Row, Sort, Who},
        words::{NONE, UNKNOWN, age, count, maybe, per_second, short, sparkline, wrapped},
    },
    pen::{Column, Line, Pen, Piece, Table, left, line, piece, right},
};
use tcp_trace_core::process::printable;

/// From so many rows on findings are told with their numbers.
const ROOMY: u16 = 30;
/// Reports that the growth of a leak is drawn over.
const GROWTH: usize = 12;

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model, frame: &Frame) {
    let findings: Vec<_> = frame.report.findings.iter().flatten().collect();
    let lines = told(&findings, area);
    let height = lines.len() as u16;
    let title = match findings.len() {
        0 => "FINDINGS: none".to_owned(),
        number => format!("FINDINGS: {number}"),
    };
    pen.title(area, 0, &title, if findings.is_empty() { "" } else { "f: in full" });
    let spot = Rect { y: area.y + 1, height: height.min(area.height.saturating_sub(1)), ..area };
    for (row, line) in (0..spot.height).zip(&lines) {
        pen.line(spot, row, line);
    }
    pen.hit(Rect { height: spot.height + 1, ..area }, Action::Overlay(Overlay::Findings));
    let used = 1 + spot.height;
    let rest = Rect { y: area.y + used, height: area.height.saturating_sub(used), ..area };
    let drawn = rates(pen, rest, model);
    let rest = Rect { y: rest.y + drawn, height: rest.height.saturating_sub(drawn), ..rest };
    table(pen, rest, model, frame);
}

/// Every finding in a line, and the first ones in more, as far as a third of the area goes.
fn told(findings: &[&Finding], area: Rect) -> Vec<Line> {
    let width = usize::from(area.width);
    let most = usize::from(area.height / 3).max(3);
    let mut lines: Vec<Line> = Vec::new();
    let shown = findings.len().min(if findings.len() > most { most - 1 } else { most });
    // What is left when each finding has its line.
    let mut spare = most.saturating_sub(shown.max(1));
    for finding in findings.iter().take(shown) {
        lines.push(head(finding));
        let mut wanted = wrapped(&sentences(finding), width.saturating_sub(4));
        if area.height >= ROOMY {
            wanted.extend(wrapped(&numbers(finding), width.saturating_sub(4)));
        }
        let cut = wanted.len() > spare;
        wanted.truncate(spare);
        spare -= wanted.len();
        if cut && let Some(last) = wanted.last_mut() {
            *last += " …";
        }
        lines.extend(wanted.into_iter().map(|text| line(format!("  {text}"), Tone::Plain)));
    }
    if findings.len() > shown {
        lines.push(line(format!("  … and {} more (f)", findings.len() - shown), Tone::Dim));
    }
    lines
}

/// `✖ CRITICAL close_wait_leak  orders-api (21856)`.
pub(super) fn head(finding: &Finding) -> Line {
    let tone = palette::severity(finding.severity);
    vec![
        piece(format!("{} {}  ", palette::mark(finding.severity), finding.id), tone),
        piece(printable(&finding.subject.to_string()).into_owned(), Tone::Strong),
    ]
}

/// The numbers that it rests on.
fn numbers(finding: &Finding) -> String {
    printable(&format!("({})", super::findings::numbers(finding))).into_owned()
}

/// Its cause and what to do.
fn sentences(finding: &Finding) -> String {
    printable(&format!("{} → {}", finding.cause, finding.advice)).into_owned()
}

/// A number over time: its name, how to show it, and how to get it.
type Rate = (&'static str, fn(f64) -> String, fn(&Sample) -> Option<f64>, Tone);

const RATES: [Rate; 6] = [
    ("transitions", per_second, |sample| sample.transitions, Tone::Flow),
    ("CLOSE_WAIT", whole, |sample| sample.close_wait, Tone::Warning),
    ("opened", per_second, |sample| sample.opened, Tone::Flow),
    ("half-open", whole, |sample| sample.half_open, Tone::Warning),
    ("failed", per_second, |sample| sample.failed, Tone::Critical),
    ("TIME_WAIT", whole, |sample| sample.time_wait, Tone::Plain),
];

fn whole(number: f64) -> String {
    if number < 100_000.0 { count(number as u64) } else { short(number) }
}

/// Numbers over time; says how many rows it took.
fn rates(pen: &mut Pen<'_>, area: Rect, model: &Model) -> u16 {
    let columns = if area.width >= 150 { 3 } else { 2 };
    let rows = (RATES.len() as u16).div_ceil(columns);
    if area.height < rows + 4 {
        return 0;
    }
    let width = area.width / columns;
    let room = usize::from(width).saturating_sub(22);
    let samples = model.samples(room.max(1));
    pen.title(area, 0, "RATES", &format!("{} reports", samples.len()));
    for (place, (name, text, pick, tone)) in (0_u16..).zip(RATES) {
        let (x, row) = (area.x + place % columns * width, 1 + place / columns);
        let now = samples.last().and_then(|sample| pick(sample));
        let tone = if now.is_some_and(|now| now > 0.0) { tone } else { Tone::Dim };
        let number = now.map_or_else(|| UNKNOWN.to_owned(), text);
        let spark = sparkline(samples.iter().map(|sample| pick(sample)), room);
        let pieces = [
            piece(format!("{name:<11}"), Tone::Plain),
            piece(format!("{number:>8} "), if tone == Tone::Dim { Tone::Dim } else { Tone::Strong }),
            piece(spark.trim_start(), tone),
        ];
        pen.line(Rect { x, width, ..area }, row, &pieces);
    }
    1 + rows
}

fn table(pen: &mut Pen<'_>, area: Rect, model: &Model, frame: &Frame) {
    let rows = model.rows();
    let what = if model.by_container { "CONTAINERS" } else { "PROCESSES" };
    let order = format!("by {}{}", model.sort.name(), if model.reverse { ", reversed" } else { "" });
    let mut title = format!("{what} {order}");
    if model.filter.of_connections() {
        title += " (ports, families and states of the filter do not apply here)";
    }
    pen.title(area, 0, &title, if model.by_container { "c: processes" } else { "c: containers" });
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if model.by_container && frame.report.containers.is_none() {
        pen.text(
            below.x,
            below.y,
            below.width,
            "Nobody has looked which containers there are yet.",
            Tone::Dim,
        );
        return;
    }
    let seconds = frame.report.window.seconds;
    let samples = model.samples(GROWTH);
    let rows: Vec<_> = rows.iter().map(|row| cells(row, seconds, &samples)).collect();
    Table { columns: columns(model), rows, selected: Some(model.selected()) }.draw(pen, below);
}

fn columns(model: &Model) -> Vec<Column> {
    let name = if model.by_container { left("CONTAINER") } else { left("PROCESS") };
    vec![
        left(" ").clicked(Action::Sort(Sort::Trouble)),
        name.flexible().clicked(Action::Sort(Sort::Name)),
        right("CLOSE_WAIT").clicked(Action::Sort(Sort::CloseWait)),
        left("GROWTH").from(116),
        right("OLDEST"),
        right("HALF-OPEN").from(76).clicked(Action::Sort(Sort::HalfOpen)),
        right("TIME_WAIT").from(92).clicked(Action::Sort(Sort::TimeWait)),
        right("FAILED").clicked(Action::Sort(Sort::Failed)),
        right("CUT").from(100),
        right("SOCKS").clicked(Action::Sort(Sort::Live)),
        right("TR/s").clicked(Action::Sort(Sort::Transitions)),
        if model.by_container { right("PROCS").from(120) } else { left("CONTAINER").from(112).flexible() },
    ]
}

fn cells(row: &Row, seconds: f64, samples: &[&Sample]) -> Vec<Piece> {
    let worst = match row.worst {
        Some(Severity::Critical) => ("✖", Tone::Critical),
        Some(Severity::Warning) => ("▲", Tone::Warning),
        Some(Severity::Info) => ("●", Tone::Info),
        None => (" ", Tone::Plain),
    };
    let number = |number: u64, tone: Tone| piece(count(number), if number > 0 { tone } else { Tone::Dim });
    let known = |number: Option<u64>, tone: Tone| match number {
        Some(0) => piece("0", Tone::Dim),
        Some(_) => piece(maybe(number), tone),
        None => piece(UNKNOWN, Tone::Dim),
    };
    let bad = |severity: Option<Severity>| severity.map_or(Tone::Warning, palette::severity);
    let oldest = if row.close_wait > 0 { age(row.oldest.0, row.oldest.1) } else { NONE.to_owned() };
    let growth = sparkline(samples.iter().map(|sample| leak(sample, &row.who)), GROWTH);
    let rate = if seconds > 0.0 { short(row.transitions as f64 / seconds) } else { UNKNOWN.to_owned() };
    vec![
        piece(worst.0, worst.1),
        piece(row.name.clone(), if row.worst.is_some() { bad(row.worst) } else { Tone::Plain }),
        number(row.close_wait, bad(row.worst)),
        piece(if row.close_wait > 0 { growth } else { String::new() }, bad(row.worst)),
        piece(oldest, if row.close_wait > 0 { Tone::Plain } else { Tone::Dim }),
        known(row.half_open, Tone::Plain),
        known(row.time_wait, Tone::Plain),
        number(row.failed, Tone::Critical),
        known(row.cut, Tone::Warning),
        number(row.live, Tone::Plain),
        piece(rate, if row.transitions > 0 { Tone::Flow } else { Tone::Dim }),
        match row.processes {
            Some(processes) => number(processes, Tone::Plain),
            None => piece(row.container.clone().unwrap_or_else(|| NONE.to_owned()), Tone::Dim),
        },
    ]
}

fn leak(sample: &Sample, who: &Who) -> Option<f64> {
    let found = sample.leaks.iter().find(|(process, _)| process == who);
    Some(found.map_or(0.0, |(_, count)| *count as f64))
}

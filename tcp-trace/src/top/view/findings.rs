//! Every finding in full: what happens, what to do, and the numbers that say so.

use ratatui::layout::Rect;
use tcp_trace_core::{
    findings::{Evidence, Finding, Value},
    process::printable,
};

use super::{
    super::{
        model::Model,
        palette::Tone,
        words::{clock, count, time, wrapped},
    },
    frame_over, overview,
    pen::{Line, Pen, line, piece},
};

pub(super) fn draw(pen: &mut Pen<'_>, body: Rect, model: &Model) {
    let findings: Vec<_> =
        model.frame().into_iter().flat_map(|frame| frame.report.findings.iter().flatten()).collect();
    let width = usize::from(body.width.min(110).saturating_sub(8));
    let mut lines: Vec<Line> = Vec::new();
    let mut starts = Vec::new();
    for (place, finding) in findings.iter().enumerate() {
        starts.push(lines.len());
        let here = place == model.overlay_selected;
        let mut head = overview::head(finding);
        head.insert(0, piece(if here { "▶ " } else { "  " }, Tone::Key));
        lines.push(head);
        lines.extend(text(finding, width));
        lines.push(Line::new());
    }
    if findings.is_empty() {
        lines.push(line("None. What is looked for: `tcp-trace explain findings`.", Tone::Plain));
    }
    let inner = frame_over(pen, body, "Findings (⏎ opens the process)", lines.len());
    pen.drawn.hits.clear();
    let first = starts.get(model.overlay_selected).copied().unwrap_or(0);
    pen.page(inner, &lines, first);
}

/// Since when, cause, advice, evidence.
pub(super) fn text(finding: &Finding, width: usize) -> Vec<Line> {
    let Finding { since, cause, advice, .. } = finding;
    let since = since.map_or_else(String::new, |since| format!("Since {} UTC: ", clock(since)));
    let numbers = numbers(finding);
    [
        (format!("{since}{cause}"), Tone::Plain),
        (format!("→ {advice}"), Tone::Info),
        (format!("({numbers})"), Tone::Dim),
    ]
    .into_iter()
    .flat_map(|(text, tone)| {
        wrapped(&printable(&text), width).into_iter().map(move |text| line(format!("    {text}"), tone))
    })
    .collect()
}

/// `lingering 37; oldest 8.89 s`.
pub(super) fn numbers(finding: &Finding) -> String {
    finding.evidence.iter().map(number).collect::<Vec<_>>().join("; ")
}

fn number(evidence: &Evidence) -> String {
    let Evidence { name, value, unit, source } = evidence;
    let value = match (value, *unit) {
        (Value::Count(ns), "ns") => time(Some(*ns)),
        (Value::Count(number), "reports") => format!("{} reports", count(*number)),
        (Value::Count(number), _) => count(*number),
        (Value::Real(share), "share") => format!("{:.0} %", share * 100.0),
        (Value::Real(real), unit) => format!("{real:.1} {unit}").trim_end().to_owned(),
        (Value::Text(text), _) => text.clone(),
        (Value::Unknown, _) => "?".to_owned(),
    };
    let inferred = if source.starts_with("inferred") { " (inferred)" } else { "" };
    format!("{name} {value}{inferred}")
}

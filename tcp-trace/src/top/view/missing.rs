//! What this run lacks, lost, or only counted, and how to get it.

use tcp_trace_core::{process::printable, report::Report};

use super::{
    super::{
        model::Model,
        palette::Tone,
        words::{count, wrapped},
    },
    pen::{Line, line, piece},
};

pub(super) fn lines(model: &Model, width: u16) -> Vec<Line> {
    let Some(frame) = model.frame() else { return vec![line("Nothing is known yet.", Tone::Dim)] };
    let report = &frame.report;
    let width = usize::from(width.min(110).saturating_sub(8));
    let mut lines = balance(report, model.lost(), width);
    let paragraph = |lines: &mut Vec<Line>, text: &str, tone| {
        let text = printable(text);
        lines.extend(wrapped(&text, width).into_iter().map(|text| line(format!("  {text}"), tone)));
    };
    for limit in report.limits.iter().filter(|limit| limit.dropped > 0) {
        let text = format!(
            "{}: {} beyond {} had no room in this run",
            limit.name.replace('_', " "),
            count(limit.dropped),
            count(limit.limit)
        );
        paragraph(&mut lines, &text, Tone::Warning);
    }
    lines.push(Line::new());
    if report.source.degradations.is_empty() {
        lines.push(line("Everything that can be had is there.", Tone::Flow));
    }
    for lack in &report.source.degradations {
        lines.push(line(format!("▲ without {}", printable(&lack.feature)), Tone::Warning));
        paragraph(&mut lines, &lack.reason, Tone::Plain);
        if let Some(remedy) = &lack.remedy {
            paragraph(&mut lines, &format!("→ {remedy}"), Tone::Info);
        }
    }
    lines
}

/// Seen, delivered, filtered, lost, aggregated.
fn balance(report: &Report, lost: u64, width: usize) -> Vec<Line> {
    let loss = &report.loss;
    let mut lines = vec![line("Transitions in this window", Tone::Title)];
    let whole = if loss.balanced { "balanced" } else { "NOT BALANCED: the counts cannot be trusted" };
    let text = format!(
        "{} seen = {} delivered + {} filtered + {} lost + {} aggregated ({whole}); {} lost since the start",
        count(loss.seen),
        count(loss.delivered),
        count(loss.filtered),
        count(loss.lost),
        count(loss.aggregated),
        count(lost)
    );
    let tone = if loss.balanced && loss.lost == 0 { Tone::Plain } else { Tone::Critical };
    lines.extend(wrapped(&text, width).into_iter().map(|text| line(format!("  {text}"), tone)));
    let notes = [
        (loss.missed, "of the lost were not seen at all (the kernel skipped the program)"),
        (loss.unattributed, "were counted by kind only"),
        (loss.untracked, "were of connections that the full table had no room for"),
        (loss.side_lost, "records of who accepted a socket, or of half-open requests, were lost"),
        (loss.repaired.unwrap_or(0), "connections were put right by a survey after a loss"),
    ];
    for (number, what) in notes.into_iter().filter(|(number, _)| *number > 0) {
        lines.push(vec![piece(format!("  {} ", count(number)), Tone::Warning), piece(what, Tone::Plain)]);
    }
    for span in &report.modes {
        let text = format!("  {:.1} s in mode {}: {}", span.seconds, mode(span.mode), span.reason.words());
        lines.push(line(text, Tone::Dim));
    }
    lines
}

fn mode(mode: tcp_trace_core::mode::Mode) -> &'static str {
    use tcp_trace_core::mode::Mode;
    match mode {
        Mode::Stream => "stream: each transition comes for itself",
        Mode::Aggregate => {
            "aggregate: transitions are counted in the kernel, durations known to a power of two"
        }
        Mode::Count => "count: transitions are counted by kind, and nothing else is known",
    }
}

//! What is known of the run, always: whose kernel, by what means, how much, and what is lost, lacking or only counted.

use ratatui::layout::Rect;
use tcp_trace_core::{mode::Mode, process::printable, report::Report, time::WallTime};

use super::{
    super::{
        frame::{self, Frame},
        model::{Action, Model, Overlay, Timeline},
        palette::Tone,
        recorded::Recorded,
        words::{clock, count, cut, per_second},
    },
    pen::{Line, Pen, piece},
};

/// Draws it; says how many rows it takes.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model) -> u16 {
    let status = status(model);
    let width = |line: &Line| line.iter().map(|(text, _)| text.chars().count()).sum::<usize>() as u16;
    let room = area.width.saturating_sub(width(&status) + 2);
    let first = model.frame().map_or_else(Line::new, |frame| host(&frame.report, room.into()));
    pen.line(Rect { width: room, ..area }, 0, &first);
    pen.line(Rect { x: area.right().saturating_sub(width(&status)), ..area }, 0, &status);
    let mut rows = 1;
    if let Some(frame) = model.frame() {
        let parts = accounts(model, frame);
        rows += flow(pen, area, rows, &parts);
    }
    pen.hit(Rect { y: area.y + 1, height: rows - 1, ..area }, Action::Overlay(Overlay::Missing));
    if let Timeline::Recorded(recorded) = &model.timeline {
        timeline(pen, Rect { y: area.y + rows, height: 1, ..area }, recorded);
        rows += 1;
    }
    rows
}

/// Host, kernel and means.
fn host(report: &Report, room: usize) -> Line {
    let name = printable(&report.host.name).into_owned();
    let kernel = format!("  Linux {}", printable(&report.host.kernel));
    let tiers: Vec<_> = report.source.tiers.iter().copied().filter(|tier| *tier != "tracepoint").collect();
    let means = format!(
        "  {}{}",
        report.source.attach,
        tiers.iter().map(|tier| format!("+{tier}")).collect::<String>()
    );
    let mut line = vec![piece(cut(&name, room / 2), Tone::Strong)];
    let mut used = line.iter().map(|(text, _)| text.chars().count()).sum::<usize>();
    for part in [kernel, means] {
        let length = part.chars().count();
        let part = if used + length > room { cut(&part, room.saturating_sub(used)) } else { part };
        used += part.chars().count();
        line.push(piece(part, Tone::Plain));
    }
    line
}

/// Whether it goes on, and the time that it is of.
fn status(model: &Model) -> Line {
    let end = model.frame().map(|frame| frame.report.window.end);
    let time = |end: Option<WallTime>| end.map_or_else(String::new, |end| format!(" {} UTC", clock(end)));
    match &model.timeline {
        Timeline::Live { frozen: Some(_), now } => {
            let now = now.latest.as_ref().map(|frame| frame.report.window.end);
            vec![
                piece("‖ FROZEN at", Tone::Warning),
                piece(time(end), Tone::Warning),
                piece(now.map_or_else(String::new, |now| format!(" (now {})", clock(now))), Tone::Dim),
            ]
        }
        Timeline::Live { frozen: None, .. } => {
            vec![piece("● LIVE", Tone::Flow), piece(time(end), Tone::Plain)]
        }
        Timeline::Recorded(recorded) => {
            let state =
                if recorded.playing { format!("▶ {}×", recorded.speed) } else { "‖ paused".to_owned() };
            vec![
                piece(format!("{} ", cut(&recorded.name, 20)), Tone::Dim),
                piece(state, Tone::Flow),
                piece(time(end), Tone::Plain),
            ]
        }
    }
}

/// How much, and what of it is not whole.
fn accounts(model: &Model, frame: &Frame) -> Vec<Line> {
    let report = &frame.report;
    let loss = &report.loss;
    let mut parts = vec![
        vec![piece(frame.sample.transitions.map_or_else(|| "?".to_owned(), per_second), Tone::Strong)],
        vec![piece(count(frame::live(report)), Tone::Strong), piece(" sockets", Tone::Plain)],
        vec![piece(format!("{:.1} s", report.window.seconds), Tone::Strong), piece(" window", Tone::Plain)],
    ];
    parts.push(match (loss.lost, model.lost()) {
        (0, 0) => vec![piece("0 lost", Tone::Flow)],
        (0, before) => vec![piece(format!("▲ 0 lost ({} before)", count(before)), Tone::Warning)],
        (lost, _) => vec![piece(format!("✖ {} LOST", count(lost)), Tone::Critical)],
    });
    if !loss.balanced {
        parts.push(vec![piece("✖ COUNTS NOT BALANCED", Tone::Critical)]);
    }
    if let Some(text) = counted(report) {
        parts.push(vec![piece(format!("▲ {text}"), Tone::Warning)]);
    }
    for (number, what) in [(loss.side_lost, "side records lost"), (loss.untracked, "untracked")] {
        if number > 0 {
            parts.push(vec![piece(format!("▲ {} {what}", count(number)), Tone::Warning)]);
        }
    }
    let full = report.limits.iter().filter(|limit| limit.dropped > 0).count();
    if full > 0 {
        let text =
            if full == 1 { "▲ a table is full".to_owned() } else { format!("▲ {full} tables are full") };
        parts.push(vec![piece(text, Tone::Warning)]);
    }
    if let Some(every) = frame.surveyed_every {
        parts.push(vec![piece(format!("surveyed every {every} s"), Tone::Dim)]);
    }
    let mut features: Vec<_> = report.source.degradations.iter().map(|lack| lack.feature.as_str()).collect();
    features.dedup();
    if let Some(first) = features.first() {
        let more = if features.len() > 1 { format!(" +{}", features.len() - 1) } else { String::new() };
        parts.push(vec![
            piece(format!("▲ without {}{more}", printable(first)), Tone::Warning),
            piece(" (d)", Tone::Dim),
        ]);
    }
    if !model.filter.is_empty() {
        parts.push(vec![piece(format!("filter: {}", cut(&model.filter.text, 40)), Tone::Info)]);
    }
    parts
}

/// Whether transitions were only counted.
fn counted(report: &Report) -> Option<String> {
    if report.modes.iter().any(|span| span.mode == Mode::Count) {
        return Some("only counted (--mode count)".to_owned());
    }
    let spans = report.modes.iter().filter(|span| span.mode == Mode::Aggregate);
    let seconds: f64 = spans.map(|span| span.seconds).sum();
    (seconds > 0.0).then(|| format!("aggregated for {seconds:.1} s"))
}

/// Parts beside each other, on at most two rows; says how many it took.
fn flow(pen: &mut Pen<'_>, area: Rect, from: u16, parts: &[Line]) -> u16 {
    let (mut row, mut x) = (from, area.x);
    for part in parts {
        let width = part.iter().map(|(text, _)| text.chars().count()).sum::<usize>() as u16;
        if x > area.x && x + 3 + width > area.right() && row < from + 1 {
            (row, x) = (row + 1, area.x);
        }
        if x > area.x {
            x += pen.text(x, area.y + row, area.right().saturating_sub(x), " │ ", Tone::Dim);
        }
        x = pen.line(Rect { x, width: area.right().saturating_sub(x), ..area }, row, part);
    }
    row + 1 - from
}

/// Where in the recording we are, and how much of it has been read.
fn timeline(pen: &mut Pen<'_>, area: Rect, recorded: &Recorded) {
    let frames = recorded.frames();
    let ends = (frames.first(), frames.last());
    let (start, end) = match ends {
        (Some(first), Some(last)) => (clock(first.report.window.start), clock(last.report.window.end)),
        _ => (String::new(), String::new()),
    };
    let reading = match (recorded.progress, &recorded.trouble) {
        (_, Some(trouble)) => format!(" ✖ {}", cut(trouble, usize::from(area.width) / 2)),
        (Some(share), None) => {
            format!(" reading {:>3.0} % {}", share * 100.0, super::super::words::bar(share, 10))
        }
        (None, None) => String::new(),
    };
    let mut x = area.x + pen.text(area.x, area.y, area.width, &format!("{start} "), Tone::Dim);
    let right = (end.chars().count() + reading.chars().count() + 1) as u16;
    let width = area.right().saturating_sub(x + right);
    let count = frames.len().max(1);
    pen.hit(Rect::new(x, area.y, width, 1), Action::Seek(0));
    for column in 0..width {
        let from = usize::from(column) * count / usize::from(width.max(1));
        let to = ((usize::from(column) + 1) * count / usize::from(width.max(1))).max(from + 1);
        let worst = frames.get(from..to.min(frames.len())).unwrap_or_default().iter();
        let worst = worst.filter_map(|frame| frame.sample.worst).max();
        let here = (from..to).contains(&recorded.at());
        let (mark, tone) = match worst {
            _ if here => ("◆", Tone::Strong),
            Some(severity) => ("━", super::super::palette::severity(severity)),
            None => ("─", Tone::Dim),
        };
        pen.text(x + column, area.y, 1, mark, tone);
        let share = u32::from(column) * 1000 / u32::from(width.saturating_sub(1).max(1));
        pen.hit(Rect::new(x + column, area.y, 1, 1), Action::Seek(share as u16));
    }
    x += width;
    let tone = if recorded.trouble.is_some() { Tone::Critical } else { Tone::Dim };
    x += pen.text(x, area.y, area.right().saturating_sub(x), &format!(" {end}"), Tone::Dim);
    pen.text(x, area.y, area.right().saturating_sub(x), &reading, tone);
}

//! Transitions as they come; the newest at the bottom.

use ratatui::layout::Rect;
use tcp_trace_core::{
    diagram::{self, Kind},
    mode::Mode,
    report::StateChange,
};

use super::{
    super::{
        model::{Model, Timeline},
        palette::Tone,
        words::{UNKNOWN, count, time},
    },
    pen::{Pen, Piece, Table, left, piece, right},
};

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    let title = match (&model.timeline, model.is_frozen()) {
        (Timeline::Recorded(_), _) => "TRANSITIONS: the last ones of this window",
        (_, true) => "TRANSITIONS, standing still: space goes on",
        (_, false) => "TRANSITIONS",
    };
    let filter = if model.filter.is_empty() {
        "/ filters".to_owned()
    } else {
        format!("filter: {}", model.filter.text)
    };
    pen.title(area, 0, title, &filter);
    let mut below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    for text in notes(model) {
        pen.text(below.x, below.y, below.width, &text, Tone::Warning);
        below = Rect { y: below.y + 1, height: below.height.saturating_sub(1), ..below };
    }
    let page = usize::from(below.height.saturating_sub(1));
    let changes: Vec<_> = model.changes().rev().skip(model.scroll).take(page).collect();
    let wide = area.width >= 100;
    let rows: Vec<_> = changes.into_iter().rev().map(|change| cells(change, wide)).collect();
    let empty = rows.is_empty();
    let columns = vec![
        left("TIME"),
        right("PID").from(110),
        left("PROCESS").flexible(),
        left("LOCAL").flexible(),
        left("PEER").flexible(),
        left("FROM"),
        left("TO"),
        right("TIME IN FROM").from(100),
        left("WHAT").from(130),
    ];
    Table { columns, rows, selected: None }.draw(pen, below);
    (pen.drawn.rows, pen.drawn.page) = (model.changes().count(), page);
    if empty {
        let text = if model.filter.is_empty() { "None yet." } else { "None yet that the filter wants." };
        pen.text(below.x, below.y + 1, below.width, text, Tone::Dim);
    }
}

/// What is not shown.
fn notes(model: &Model) -> Vec<String> {
    let mut notes = Vec::new();
    if model.skipped > 0 {
        let text = "came faster than they can be shown; every one is in the other views' numbers";
        notes.push(format!("{} {text}", count(model.skipped)));
    }
    let counting = model.frame().and_then(|frame| frame.report.modes.last()).map(|span| span.mode);
    if matches!(counting, Some(Mode::Aggregate | Mode::Count)) {
        notes.push("Transitions are counted in the kernel now, and do not come one by one.".to_owned());
    }
    notes
}

fn cells(change: &StateChange, wide: bool) -> Vec<Piece> {
    let StateChange { time: at, old, new, duration_ns, local, peer, owner, .. } = change;
    let kind = diagram::classify(*old, *new);
    let tone = match kind {
        Kind::Normal => Tone::Plain,
        Kind::Rare => Tone::Info,
        Kind::Anomalous => Tone::Critical,
    };
    let comm = owner.and_then(|owner| owner.comm).map_or_else(|| UNKNOWN.to_owned(), |comm| comm.to_string());
    let pid = owner.map_or_else(|| UNKNOWN.to_owned(), |owner| owner.process.pid.to_string());
    let label = diagram::edge(*old, *new).map_or("", |edge| edge.label);
    let mark = if kind == Kind::Anomalous { "✖ " } else { "→ " };
    vec![
        piece(
            at.timestamp().strftime(if wide { "%H:%M:%S%.3f" } else { "%M:%S%.3f" }).to_string(),
            Tone::Dim,
        ),
        piece(pid, Tone::Plain),
        piece(comm, if owner.is_some() { Tone::Strong } else { Tone::Dim }),
        piece(local.to_string(), Tone::Plain),
        piece(peer.to_string(), Tone::Plain),
        piece(old.to_string(), tone),
        piece(format!("{mark}{new}"), tone),
        piece(time(*duration_ns), if duration_ns.is_some() { Tone::Plain } else { Tone::Dim }),
        piece(label, Tone::Dim),
    ]
}

//! Model in, cells out. Nothing here changes anything, but for saying what can be clicked where.

mod diagram;
mod findings;
mod half_open;
mod header;
mod missing;
mod overview;
mod pen;
mod process;
mod states;
mod stream;

use ratatui::{buffer::Buffer, layout::Rect};

use self::pen::{Line, Pen, line, piece};
use super::{
    keys::KEYS,
    model::{Action, Drawn, Model, Overlay, Prompt, Screen, Timeline},
    palette::Tone,
};

/// The least that anything can be shown in.
const LEAST: (u16, u16) = (40, 10);

/// Draws everything.
pub fn view(model: &Model, buffer: &mut Buffer) -> Drawn {
    let area = buffer.area;
    let mut pen = Pen { buffer, palette: model.palette, drawn: Drawn::default() };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{}×{} is too small; {}×{} will do", area.width, area.height, LEAST.0, LEAST.1);
        pen.text(area.x, area.y, area.width, &text, Tone::Plain);
        return pen.drawn;
    }
    let head = header::draw(&mut pen, area, model);
    let foot = 1;
    let body = Rect { y: area.y + head, height: area.height.saturating_sub(head + foot), ..area };
    match model.frame() {
        Some(frame) => match model.screen {
            Screen::Overview => overview::draw(&mut pen, body, model, frame),
            Screen::States => states::draw(&mut pen, body, model, frame),
            Screen::Process => process::draw(&mut pen, body, model, frame),
            Screen::HalfOpen => half_open::draw(&mut pen, body, model, frame),
            Screen::Stream => stream::draw(&mut pen, body, model),
        },
        None => waiting(&mut pen, body, model),
    }
    footer(&mut pen, Rect { y: area.bottom() - foot, height: foot, ..area }, model);
    match model.overlay {
        Some(Overlay::Help) => over(&mut pen, body, "Keys", &help(), model.scroll),
        Some(Overlay::Findings) => findings::draw(&mut pen, body, model),
        Some(Overlay::Missing) => {
            over(&mut pen, body, "What this run lacks", &missing::lines(model, body.width), model.scroll);
        }
        None => {}
    }
    pen.drawn
}

/// Before the first report.
fn waiting(pen: &mut Pen<'_>, body: Rect, model: &Model) {
    let text = match &model.timeline {
        Timeline::Live { .. } => "waiting for the first report …",
        Timeline::Recorded(recorded) if recorded.progress.is_some() => "reading the recording …",
        Timeline::Recorded(_) => "the recording holds no report; `stream --from` shows what it has",
    };
    let x = body.x + body.width.saturating_sub(text.chars().count() as u16) / 2;
    pen.text(x, body.y + body.height / 2, body.width, text, Tone::Dim);
}

/// Views and keys, or what is being typed.
fn footer(pen: &mut Pen<'_>, area: Rect, model: &Model) {
    if let Some(prompt) = &model.prompt {
        return asking(pen, area, prompt);
    }
    let mut x = area.x + 1;
    for (number, screen) in (1..).zip(Screen::ALL) {
        let text = format!("{number} {}", screen.name());
        let width = text.chars().count() as u16;
        let spot = Rect::new(x.saturating_sub(1), area.y, width + 2, 1);
        let here = screen == model.screen;
        pen.text(
            x,
            area.y,
            area.right().saturating_sub(x),
            &text,
            if here { Tone::Strong } else { Tone::Plain },
        );
        if here {
            pen.highlight(spot.intersection(area));
        }
        pen.hit(spot, Action::Show(screen));
        x += width + 2;
    }
    for (key, what) in keys_for(model) {
        let width = (key.chars().count() + what.chars().count() + 3) as u16;
        if x + width > area.right() + 1 {
            break;
        }
        x += 1;
        x += pen.text(x, area.y, area.right() - x, key, Tone::Key);
        x += 1 + pen.text(x + 1, area.y, area.right().saturating_sub(x + 1), what, Tone::Dim);
    }
}

/// What is being typed.
fn asking(pen: &mut Pen<'_>, area: Rect, prompt: &Prompt) {
    let mut pieces = vec![piece(" filter: ", Tone::Title), piece(format!("{}▏", prompt.text), Tone::Strong)];
    match &prompt.error {
        Some(error) => pieces.push(piece(format!("  ✖ {error}"), Tone::Critical)),
        None => pieces
            .push(piece("  Enter applies, Esc leaves; -p -L -D -4 -6 --container --state NAME", Tone::Dim)),
    }
    pen.line(area, 0, &pieces);
}

/// The keys that are told of at the bottom, the most useful first.
fn keys_for(model: &Model) -> &'static [(&'static str, &'static str)] {
    match (&model.timeline, model.screen) {
        (Timeline::Live { .. }, Screen::Overview) => &[
            ("?", "help"),
            ("q", "end"),
            ("/", "filter"),
            ("f", "findings"),
            ("s", "sort"),
            ("c", "containers"),
            ("⏎", "open"),
            ("space", "freeze"),
        ],
        (Timeline::Live { .. }, _) => &[
            ("?", "help"),
            ("q", "end"),
            ("/", "filter"),
            ("f", "findings"),
            ("space", "freeze"),
            ("⏎", "open"),
        ],
        (Timeline::Recorded(_), _) => &[
            ("?", "help"),
            ("q", "end"),
            ("/", "filter"),
            ("f", "findings"),
            ("space", "play"),
            ("←→", "10 s"),
            ("+-", "speed"),
        ],
    }
}

/// A box over the view.
fn over(pen: &mut Pen<'_>, body: Rect, title: &str, lines: &[Line], scroll: usize) {
    let inner = frame_over(pen, body, title, lines.len());
    pen.drawn.hits.clear();
    pen.page(inner, lines, scroll);
}

/// The box; what is inside it.
fn frame_over(pen: &mut Pen<'_>, body: Rect, title: &str, lines: usize) -> Rect {
    let width = body.width.min(110);
    let height = body.height.min(u16::try_from(lines + 2).unwrap_or(u16::MAX));
    let area =
        Rect { x: body.x + (body.width - width) / 2, y: body.y + (body.height - height) / 3, width, height };
    pen.clear(area);
    let rule = "─".repeat(usize::from(width.saturating_sub(2)));
    pen.text(area.x, area.y, width, &format!("┌{rule}┐"), Tone::Title);
    pen.text(area.x + 2, area.y, width.saturating_sub(4), &format!(" {title} "), Tone::Title);
    let leave = " Esc leaves ";
    pen.text(area.right().saturating_sub(14), area.y, 12, leave, Tone::Dim);
    for y in area.y + 1..area.bottom().saturating_sub(1) {
        pen.text(area.x, y, 1, "│", Tone::Title);
        pen.text(area.right() - 1, y, 1, "│", Tone::Title);
    }
    pen.text(area.x, area.bottom() - 1, width, &format!("└{rule}┘"), Tone::Title);
    Rect { x: area.x + 2, y: area.y + 1, width: width.saturating_sub(4), height: height.saturating_sub(2) }
}

fn help() -> Vec<Line> {
    let mut lines = Vec::new();
    for (title, keys) in KEYS {
        if !lines.is_empty() {
            lines.push(Line::new());
        }
        lines.push(line(*title, Tone::Title));
        for (key, what) in *keys {
            lines.push(vec![piece(format!("  {key:<12} "), Tone::Key), piece(*what, Tone::Plain)]);
        }
    }
    lines.push(Line::new());
    lines.push(line("Marks", Tone::Title));
    for (mark, what) in [
        ("?", "not known; never the same as 0"),
        ("≥", "at least: it began before anybody looked"),
        ("✖ ▲ ●", "critical, warning, worth knowing; in the diagram ✖ leads to CLOSE without a proper end"),
        ("~", "inferred"),
    ] {
        lines.push(vec![piece(format!("  {mark:<12} "), Tone::Key), piece(what, Tone::Plain)]);
    }
    lines
}

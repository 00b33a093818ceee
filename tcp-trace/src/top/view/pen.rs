//! Writing into cells: pieces of text in tones, tables, and pages that are longer than the screen.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

use super::super::{
    model::{Action, Drawn},
    palette::{Palette, Tone},
};

/// A piece of text, which is safe to be shown.
pub(super) type Piece = (String, Tone);

/// Pieces beside each other.
pub(super) type Line = Vec<Piece>;

/// A piece.
pub(super) fn piece(text: impl Into<String>, tone: Tone) -> Piece {
    (text.into(), tone)
}

/// A line of one piece.
pub(super) fn line(text: impl Into<String>, tone: Tone) -> Line {
    vec![piece(text, tone)]
}

/// What is drawn into, and with what.
pub(super) struct Pen<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) palette: Palette,
    pub(super) drawn: Drawn,
}

impl Pen<'_> {
    /// Writes at most `width` columns; says how many were written.
    pub(super) fn text(&mut self, x: u16, y: u16, width: u16, text: &str, tone: Tone) -> u16 {
        self.styled(x, y, width, text, self.palette.style(tone))
    }

    /// The same in a style.
    pub(super) fn styled(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let area = self.buffer.area;
        if y >= area.bottom() || x >= area.right() || width == 0 {
            return 0;
        }
        let width = width.min(area.right() - x);
        self.buffer.set_stringn(x, y, text, width.into(), style).0 - x
    }

    /// Writes pieces beside each other; says where they end.
    pub(super) fn line(&mut self, area: Rect, row: u16, line: &[Piece]) -> u16 {
        let mut x = area.x;
        if row >= area.height {
            return x;
        }
        for (text, tone) in line {
            x += self.text(x, area.y + row, area.right().saturating_sub(x), text, *tone);
        }
        x
    }

    /// A title across the area: `── TITLE ─────────`.
    pub(super) fn title(&mut self, area: Rect, row: u16, title: &str, aside: &str) {
        if row >= area.height {
            return;
        }
        let y = area.y + row;
        self.text(area.x, y, area.width, &"─".repeat(area.width.into()), Tone::Dim);
        let used = self.text(area.x + 2, y, area.width.saturating_sub(4), &format!(" {title} "), Tone::Title);
        let room = area.width.saturating_sub(used + 6);
        let length = u16::try_from(aside.chars().count()).unwrap_or(u16::MAX).saturating_add(2);
        if !aside.is_empty() && length <= room {
            self.text(area.right() - length - 2, y, length, &format!(" {aside} "), Tone::Dim);
        }
    }

    /// Something there can be clicked.
    pub(super) fn hit(&mut self, area: Rect, action: Action) {
        self.drawn.hits.push((area, action));
    }

    /// The row is the selected one.
    pub(super) fn highlight(&mut self, area: Rect) {
        self.buffer.set_style(area, self.palette.selected());
    }

    /// Everything there is less important than what lies over it.
    pub(super) fn clear(&mut self, area: Rect) {
        for y in area.top()..area.bottom() {
            self.buffer.set_stringn(
                area.x,
                y,
                " ".repeat(area.width.into()),
                area.width.into(),
                Style::reset().remove_modifier(Modifier::all()),
            );
        }
    }

    /// A page of which the lines from `first` on are shown, with a mark where there is more.
    pub(super) fn page(&mut self, area: Rect, lines: &[Line], first: usize) {
        let room = usize::from(area.height);
        let page = if lines.len() > room { room.saturating_sub(1) } else { room };
        let first = first.min(lines.len().saturating_sub(page));
        for (row, line) in (0..area.height).zip(lines.iter().skip(first).take(page)) {
            self.line(area, row, line);
        }
        if page < room {
            let below = lines.len().saturating_sub(first + page);
            let above = if first > 0 { format!("↑ {first} more  ") } else { String::new() };
            let below = if below > 0 { format!("↓ {below} more") } else { String::new() };
            self.text(area.x + 2, area.bottom() - 1, area.width, &format!("{above}{below}"), Tone::Key);
        }
        (self.drawn.rows, self.drawn.page) = (lines.len(), page);
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its title.
    pub(super) title: &'static str,
    /// Numbers stand at the right.
    pub(super) right: bool,
    /// It is left out when the area is narrower than this.
    pub(super) from: u16,
    /// It takes what the others leave, and is cut first.
    pub(super) flexible: bool,
    /// What a click on its title does.
    pub(super) action: Option<Action>,
}

/// Text, from the left.
pub(super) const fn left(title: &'static str) -> Column {
    Column { title, right: false, from: 0, flexible: false, action: None }
}

/// Numbers, from the right.
pub(super) const fn right(title: &'static str) -> Column {
    Column { right: true, ..left(title) }
}

impl Column {
    pub(super) const fn flexible(self) -> Self {
        Self { flexible: true, ..self }
    }

    pub(super) const fn from(self, from: u16) -> Self {
        Self { from, ..self }
    }

    pub(super) const fn clicked(self, action: Action) -> Self {
        Self { action: Some(action), ..self }
    }
}

/// A table that rows can be selected in.
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Piece>>,
    pub(super) selected: Option<usize>,
}

impl Table {
    /// Draws titles and as many rows as there is room for, the selected one among them.
    pub(super) fn draw(&self, pen: &mut Pen<'_>, area: Rect) {
        let room = usize::from(area.height.saturating_sub(1));
        // What is not seen is said in a line of its own.
        let page = if self.rows.len() > room { room.saturating_sub(1) } else { room };
        (pen.drawn.rows, pen.drawn.page) = (self.rows.len(), page);
        if area.height == 0 {
            return;
        }
        let selected = self.selected.map(|row| row.min(self.rows.len().saturating_sub(1)));
        let first = selected.map_or(0, |row| (row + 1).saturating_sub(page));
        let seen = self.rows.get(first..).unwrap_or_default();
        let seen = seen.get(..page.min(seen.len())).unwrap_or_default();
        let places = self.places(area, seen);
        for (index, x, width) in &places {
            let Some(column) = self.columns.get(*index) else { continue };
            put(pen, (*x, area.y, *width), column.title, Tone::Dim, column.right);
            if let Some(action) = column.action {
                pen.hit(Rect::new(*x, area.y, *width, 1), action);
            }
        }
        for (offset, row) in seen.iter().enumerate() {
            let y = area.y + 1 + offset as u16;
            for (index, x, width) in &places {
                if let (Some(column), Some((text, tone))) = (self.columns.get(*index), row.get(*index)) {
                    put(pen, (*x, y, *width), text, *tone, column.right);
                }
            }
            let line = Rect::new(area.x, y, area.width, 1);
            if selected.is_some() {
                pen.hit(line, Action::Select(first + offset));
            }
            if selected == Some(first + offset) {
                pen.highlight(line);
            }
        }
        let below = self.rows.len().saturating_sub(first + seen.len());
        if page < room {
            let above = if first > 0 { format!("↑ {first} more  ") } else { String::new() };
            let below = if below > 0 { format!("↓ {below} more") } else { String::new() };
            pen.text(area.x + 2, area.bottom() - 1, area.width, &format!("{above}{below}"), Tone::Dim);
        }
    }

    /// Index, place and width of each column that is shown.
    fn places(&self, area: Rect, rows: &[Vec<Piece>]) -> Vec<(usize, u16, u16)> {
        let shown: Vec<_> =
            self.columns.iter().enumerate().filter(|(_, column)| column.from <= area.width).collect();
        let wanted = |index: usize, column: &Column| {
            let cells = rows.iter().filter_map(|row| row.get(index)).map(|(text, _)| text.chars().count());
            cells.chain([column.title.chars().count()]).max().unwrap_or(0) as u16
        };
        let mut widths: Vec<u16> = shown.iter().map(|(index, column)| wanted(*index, column)).collect();
        let bare: u16 = widths.iter().fold(0, |sum, width| sum.saturating_add(*width));
        let gaps = (widths.len() as u16).saturating_sub(1);
        let gap = if bare.saturating_add(2 * gaps) <= area.width { 2 } else { 1 };
        let sum = bare.saturating_add(gap * gaps);
        for _ in 0..sum.saturating_sub(area.width) {
            let flexible = shown.iter().zip(&mut widths).filter(|((_, column), _)| column.flexible);
            if let Some((_, widest)) = flexible.max_by_key(|(_, width)| **width) {
                *widest = widest.saturating_sub(1).max(8);
            }
        }
        let mut x = area.x;
        shown
            .iter()
            .zip(widths)
            .map(|((index, _), width)| {
                let place = (*index, x, width.min(area.right().saturating_sub(x)));
                x = x.saturating_add(width + gap);
                place
            })
            .collect()
    }
}

/// A cell; a text that is too long ends in `…`.
fn put(pen: &mut Pen<'_>, (x, y, width): (u16, u16, u16), text: &str, tone: Tone, right: bool) {
    let text = super::super::words::cut(text, width.into());
    let length = text.chars().count() as u16;
    let x = if right { x + width.saturating_sub(length) } else { x };
    pen.text(x, y, width, &text, tone);
}

//! Lines between boxes: paths that join and cross each other properly, with heads.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::{super::palette::Tone, pen::Pen};

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

/// Lines by the directions that lead out of a cell.
const LINES: [&str; 16] = [" ", "│", "│", "│", "─", "┘", "┐", "┤", "─", "└", "┌", "├", "─", "┴", "┬", "┼"];

/// A cell, from the left and from the top.
pub(super) type Point = (u16, u16);

/// Lines under way.
#[derive(Debug, Default)]
pub(super) struct Wires {
    cells: BTreeMap<(u16, u16), (u8, Tone)>,
    heads: Vec<(Point, &'static str, Tone)>,
}

impl Wires {
    /// A line through these points, of which two that follow each other share a row or a column; with a head at the end.
    pub(super) fn path(&mut self, points: &[Point], tone: Tone, head: Option<&'static str>) {
        for pair in points.windows(2) {
            if let [from, to] = *pair {
                self.segment(from, to, tone);
            }
        }
        if let (Some(head), Some(last)) = (head, points.last()) {
            self.heads.push((*last, head, tone));
        }
    }

    fn segment(&mut self, (x1, y1): Point, (x2, y2): Point, tone: Tone) {
        if y1 == y2 {
            for x in x1.min(x2)..x1.max(x2) {
                self.join((x, y1), RIGHT, tone);
                self.join((x + 1, y1), LEFT, tone);
            }
        } else {
            for y in y1.min(y2)..y1.max(y2) {
                self.join((x1, y), DOWN, tone);
                self.join((x1, y + 1), UP, tone);
            }
        }
    }

    fn join(&mut self, (x, y): Point, direction: u8, tone: Tone) {
        let (directions, known) = self.cells.entry((y, x)).or_insert((0, tone));
        *directions |= direction;
        if rank(tone) > rank(*known) {
            *known = tone;
        }
    }

    /// Draws them; points count from the corner of the area.
    pub(super) fn draw(&self, pen: &mut Pen<'_>, area: Rect) {
        for ((y, x), (directions, tone)) in &self.cells {
            let symbol = LINES.get(usize::from(*directions)).copied().unwrap_or(" ");
            put(pen, area, (*x, *y), symbol, *tone);
        }
        for (point, head, tone) in &self.heads {
            put(pen, area, *point, head, *tone);
        }
    }
}

fn put(pen: &mut Pen<'_>, area: Rect, (x, y): Point, symbol: &str, tone: Tone) {
    if x < area.width && y < area.height {
        pen.text(area.x + x, area.y + y, 1, symbol, tone);
    }
}

/// Which of two lines over each other is seen.
fn rank(tone: Tone) -> u8 {
    match tone {
        Tone::Dim => 0,
        Tone::Critical => 3,
        Tone::Warning => 2,
        _ => 1,
    }
}

//! A page for a terminal: Markdown without its marks.

use std::fmt::Write as _;

/// The page as it is read on a terminal. Knows what the pages use: a title, prose, lists, fenced drawings, tables.
#[must_use]
pub fn plain(page: &str) -> String {
    let mut text = String::new();
    let mut drawing = false;
    let mut table: Vec<Vec<String>> = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            drawing = !drawing;
            continue;
        }
        if !drawing && line.starts_with('|') {
            table.extend(cells(line));
            continue;
        }
        flush(&mut text, &mut table);
        if drawing {
            text += line;
        } else {
            text += &unmarked(line.trim_start_matches('#').trim_start_matches(' '), line);
        }
        text.push('\n');
    }
    flush(&mut text, &mut table);
    text
}

/// Without the marks of emphasis and code; the indentation of lists stays.
fn unmarked(text: &str, line: &str) -> String {
    let text = if line.starts_with('#') { text } else { line };
    text.replace(['`', '*'], "")
}

/// The cells of a row; `None` of the line below the titles.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().trim_matches('|');
    let is_rule = inner.chars().all(|letter| matches!(letter, '-' | '|' | ' ' | ':'));
    (!is_rule).then(|| inner.split('|').map(|cell| unmarked(cell.trim(), cell.trim())).collect())
}

/// Writes a table in columns as wide as they need to be.
fn flush(text: &mut String, table: &mut Vec<Vec<String>>) {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in table.drain(..) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "  {cell:<width$}");
        }
        *text += line.trim_end();
        text.push('\n');
    }
}

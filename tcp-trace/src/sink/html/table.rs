//! Tables: text to the left, numbers to the right; the script sorts by what a cell says or, of numbers, by what they are.

use maud::{Markup, html};
use tcp_trace_core::process::printable;

use super::ROWS;
use crate::sink::units::{count, duration, maybe};

/// Longer texts are broken into lines.
const LONG: usize = 44;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    is_number: bool,
}

impl Column {
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, is_number: false }
    }

    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, is_number: true }
    }
}

/// A cell: what it shows, and what it is sorted by.
#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    /// `None`: by its text. Unknown numbers come last either way.
    value: Option<f64>,
    is_alarming: bool,
}

impl Cell {
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), value: None, is_alarming: false }
    }

    pub(super) fn count(number: u64) -> Self {
        Self { text: count(number), value: Some(number as f64), is_alarming: false }
    }

    pub(super) fn maybe(number: Option<u64>) -> Self {
        Self { text: maybe(number), value: number.map(|number| number as f64), is_alarming: false }
    }

    pub(super) fn duration(nanoseconds: Option<u64>) -> Self {
        Self { text: duration(nanoseconds), value: nanoseconds.map(|ns| ns as f64), is_alarming: false }
    }

    /// A text that stands for a number.
    pub(super) fn valued(text: String, value: Option<f64>) -> Self {
        Self { text, value, is_alarming: false }
    }

    /// Worth a look, if it is.
    pub(super) fn alarming(self, is: bool) -> Self {
        Self { is_alarming: is, ..self }
    }

    /// Whether it takes more than a line.
    fn is_long(&self) -> bool {
        self.text.chars().nth(LONG).is_some()
    }
}

/// A table under a caption, or nothing if it has no rows.
pub(super) fn table(caption: &str, columns: &[Column], rows: Vec<Vec<Cell>>) -> Markup {
    if rows.is_empty() {
        return Markup::default();
    }
    let omitted = rows.len().saturating_sub(ROWS) as u64;
    html! {
        div.table tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { span { (caption) } }
                thead {
                    tr { @for column in columns { th.n[column.is_number] scope="col" { (column.title) } } }
                }
                tbody {
                    @for row in rows.into_iter().take(ROWS) {
                        tr {
                            @for (cell, column) in row.iter().zip(columns) {
                                td.n[column.is_number].bad[cell.is_alarming].w[cell.is_long()] data-v=[cell.value] { (cell.text) }
                            }
                        }
                    }
                }
            }
            @if omitted > 0 { p.more { "… and " (count(omitted)) " more (" code { "--json" } " has all)" } }
        }
    }
}

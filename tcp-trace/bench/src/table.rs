//! Tables, for a terminal and in Markdown.

use std::fmt::Write as _;

/// A table of figures; the first column has names.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let Self { title, columns, rows, notes } = self;
        let lines = || std::iter::once(columns).chain(rows);
        let width = |column: usize| {
            lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        let mut text = format!("{title}\n");
        for line in lines() {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            let cells: Vec<String> = cells.collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
        }
        notes.iter().for_each(|note| _ = writeln!(text, "  {note}"));
        text
    }

    /// In Markdown.
    pub(crate) fn markdown(&self) -> String {
        let Self { title, columns, rows, notes } = self;
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = (0..columns.len()).map(|column| if column == 0 { "---" } else { "---:" }.to_owned());
        let mut text = format!("**{title}**\n\n{}{}", line(columns), line(&rule.collect::<Vec<_>>()));
        rows.iter().for_each(|row| text.push_str(&line(row)));
        notes.iter().for_each(|note| _ = write!(text, "\n{note}\n"));
        text
    }
}

/// Puts Markdown into the places of a document that are marked for it: between `<!-- bench: NAME -->` and
/// `<!-- end -->`. Returns `None` if there is no place with this name.
pub(crate) fn fill(document: &str, name: &str, markdown: &str) -> Option<String> {
    let begin = format!("<!-- bench: {name} -->");
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once("<!-- end -->")?;
    Some(format!("{before}{begin}\n{}\n<!-- end -->{after}", markdown.trim_end()))
}

/// A number with as many digits as say something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number, with a comma at each thousand.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

/// What is not known.
pub(crate) const UNKNOWN: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("Cost", &["program", "ns"]);
        table.row(["empty".into(), "58.1".into()]);
        table.row(["a|b".into(), "8,135".into()]);
        table.note("Two rounds.");
        table
    }

    #[test]
    fn figures_stand_right() {
        assert_eq!(
            table().text(),
            "Cost\n  program     ns\n  empty     58.1\n  a|b      8,135\n  Two rounds.\n"
        );
    }

    #[test]
    fn markdown_has_a_rule_and_escapes() {
        assert_eq!(
            table().markdown(),
            "**Cost**\n\n| program | ns |\n| --- | ---: |\n| empty | 58.1 |\n| a\\|b | 8,135 |\n\nTwo rounds.\n"
        );
    }

    #[test]
    fn a_marked_place_is_filled_again_and_again() {
        let document = "a\n<!-- bench: kernel -->\n<!-- end -->\nb\n";
        let once = fill(document, "kernel", "x\n").unwrap();
        assert_eq!(once, "a\n<!-- bench: kernel -->\nx\n<!-- end -->\nb\n");
        assert_eq!(fill(&once, "kernel", "x\n").unwrap(), once);
        assert_eq!(fill(document, "victim", "x"), None);
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let shown = [0.0, 1.654, 58.13, 252.4, 8_135.4, 1_234_567.0, -1_000.0, -0.2].map(number);
        assert_eq!(shown, ["0.00", "1.65", "58.1", "252", "8,135", "1,234,567", "-1,000", "-0.20"]);
    }
}

//! A report as one page for a browser, and its state diagram as a picture of its own. Nothing here reads or writes: report
//! in, text out.
//!
//! The page holds everything that it needs and may load nothing (its Content-Security-Policy says so). Without its script
//! it is complete; the script sorts tables, filters them, and switches between dark and light.
//!
//! Names in it come from whoever runs a process on the traced host. Two things keep them from doing harm, and neither can be
//! forgotten in a template: `maud` escapes every value that is not markup itself, and `finish` replaces every character of
//! the finished text that controls a terminal, turns the direction of text or cannot be seen.

mod chart;
mod closing;
mod connects;
mod diagram;
mod findings;
mod half_open;
mod head;
mod histogram;
mod overview;
mod processes;
mod scale;
mod table;
#[cfg(test)]
mod tests;
mod waterfall;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use tcp_trace_core::{process::printable_lines, report::Report};

/// Rows of a table at most; the JSON document has them all.
const ROWS: usize = 500;

const STYLE: &str = concat!(include_str!("diagram.css"), include_str!("page.css"));
const SCRIPT: &str = include_str!("page.js");
/// What the page may use: this very style and script, and nothing else, from nowhere. `build.rs` makes the hashes.
const POLICY: &str = concat!(
    "default-src 'none'; style-src 'sha256-",
    env!("TCP_TRACE_PAGE_CSS_SHA256"),
    "'; script-src 'sha256-",
    env!("TCP_TRACE_PAGE_JS_SHA256"),
    "'; img-src data:; base-uri 'none'; form-action 'none'"
);

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let sections = [
        findings::section(report),
        overview::diagram(report),
        overview::over_time(report),
        half_open::section(report),
        connects::section(report),
        closing::close_wait(report),
        closing::time_wait(report),
        closing::endings(report),
        processes::section(report),
        head::provenance(report),
    ];
    let sections: Vec<_> = sections.into_iter().flatten().collect();
    let title = format!("tcp-trace: {}, {}", report.host.name, head::day(report.window.start));
    finish(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="generator" content="tcp-trace";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#findings" { "Skip to the findings" }
                (head::head(report))
                nav aria-label="Sections" {
                    ul { @for section in &sections { li { a href={ "#" (section.id) } { (section.short) } } } }
                }
                main {
                    @for section in &sections {
                        section id=(section.id) aria-labelledby={ (section.id) "-title" } {
                            h2 id={ (section.id) "-title" } { (section.title) }
                            (section.body)
                        }
                    }
                }
                footer { "Made by tcp-trace. It names hosts, addresses and processes: share it with that in mind." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    })
}

/// The state diagram alone, as a picture that a browser or an editor opens.
#[must_use]
pub fn picture(report: &Report) -> String {
    finish(diagram::standalone(report))
}

/// A part of the page.
struct Section {
    id: &'static str,
    /// In the list of sections.
    short: &'static str,
    title: String,
    body: Markup,
}

/// The text of a finished document, in which nothing is left that would do anything to whoever looks at it.
fn finish(markup: Markup) -> String {
    printable_lines(&markup.into_string()).into_owned() + "\n"
}

/// A paragraph in which what stands between backticks is code.
fn prose(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

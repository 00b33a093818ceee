//! The top of the page: whose report it is, whether everything is accounted for, and the numbers that one asks for first.
//! And its end: where the numbers come from, and what they lack.

use maud::{Markup, html};
use tcp_trace_core::{
    findings::{Finding, Severity},
    mode::Mode,
    report::{Connect, Loss, Report},
    state::TcpState,
    time::WallTime,
};

use super::{
    Section,
    table::{Cell, Column, table},
};
use crate::sink::{
    report_table::{balance, lacks, limit_words, mode_words, notes},
    units::{count, duration},
};

/// Host, window, what is lost or degraded, and the first numbers.
pub(super) fn head(report: &Report) -> Markup {
    let Report { host, window, source, loss, .. } = report;
    let lacking = lacks(report).len();
    let limits = limit_words(report).count();
    html! {
        header {
            div.title {
                h1 { (host.name) }
                button #theme type="button" hidden { "Dark or light" }
            }
            p.facts {
                "Linux " (host.kernel) " · " (day(window.start)) " " (clock(window.start)) " to " (clock(window.end))
                " UTC, " (duration(Some(nanoseconds(window.seconds)))) " · traced by " (source.tiers.join(", "))
            }
            ul.status role="list" aria-label="What the numbers lack" {
                li.(if whole(loss) { "good" } else { "bad" }) { (balance(loss)) }
                @for note in notes(loss) { li.warn { (note) } }
                @if let Some(words) = mode_words(report) { li.warn { (words) } }
                @if lacking > 0 {
                    li.warn { a href="#provenance" { (lacking) " " (plural(lacking, "thing is", "things are")) " not available in this run" } }
                }
                @if limits > 0 {
                    li.warn { a href="#provenance" { (limits) " " (plural(limits, "limit was", "limits were")) " hit" } }
                }
            }
            dl.numbers { @for number in numbers(report) { (number) } }
        }
    }
}

/// Whether every transition is accounted for and none is missing.
fn whole(loss: &Loss) -> bool {
    loss.balanced && loss.lost == 0
}

fn plural<'a>(number: usize, one: &'a str, more: &'a str) -> &'a str {
    if number == 1 { one } else { more }
}

/// `2026-01-15`.
pub(super) fn day(time: WallTime) -> String {
    time.timestamp().strftime("%Y-%m-%d").to_string()
}

/// `03:00:21`.
pub(super) fn clock(time: WallTime) -> String {
    time.timestamp().strftime("%H:%M:%S").to_string()
}

/// Of a window's length.
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// A number with its name; worth a look if it is more than nothing and `alarming`.
fn number(name: &str, value: Option<u64>, note: &str, alarming: bool, link: &str) -> Markup {
    let alarming = alarming && value.is_some_and(|value| value > 0);
    html! {
        div.(if alarming { "alarm" } else { "calm" }) {
            dt { a href={ "#" (link) } { (name) } }
            dd {
                @match value {
                    Some(value) => (count(value)),
                    None => span.unknown title="not known in this run" { "not known" },
                }
                @if !note.is_empty() { small { (note) } }
            }
        }
    }
}

fn numbers(report: &Report) -> [Markup; 7] {
    let Report { window, loss, close_wait, half_open, time_wait, states, connect, findings, .. } = report;
    let urgent = |finding: &&Finding| finding.severity >= Severity::Warning;
    let findings = findings.as_ref().map(|findings| findings.iter().filter(urgent).count() as u64);
    let rate = if window.seconds > 0.0 {
        format!("{} a second", count((loss.seen as f64 / window.seconds).round() as u64))
    } else {
        String::new()
    };
    let established = states.get(&TcpState::Established).and_then(|state| state.live);
    let failed = connect.iter().map(failures).fold(0_u64, u64::saturating_add);
    let lingering = format!("{} in CLOSE_WAIT", count(close_wait.live));
    let entered = time_wait.entered.map_or_else(String::new, |entered| format!("{} entered", count(entered)));
    [
        number("Findings", findings, "warnings and worse", true, "findings"),
        number("Transitions seen", Some(loss.seen), &rate, false, "diagram"),
        number("Established now", established, "", false, "diagram"),
        number("Lingering CLOSE_WAIT", Some(close_wait.lingering), &lingering, true, "close-wait"),
        number("Half-open now", half_open.live, "", false, "half-open"),
        number("TIME_WAIT now", time_wait.live, &entered, false, "time-wait"),
        number("Failed connects", Some(failed), "", true, "connects"),
    ]
}

/// Attempts that failed. Those that the program gave up itself are no failures of the destination.
fn failures(row: &Connect) -> u64 {
    let Connect { refused, timed_out, unreachable, reset, failed, .. } = *row;
    [refused, timed_out, unreachable, reset, failed].into_iter().fold(0, u64::saturating_add)
}

/// Where the numbers come from, and what they lack.
pub(super) fn provenance(report: &Report) -> Option<Section> {
    let Loss {
        seen,
        delivered,
        filtered,
        lost,
        aggregated,
        unattributed,
        missed,
        balanced,
        repaired,
        untracked,
        side_lost,
    } = report.loss;
    let rows = [
        ("Seen by the kernel's tracepoint", Some(seen)),
        ("Delivered to this report", Some(delivered)),
        ("Turned away by the filter", Some(filtered)),
        ("Lost (counted by kind, missing elsewhere)", Some(lost)),
        ("Of the lost, of unknown kind", Some(missed)),
        ("Aggregated in the kernel", Some(aggregated)),
        ("Of the aggregated, by kind only", Some(unattributed)),
        ("Of connections that could not be followed", Some(untracked)),
        ("Other records lost", Some(side_lost)),
        ("Connections repaired by a survey", repaired),
    ];
    let rows = rows.into_iter().map(|(name, number)| vec![Cell::text(name), Cell::maybe(number)]).collect();
    let limits: Vec<_> = limit_words(report).collect();
    Some(Section {
        id: "provenance",
        short: "Sources",
        title: "Where the numbers come from, and what they lack".to_owned(),
        body: html! {
            p {
                "Attached by " code { (report.source.attach) } "; sources: " (report.source.tiers.join(", ")) ". "
                @if balanced { "The balance holds, kind by kind." }
                @else { strong { "The balance does not hold: the counts cannot be trusted." } }
            }
            (table("The balance of transitions", &[Column::text("What"), Column::number("Transitions")], rows))
            (modes(report))
            @if !limits.is_empty() {
                h3 { "Limits that were hit in this run" }
                ul { @for limit in &limits { li { (limit) } } }
            }
            (degradations(report))
        },
    })
}

fn modes(report: &Report) -> Markup {
    let rows = report.modes.iter().map(|span| {
        vec![
            Cell::text(mode(span.mode)),
            Cell::text(span.reason.words()),
            Cell::text(clock(span.start)),
            Cell::duration(Some(nanoseconds(span.seconds))),
        ]
    });
    let columns =
        [Column::text("Mode"), Column::text("Why"), Column::text("From (UTC)"), Column::number("For")];
    html! { @if report.modes.len() > 1 { (table("How transitions reached the program", &columns, rows.collect())) } }
}

/// What begins with a capital letter.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Stream => "each for itself",
        Mode::Aggregate => "aggregated in the kernel",
        Mode::Count => "counted in the kernel",
    }
}

fn degradations(report: &Report) -> Markup {
    let lacks = lacks(report);
    html! {
        @if !lacks.is_empty() {
            h3 { "Not available in this run" }
            @for lack in &lacks {
                article.lack {
                    h4 { (lack.features.join(", ")) }
                    p { (sentence(lack.cause)) "." }
                    @if !lack.effects.is_empty() {
                        p { "So: " (lack.effects.join("; ")) "." }
                    }
                    @if let Some(remedy) = lack.remedy { p.advice { "To get it: " (remedy) "." } }
                }
            }
        }
    }
}

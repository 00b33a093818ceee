//! What is wrong: the sentence first, then what to do, then the numbers.

use maud::{Markup, html};
use tcp_trace_core::{
    findings::{Evidence, Finding, Severity},
    report::Report,
};

use super::{
    Section,
    head::{clock, day},
    prose,
};
use crate::sink::report_table::findings::number;

/// The section.
pub(super) fn section(report: &Report) -> Option<Section> {
    let findings = report.findings.as_ref()?;
    let body = html! {
        @if findings.is_empty() { p.good { "None: no rule has found anything wrong in this run." } }
        @for finding in findings { (card(report, finding)) }
    };
    let title = match findings.len() {
        0 => "Findings".to_owned(),
        1 => "1 finding".to_owned(),
        number => format!("{number} findings"),
    };
    Some(Section { id: "findings", short: "Findings", title, body })
}

fn card(report: &Report, finding: &Finding) -> Markup {
    let Finding { id, severity, subject, since, cause, advice, evidence } = finding;
    let class = match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let since = since.map(|since| {
        let same_day = day(since) == day(report.window.start);
        if same_day { clock(since) } else { format!("{} {}", day(since), clock(since)) }
    });
    html! {
        article.finding.(class) {
            h3 {
                span.severity { (severity.name()) } " "
                span.rule { (id) } ": " (subject)
            }
            @if let Some(since) = since { p.since { "Since " (since) " UTC" } }
            p { (prose(cause)) }
            p.advice { (prose(advice)) }
            dl.evidence { @for evidence in evidence { (fact(evidence)) } }
        }
    }
}

/// A number, and on demand where it is from.
fn fact(evidence: &Evidence) -> Markup {
    let text = number(evidence);
    // The name comes first in it.
    let value = text.strip_prefix(evidence.name).unwrap_or(&text).trim_start();
    html! { div title=(evidence.source) { dt { (evidence.name) } dd { (value) } } }
}

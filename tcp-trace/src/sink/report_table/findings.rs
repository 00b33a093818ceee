//! What is wrong: the sentence first, then what to do, then the numbers.

use tcp_trace_core::{
    findings::{Evidence, Finding, Severity, Value},
    process::printable,
    report::Report,
};

use super::{ROWS, WIDTH, more};
use crate::sink::units::{count, duration, wrapped};

/// The section.
pub(super) fn findings(report: &Report) -> String {
    let Some(findings) = &report.findings else { return String::new() };
    if findings.is_empty() {
        return "Findings: none\n".to_owned();
    }
    let texts: String = findings.iter().take(ROWS).map(|finding| text(report, finding)).collect();
    let omitted = findings.len().saturating_sub(ROWS);
    format!("Findings\n{texts}{}", more(omitted as u64, "  ", " (--json has all)"))
}

fn text(report: &Report, finding: &Finding) -> String {
    let Finding { id, severity, subject, since, cause, advice, evidence } = finding;
    let severity = match severity {
        Severity::Info => "info",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
    };
    let since = since.map(|since| {
        // The head has the date of the report's own day.
        let day = |time: tcp_trace_core::time::WallTime| time.timestamp().strftime("%Y-%m-%d").to_string();
        let format = if day(since) == day(report.window.start) { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        format!(", since {} UTC", since.timestamp().strftime(format))
    });
    let head = format!("{severity} {id}: {subject}{}", since.unwrap_or_default());
    let numbers = evidence.iter().map(number).collect::<Vec<_>>().join("; ");
    wrapped(&printable(&head), "  ", WIDTH)
        + &wrapped(&printable(cause), "    ", WIDTH)
        + &wrapped(&printable(&format!("→ {advice}")), "    ", WIDTH)
        + &wrapped(&printable(&numbers), "    ", WIDTH)
}

/// `lingering 37 sockets`, `oldest 8.89 s`, `listener 127.0.0.1:8080 (37 of 37)`; inferred ones are said to be.
fn number(evidence: &Evidence) -> String {
    let Evidence { name, value, unit, source } = evidence;
    let value = match (value, *unit) {
        (Value::Count(ns), "ns") => duration(Some(*ns)),
        (Value::Count(number), "") => count(*number),
        (Value::Count(number), unit) => format!("{} {unit}", count(*number)),
        (Value::Real(share), "share") => format!("{:.0} %", share * 100.0),
        (Value::Real(real), unit) => format!("{real:.1} {unit}").trim_end().to_owned(),
        (Value::Text(text), _) => text.clone(),
        (Value::Unknown, _) => "not known".to_owned(),
    };
    let inferred = if source.starts_with("inferred") { " (inferred)" } else { "" };
    format!("{name} {value}{inferred}")
}

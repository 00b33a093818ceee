//! What is wrong: the sentence first, then what to do, then the numbers.

use tcp_trace_core::{
    findings::{Evidence, Finding, Severity, Value},
    process::printable,
    report::Report,
    time::WallTime,
};

use super::{ROWS, WIDTH, more};
use crate::sink::units::{count, duration, wrapped};

/// Stands for a blank that no line may be broken at.
const UNBREAKABLE: char = '\u{a0}';

/// The section.
pub(super) fn findings(report: &Report) -> String {
    let Some(findings) = &report.findings else { return String::new() };
    if findings.is_empty() {
        return "Findings: none\n".to_owned();
    }
    let texts: Vec<_> = findings.iter().take(ROWS).map(|finding| text(report, finding)).collect();
    let omitted = findings.len().saturating_sub(ROWS);
    format!("Findings\n{}{}", texts.join("\n"), more(omitted as u64, "  ", " (--json has all)"))
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
        let day = |time: WallTime| time.timestamp().strftime("%Y-%m-%d").to_string();
        let format = if day(since) == day(report.window.start) { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        format!("Since {} UTC: ", since.timestamp().strftime(format))
    });
    let numbers = evidence.iter().map(number).collect::<Vec<_>>().join("; ");
    let paragraph = |text: &str, indent: &str| {
        // Names of others may be in it.
        wrapped(&unbroken(&printable(text)), indent, WIDTH).replace(UNBREAKABLE, " ")
    };
    paragraph(&format!("{severity} {id}: {subject}"), "  ")
        + &paragraph(&format!("{}{cause}", since.unwrap_or_default()), "    ")
        + &paragraph(&format!("→ {advice}"), "    ")
        + &paragraph(&format!("({numbers})"), "    ")
}

/// Commands, between backticks, stay on one line if they fit one: they are there to be copied.
fn unbroken(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(place, part)| {
        let command = place % 2 == 1 && part.chars().count() < WIDTH - 10;
        if command { part.replace(' ', &UNBREAKABLE.to_string()) } else { part.to_owned() }
    });
    parts.collect::<Vec<_>>().join("`")
}

/// `lingering 37`, `oldest 8.89 s`, `growth 24.0 sockets/min`, `listener 127.0.0.1:8080 (37 of 37)`; what is inferred is
/// said to be.
pub(in crate::sink) fn number(evidence: &Evidence) -> String {
    let Evidence { name, value, unit, source } = evidence;
    let value = match (value, *unit) {
        (Value::Count(ns), "ns") => duration(Some(*ns)),
        (Value::Count(1), "reports") => "1 report".to_owned(),
        (Value::Count(number), "reports") => format!("{} reports", count(*number)),
        // What is counted is in the name.
        (Value::Count(number), _) => count(*number),
        (Value::Real(share), "share") => format!("{:.0} %", share * 100.0),
        (Value::Real(real), unit) => format!("{real:.1} {unit}").trim_end().to_owned(),
        (Value::Text(text), _) => text.clone(),
        (Value::Unknown, _) => "not known".to_owned(),
    };
    let inferred = if source.starts_with("inferred") { " (inferred)" } else { "" };
    format!("{name} {value}{inferred}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_not_broken_unless_they_are_too_long_for_a_line() {
        assert_eq!(unbroken("run `ss -ltn` now"), "run `ss\u{a0}-ltn` now");
        let long = format!("`{}`", "a ".repeat(40));
        assert_eq!(unbroken(&long), long);
        assert_eq!(unbroken("an odd ` one"), "an odd ` one".replacen("` one", "`\u{a0}one", 1));
    }
}

//! What the doctor found, for people: one page.

use std::fmt::Write as _;

use tcp_trace_core::{
    doctor::{Check, Diagnosis, HookRow, Outcome, Status, Tier, Works},
    process::printable,
};

use super::units::wrapped;

/// Prose is broken into lines of this length.
const WIDTH: usize = 80;

/// The whole page. It begins with what is to be known first, and ends with what to do.
pub(super) fn render(diagnosis: &Diagnosis) -> String {
    let sections = [
        head(diagnosis),
        checks(diagnosis),
        capabilities(diagnosis),
        hooks(diagnosis),
        tiers(diagnosis),
        next(diagnosis),
    ];
    sections.join("\n")
}

fn head(diagnosis: &Diagnosis) -> String {
    let Diagnosis { host, ready, .. } = diagnosis;
    let verdict = if *ready { "transitions can be traced here" } else { "TRANSITIONS CANNOT BE TRACED HERE" };
    format!("{}, Linux {}: {verdict}\n", printable(&host.name), printable(&host.kernel))
}

fn mark(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Limits => "!!",
        Status::Unknown => "??",
        Status::Info => "--",
    }
}

fn checks(diagnosis: &Diagnosis) -> String {
    let mut text = "Host\n".to_owned();
    for Check { name, status, value, note } in &diagnosis.checks {
        let note = note.as_ref().map_or_else(String::new, |note| format!("; {note}"));
        let head = format!("  {}  {name:<25} ", mark(*status));
        text += &hanging(&head, &printable(&format!("{value}{note}")));
    }
    text
}

/// A line that is broken where it is too long; its other parts begin where the first one does, after `head`.
fn hanging(head: &str, body: &str) -> String {
    let indent = head.chars().count();
    let mut text = String::new();
    for (number, part) in wrapped(body, "", WIDTH.saturating_sub(indent)).lines().enumerate() {
        let start = if number == 0 { head.to_owned() } else { " ".repeat(indent) };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{start}{}", part.trim_start());
    }
    text
}

fn capabilities(diagnosis: &Diagnosis) -> String {
    let mut text = "Capabilities of this process\n".to_owned();
    for row in &diagnosis.capabilities {
        let mark = match (row.held, row.needed) {
            (true, _) => "ok",
            (false, true) => "!!",
            (false, false) => "--",
        };
        let held = if row.held { "held" } else { "not held" };
        text += &hanging(&format!("  {mark}  {:<20} {held:<9} ", row.name), row.purpose);
    }
    text
}

/// One reason is often that of many, and stands below them once.
fn hooks(diagnosis: &Diagnosis) -> String {
    let mut text = "Hooks, each loaded, attached and detached just now\n".to_owned();
    let mut reasons: Vec<&str> = Vec::new();
    for HookRow { name, kind, target, outcome, reason, .. } in &diagnosis.hooks {
        let mark = match outcome {
            Outcome::Ok => "ok",
            Outcome::Refused => "!!",
            Outcome::NotTried => "??",
        };
        let number =
            reason.as_deref().map_or_else(String::new, |reason| format!("[{}]", note(&mut reasons, reason)));
        let line = format!("  {mark}  {:<11} {name:<19} {target:<30} {number}", kind.name());
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for (number, reason) in (1..).zip(reasons) {
        text += &hanging(&format!("  [{number}] "), &printable(reason));
    }
    text
}

/// The number of a footnote.
fn note<'a>(notes: &mut Vec<&'a str>, text: &'a str) -> usize {
    let position = notes.iter().position(|other| *other == text).unwrap_or_else(|| {
        notes.push(text);
        notes.len() - 1
    });
    position + 1
}

fn tiers(diagnosis: &Diagnosis) -> String {
    let mut text = "What will work\n".to_owned();
    for Tier { tier, name, works, gives, missing } in &diagnosis.tiers {
        let works = match works {
            Works::Yes => "yes",
            Works::Partly => "partly",
            Works::No => "no",
        };
        let head = format!("  {works:<7} {tier:<3} {name:<12} ");
        text += &hanging(&head, gives);
        for reason in missing {
            text += &hanging(&format!("{}- ", " ".repeat(head.len())), &printable(reason));
        }
    }
    text
}

fn next(diagnosis: &Diagnosis) -> String {
    let Some(next) = &diagnosis.next else {
        return "Next\n  Nothing is missing that could be had here.\n".to_owned();
    };
    let mut text = "Next\n".to_owned();
    text += &hanging("  To get  ", &next.gives);
    text += &hanging("  because ", &printable(&next.reason));
    if let Some(command) = &next.command {
        // Not broken: it is there to be copied.
        text += &format!("  run     {}\n", printable(command));
    }
    if let Some(how) = &next.how {
        let head = if next.command.is_some() { "          " } else { "  it takes " };
        text += &hanging(head, &printable(how));
    }
    text
}

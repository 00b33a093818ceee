//! What the doctor found, for people: one page.

use std::fmt::Write as _;

use tcp_trace_core::{
    doctor::{Check, Diagnosis, HookRow, Outcome, Status, Tier, Works},
    process::printable,
};

use super::units::wrapped;

/// Prose is broken into lines of this length.
const WIDTH: usize = 100;

/// The whole page. It begins with what is to be known first, and ends with what to do.
pub(super) fn render(diagnosis: &Diagnosis) -> String {
    let sections =
        [head(diagnosis), checks(diagnosis), capabilities(diagnosis), hooks(diagnosis), tiers(diagnosis), next(diagnosis)];
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
        let note = note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        let line = format!("  {}  {name:<26} {}{}", mark(*status), printable(value), printable(&note));
        text += &hanging(&line, 33);
    }
    text
}

/// Broken into lines, all but the first so far in.
fn hanging(line: &str, indent: usize) -> String {
    let (first, rest) = (line.len().min(indent), line.get(indent..).unwrap_or_default());
    let head = line.get(..first).unwrap_or_default();
    let body = wrapped(rest, "", WIDTH.saturating_sub(indent));
    let mut text = String::new();
    for (number, part) in body.lines().enumerate() {
        let start = if number == 0 { head.to_owned() } else { " ".repeat(indent) };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{start}{}", part.trim_start());
    }
    text
}

fn capabilities(diagnosis: &Diagnosis) -> String {
    let mut text = "Capabilities\n".to_owned();
    for row in &diagnosis.capabilities {
        let mark = match (row.held, row.needed) {
            (true, _) => "ok",
            (false, true) => "!!",
            (false, false) => "--",
        };
        let held = if row.held { "held" } else { "not held" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {mark}  {:<20} {held:<9} {}", row.name, row.purpose);
    }
    text
}

fn hooks(diagnosis: &Diagnosis) -> String {
    let mut text = "Hooks, each loaded, attached and detached\n".to_owned();
    let mut said: Vec<&str> = Vec::new();
    for HookRow { name, kind, target, outcome, reason, .. } in &diagnosis.hooks {
        let mark = match outcome {
            Outcome::Ok => "ok",
            Outcome::Refused => "!!",
            Outcome::NotTried => "??",
        };
        let head = format!("  {mark}  {:<11} {name:<19} {target:<30}", kind.name());
        match reason {
            None => text += &format!("{}\n", head.trim_end()),
            // One reason is often that of many.
            Some(reason) if said.contains(&reason.as_str()) => text += &format!("{head} the same\n"),
            Some(reason) => {
                said.push(reason);
                text += &hanging(&format!("{head} {}", printable(reason)), 69);
            }
        }
    }
    text
}

fn tiers(diagnosis: &Diagnosis) -> String {
    let mut text = "What will work\n".to_owned();
    for Tier { tier, name, works, gives, missing } in &diagnosis.tiers {
        let works = match works {
            Works::Yes => "yes",
            Works::Partly => "partly",
            Works::No => "no",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {works:<7} {tier:<3} {name:<12} {gives}");
        for reason in missing {
            text += &hanging(&format!("{}{}", " ".repeat(25), printable(reason)), 25);
        }
    }
    text
}

fn next(diagnosis: &Diagnosis) -> String {
    let Some(next) = &diagnosis.next else {
        return "Next\n  Nothing is missing.\n".to_owned();
    };
    let mut text = "Next\n".to_owned();
    text += &wrapped(&format!("{}. It is missing because {}.", next.gives, printable(&next.reason)), "  ", WIDTH);
    if let Some(command) = &next.command {
        // Not broken: it is there to be copied.
        text += &format!("    {}\n", printable(command));
    }
    if let Some(how) = &next.how {
        let lead = if next.command.is_some() { "" } else { "It takes " };
        text += &wrapped(&format!("{lead}{how}."), "  ", WIDTH);
    }
    text
}

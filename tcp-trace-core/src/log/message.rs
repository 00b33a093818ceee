//! A document in one line for people: what a log viewer shows when nothing else is asked for.

use std::borrow::Cow;

use super::{DegradationNotice, Document, FindingChange, FindingStep, LossNotice, ReportDigest};
use crate::{
    endpoint::Endpoint,
    findings::Severity,
    process::{Owner, printable},
    report::{
        Obituary, StateChange,
        text::{address, number, plain, state},
    },
};

/// Bytes that a message may have; what is longer is cut, and says so by `…`.
const LONGEST: usize = 4096;

impl Document {
    /// One line for people. Nothing of it can disturb a terminal, and it is 4 KiB long at most.
    #[must_use]
    pub fn message(&self) -> String {
        let text = match self {
            Self::Transition(change) => {
                let mut text = Vec::new();
                transition(&mut text, change);
                String::from_utf8_lossy(&text).into_owned()
            }
            Self::Closed(obituary) => closed(obituary),
            Self::Finding(change) => finding(change),
            Self::Report(digest) => report(digest),
            Self::Loss(notice) => loss(notice),
            Self::Degradation(notice) => degradation(notice),
        };
        cut(match printable(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(escaped) => escaped,
        })
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// `orders-api (8140) 127.0.0.1:8080 ↔ 127.0.0.1:56566 ESTABLISHED → CLOSE_WAIT after 53.096 ms`.
///
/// Nothing in it but the name can be in need of escaping in JSON.
pub(super) fn transition(text: &mut Vec<u8>, change: &StateChange) {
    who(text, change.owner);
    text.push(b' ');
    ends(text, change.local, change.peer);
    text.push(b' ');
    state(text, change.old);
    text.extend_from_slice(" → ".as_bytes());
    state(text, change.new);
    if let Some(ns) = change.duration_ns {
        text.extend_from_slice(b" after ");
        milliseconds(text, ns);
    }
}

/// Milliseconds with three digits after the point, as in the table of `stream`.
fn milliseconds(text: &mut Vec<u8>, ns: u64) {
    let us = ns / 1_000 + u64::from(ns % 1_000 >= 500);
    number(text, Some(us / 1_000));
    let digit = |value: u64| b'0' + (value % 10) as u8;
    text.extend_from_slice(&[b'.', digit(us / 100), digit(us / 10), digit(us)]);
    text.extend_from_slice(b" ms");
}

fn who(text: &mut Vec<u8>, owner: Option<Owner>) {
    let Some(Owner { process, comm, .. }) = owner else {
        return text.extend_from_slice(b"unknown owner");
    };
    match comm {
        Some(comm) => match plain(&comm) {
            Some(bytes) => text.extend_from_slice(bytes),
            None => text.extend_from_slice(comm.to_string().as_bytes()),
        },
        None => text.push(b'?'),
    }
    text.extend_from_slice(b" (");
    number(text, Some(process.pid.into()));
    text.push(b')');
}

/// Both ends; a peer that is not there, as that of a listener, is left out.
fn ends(text: &mut Vec<u8>, local: Endpoint, peer: Endpoint) {
    end(text, local);
    if peer.is_known() {
        text.extend_from_slice(" ↔ ".as_bytes());
        end(text, peer);
    }
}

fn end(text: &mut Vec<u8>, end: Endpoint) {
    if end.address.is_ipv6() {
        text.push(b'[');
    }
    address(text, end.address);
    text.extend_from_slice(if end.address.is_ipv6() { b"]:" } else { b":" });
    number(text, Some(end.port.into()));
}

/// `curl (41877) 127.0.0.1:40514 ↔ 127.0.0.1:8080 time_wait after 138.1 ms, client, closed first; sent 412 bytes, …`
fn closed(obituary: &Obituary) -> String {
    let mut head = Vec::new();
    who(&mut head, obituary.owner);
    head.push(b' ');
    ends(&mut head, obituary.local, obituary.peer);
    let mut text = String::from_utf8_lossy(&head).into_owned();
    text.push(' ');
    text += obituary.ending.map_or("ended", |ending| ending.name());
    if let Some(ns) = obituary.duration_ns {
        text += &format!(" after {}", span(ns));
    }
    if let Some(role) = obituary.role {
        text += &format!(", {}", role.name());
    }
    if let Some(closer) = obituary.closer {
        text += &format!(", {} close", closer.name());
    }
    if let (Some(sent), Some(received)) = (obituary.bytes_sent, obituary.bytes_received) {
        text += &format!(", sent {sent} bytes, received {received}");
    }
    if let Some(unread) = obituary.unread_bytes.filter(|unread| *unread > 0) {
        text += &format!(", {unread} never read");
    }
    text
}

fn finding(FindingChange { time, step, before, opened, finding }: &FindingChange) -> String {
    let (id, severity, subject) = (finding.id, finding.severity.name(), &finding.subject);
    match step {
        FindingStep::Opened => format!("{severity} {id}: {subject}: {} → {}", finding.cause, finding.advice),
        FindingStep::Changed => {
            let before = before.map_or("-", Severity::name);
            format!("{severity} (was {before}) {id}: {subject}: {} → {}", finding.cause, finding.advice)
        }
        FindingStep::Closed => {
            format!("{id} is over after {}: {subject}", span(time.0.saturating_sub(opened.0)))
        }
    }
}

/// `5222 transitions in 5.1 s, 0 lost; 48 in CLOSE_WAIT, 40 lingering; 530 in TIME_WAIT; findings: 1 critical`.
fn report(digest: &ReportDigest) -> String {
    let mut text = format!(
        "{} transitions in {:.1} s, {} lost; {} lingering in CLOSE_WAIT",
        digest.loss.seen.saturating_sub(digest.loss.filtered),
        digest.window.seconds,
        digest.loss.lost,
        digest.lingering
    );
    for (count, what) in [(digest.time_wait, "in TIME_WAIT"), (digest.half_open, "half-open")] {
        text += &count.map_or_else(String::new, |count| format!("; {count} {what}"));
    }
    let findings =
        digest.findings.iter().rev().map(|(severity, count)| format!("{count} {}", severity.name()));
    let findings: Vec<_> = findings.collect();
    text + "; findings: " + &if findings.is_empty() { "none".to_owned() } else { findings.join(", ") }
}

fn loss(LossNotice { window, loss }: &LossNotice) -> String {
    let mut text = format!("{} of {} transitions lost in {:.1} s", loss.lost, loss.seen, window.seconds);
    for (count, what) in [
        (loss.missed, "of them of unknown kind"),
        (loss.untracked, "of connections beyond the table"),
        (loss.unattributed, "counted by their kind only"),
        (loss.side_lost, "records of other kinds lost"),
    ] {
        if count > 0 {
            text += &format!("; {count} {what}");
        }
    }
    text + if loss.balanced {
        "; the counts are exact"
    } else {
        "; the counts do not balance and cannot be trusted"
    }
}

fn degradation(DegradationNotice { time: _, degradation, over }: &DegradationNotice) -> String {
    let feature = &degradation.feature;
    if *over {
        return format!("no longer degraded: {feature}");
    }
    let remedy = degradation.remedy.as_deref();
    format!(
        "degraded: {feature}: {}{}",
        degradation.reason,
        remedy.map_or_else(String::new, |remedy| format!(" → {remedy}"))
    )
}

/// A length of time in the unit that fits.
fn span(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.2} s", ns as f64 / 1e9),
        60_000_000_000..3_600_000_000_000 => {
            format!("{}m{:02}s", ns / 60_000_000_000, ns / 1_000_000_000 % 60)
        }
        _ => format!("{}h{:02}m", ns / 3_600_000_000_000, ns / 60_000_000_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_those_of_the_table() {
        for ns in [0, 499, 500, 1_000, 53_096_499, 53_096_500, 999_999_500, u64::MAX / 2] {
            let mut text = Vec::new();
            milliseconds(&mut text, ns);
            let us = (u128::from(ns) + 500) / 1_000;
            assert_eq!(String::from_utf8(text).unwrap(), format!("{}.{:03} ms", us / 1_000, us % 1_000));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let text = cut("ä".repeat(LONGEST));
        assert!(text.len() <= LONGEST && text.ends_with("ä…"), "{}", text.len());
        assert_eq!(cut("short".to_owned()), "short");
    }

    #[test]
    fn spans_take_the_unit_that_fits() {
        let texts = [41_000, 138_100_000, 2_500_000_000, 200_000_000_000, 7_260_000_000_000].map(span);
        assert_eq!(texts, ["41.0 µs", "138.1 ms", "2.50 s", "3m20s", "2h01m"]);
    }
}

//! Periodic reports, and losses.

use serde::Serialize;
use tcp_trace_core::{
    log::{LossNotice, ReportDigest},
    report::{Loss, Window},
};

use super::{super::attributes::Attributes, finding::time};

/// Totals are attributes of their own; each list is one, and has the fields that it has in JSON.
pub(super) fn report(digest: &ReportDigest) -> Attributes {
    let mut attributes = Attributes::default();
    window(&mut attributes, &digest.window);
    loss(&mut attributes, &digest.loss);
    for cell in &digest.transitions {
        let (old, new) = (cell.old.otel_name(), cell.new.otel_name());
        attributes.count(format!("tcp.transitions.{old}.{new}"), cell.count);
    }
    for (state, count) in &digest.live {
        attributes.count(format!("tcp.sockets.{}", state.otel_name()), *count);
    }
    attributes.maybe_count("tcp.sockets.time_wait", digest.time_wait);
    attributes.maybe_count("tcp.half_open.live", digest.half_open);
    attributes.count("tcp.close_wait.lingering", digest.lingering);
    for (severity, count) in &digest.findings {
        attributes.count(format!("tcp_trace.findings.{}", severity.name()), *count);
    }
    list(&mut attributes, "tcp_trace.report.modes", &digest.modes);
    list(&mut attributes, "tcp_trace.report.findings", &digest.open);
    list(&mut attributes, "tcp_trace.report.close_wait", &digest.close_wait);
    list(&mut attributes, "tcp_trace.report.listeners", &digest.listeners);
    list(&mut attributes, "tcp_trace.report.destinations", &digest.destinations);
    list(&mut attributes, "tcp_trace.report.ports", digest.ports.as_deref().unwrap_or_default());
    list(&mut attributes, "tcp_trace.report.processes", &digest.processes);
    list(&mut attributes, "tcp_trace.report.degradations", &digest.degradations);
    list(&mut attributes, "tcp_trace.report.limits", &digest.limits);
    attributes
}

pub(super) fn loss_notice(notice: &LossNotice) -> Attributes {
    let mut attributes = Attributes::default();
    window(&mut attributes, &notice.window);
    loss(&mut attributes, &notice.loss);
    attributes
}

fn window(attributes: &mut Attributes, Window { start, end, seconds }: &Window) {
    attributes.text("tcp_trace.window.start", time(*start));
    attributes.text("tcp_trace.window.end", time(*end));
    attributes.real("tcp_trace.window.duration", *seconds);
}

fn loss(attributes: &mut Attributes, loss: &Loss) {
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
    } = loss;
    for (name, count) in [
        ("seen", Some(seen)),
        ("delivered", Some(delivered)),
        ("filtered", Some(filtered)),
        ("lost", Some(lost)),
        ("aggregated", Some(aggregated)),
        ("unattributed", Some(unattributed)),
        ("missed", Some(missed)),
        ("repaired", repaired.as_ref()),
        ("untracked", Some(untracked)),
        ("side_lost", Some(side_lost)),
    ] {
        attributes.maybe_count(&format!("tcp_trace.events.{name}"), count.copied());
    }
    attributes.flag("tcp_trace.events.balanced", *balanced);
}

/// Nothing for an empty list.
fn list<T: Serialize>(attributes: &mut Attributes, key: &str, rows: &[T]) {
    // Numbers and names: nothing in them can fail to serialise.
    if let Some(value) = (!rows.is_empty()).then(|| serde_json::to_value(rows).ok()).flatten() {
        attributes.json(key, &value);
    }
}

//! Findings.

use tcp_trace_core::{
    endpoint::Endpoint,
    findings::{Evidence, Finding, Severity, Subject, Value},
    log::FindingChange,
    report::ProcessIdentity,
    time::WallTime,
};

use super::{
    super::{
        attributes::{Attributes, seconds},
        names,
    },
    connection::network_type,
};

pub(super) fn finding(change: &FindingChange) -> Attributes {
    let FindingChange { time: _, step, before, opened, finding } = change;
    let Finding { id, severity, subject, since, cause, advice, evidence } = finding;
    let mut attributes = Attributes::default();
    attributes.text("tcp_trace.finding.id", id);
    attributes.text("tcp_trace.finding.key", finding.key());
    attributes.text("tcp_trace.finding.step", step.name());
    attributes.text("tcp_trace.finding.severity", severity.name());
    attributes.maybe_text("tcp_trace.finding.severity_before", before.map(Severity::name));
    attributes.text("tcp_trace.finding.opened", time(*opened));
    attributes.maybe_text("tcp_trace.finding.since", since.map(time));
    attributes.text("tcp_trace.finding.subject.kind", kind(subject));
    attributes.text("tcp_trace.finding.subject.name", subject.to_string());
    attributes.text("tcp_trace.finding.cause", cause);
    attributes.text("tcp_trace.finding.advice", advice);
    about(&mut attributes, subject);
    evidence.iter().for_each(|evidence| number(&mut attributes, evidence));
    attributes
}

/// RFC 3339, in UTC.
pub(super) fn time(time: WallTime) -> String {
    format!("{:.9}", time.timestamp())
}

/// Durations are seconds; everything else is as the rule has it.
fn number(attributes: &mut Attributes, Evidence { name, value, unit, source: _ }: &Evidence) {
    let key = format!("tcp_trace.finding.evidence.{}", names::key(name));
    match value {
        Value::Count(ns) if *unit == "ns" => attributes.real(key, seconds(*ns)),
        Value::Count(count) => attributes.count(key, *count),
        Value::Real(real) => attributes.real(key, *real),
        Value::Text(text) => attributes.text(key, text),
        Value::Unknown => {}
    }
}

fn kind(subject: &Subject) -> &'static str {
    match subject {
        Subject::Process { .. } => "process",
        Subject::Container { .. } => "container",
        Subject::Listener { .. } => "listener",
        Subject::Destination { .. } => "destination",
        Subject::LocalPorts { .. } => "local_ports",
        Subject::Namespace { .. } => "namespace",
    }
}

fn about(attributes: &mut Attributes, subject: &Subject) {
    match subject {
        Subject::Process { process: who } => process(attributes, who.as_deref()),
        // It is the resource.
        Subject::Container { .. } => {}
        Subject::Listener { local, netns, process: who } => {
            if let Some(local) = local {
                ends(attributes, names::LOCAL, local);
            }
            attributes.maybe_count(names::NETNS, *netns);
            process(attributes, who.as_deref());
        }
        Subject::Destination { peer, process: who } => {
            if let Some(peer) = peer {
                ends(attributes, names::PEER, peer);
            }
            process(attributes, who.as_deref());
        }
        Subject::LocalPorts { netns, local, peer, process: who } => {
            attributes.text(names::LOCAL.0, local.to_string());
            ends(attributes, names::PEER, peer);
            attributes.count(names::NETNS, (*netns).into());
            process(attributes, who.as_deref());
        }
        Subject::Namespace { netns, name } => {
            attributes.count(names::NETNS, (*netns).into());
            attributes.maybe_text(names::NETNS_NAME, name.as_deref());
        }
    }
}

/// The one end that a finding is about is always the server's.
fn ends(attributes: &mut Attributes, which: (&str, &str), end: &Endpoint) {
    attributes.text(names::TRANSPORT, "tcp");
    attributes.text(names::NETWORK_TYPE, network_type(end.address));
    attributes.endpoint(which, end);
    attributes.endpoint(names::SERVER, end);
}

/// Its command line is not told: there are passwords in some.
fn process(attributes: &mut Attributes, process: Option<&ProcessIdentity>) {
    let Some(ProcessIdentity { pid, comm, exe, user, start_time, cgroup, .. }) = process else { return };
    attributes.count(names::PID, (*pid).into());
    attributes.maybe_text(names::COMM, comm.map(|comm| comm.to_string()));
    attributes.maybe_text(names::EXE, exe.as_deref());
    attributes.maybe_text(names::USER, user.as_deref());
    attributes.maybe_text(names::STARTED, start_time.map(time));
    attributes.maybe_text(names::CGROUP, cgroup.as_deref());
}

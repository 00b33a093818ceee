//! A document as names and texts: for sinks that have fields but no objects in them, as the journal and syslog.

use std::borrow::Cow;

use super::{Document, FindingChange, LossNotice, ReportDigest};
use crate::{
    endpoint::{Endpoint, Family},
    findings::{Evidence, Severity, Value},
    process::{Comm, Owner, OwnerSource, printable},
    report::{Closer, Ending, Loss, Obituary, Role, StateChange},
    survey::ContainerFacts,
};

/// Names and texts. A name may occur more than once.
#[derive(Debug, Default)]
pub struct Fields(Vec<(&'static str, String)>);

/// Every name that there may be, and what it means; `docs/logs.md` has this table.
pub const FIELDS: [(&str, &str); 42] = [
    ("advice", "what to do about a finding"),
    ("before", "severity of a finding before it changed"),
    ("bytes_received", "payload that came, in bytes"),
    ("bytes_sent", "payload that the peer has acknowledged, in bytes"),
    ("cause", "what happens, and whose fault it is, in one sentence"),
    ("closer", "who sent the first FIN: `active`, `passive`, `simultaneous`"),
    ("comm", "name of the owner; escaped"),
    ("container_id", "id of its container"),
    ("container_name", "name of its container"),
    ("cookie", "the kernel's socket cookie"),
    ("duration_us", "time in the state left, or life of a connection, in microseconds"),
    ("ending", "how a connection ended"),
    ("evidence", "a number behind a finding: name, value and unit; once for each"),
    ("family", "`ipv4` or `ipv6`"),
    ("feature", "word for what a run does without"),
    ("finding", "which rule found it"),
    ("findings_critical", "open findings that are critical"),
    ("findings_info", "open findings that are worth knowing"),
    ("findings_warning", "open findings that are warnings"),
    ("half_open", "half-open requests"),
    ("key", "tells a finding from the others of its host as long as it is open"),
    ("lingering", "sockets that linger in CLOSE_WAIT"),
    ("local_address", "this host's end: address"),
    ("local_port", "this host's end: port"),
    ("lost", "transitions of the window that were lost"),
    ("netns", "network namespace, by inode number"),
    ("new_state", "the state entered"),
    ("old_state", "the state left"),
    ("over", "whether a degradation is over: `true` or `false`"),
    ("owner_source", "how the owner is known"),
    ("peer_address", "the peer: address"),
    ("peer_port", "the peer: port"),
    ("pid", "process id of the owner"),
    ("pod", "Kubernetes: name of its pod"),
    ("pod_namespace", "Kubernetes: namespace of its pod"),
    ("reason", "why something cannot be had"),
    ("remedy", "how to get it"),
    ("role", "`client` or `server`"),
    ("seen", "transitions of the window"),
    ("since", "since when a finding is so"),
    ("step", "what became of a finding: `opened`, `changed`, `closed`"),
    ("subject", "what a finding is about"),
];

impl Fields {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and words, most of which nobody else wants")]
    fn add(&mut self, name: &'static str, value: impl ToString) {
        debug_assert!(FIELDS.iter().any(|(known, _)| *known == name), "{name} is not documented");
        self.0.push((name, value.to_string()));
    }

    /// What is not known is left out: these sinks have no `null`.
    fn maybe(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// A text from elsewhere, with everything escaped that could disturb a terminal.
    fn text(&mut self, name: &'static str, text: &str) {
        self.add(name, printable(text));
    }

    fn ends(&mut self, local: Endpoint, peer: Endpoint, family: Family) {
        self.add("family", if family == Family::Ipv4 { "ipv4" } else { "ipv6" });
        for (end, address, port) in
            [(local, "local_address", "local_port"), (peer, "peer_address", "peer_port")]
        {
            self.maybe(address, (end.is_known() || !end.address.is_unspecified()).then_some(end.address));
            self.maybe(port, end.is_known().then_some(end.port));
        }
    }

    fn owner(&mut self, owner: Option<Owner>) {
        self.maybe("pid", owner.map(|owner| owner.process.pid));
        self.maybe("comm", owner.and_then(|owner| owner.comm));
        self.add("owner_source", owner.map_or(OwnerSource::Unknown, |owner| owner.source).name());
    }

    fn container(&mut self, container: Option<&ContainerFacts>) {
        let Some(ContainerFacts { id, name, pod, namespace, .. }) = container else { return };
        self.text("container_id", id);
        for (field, value) in [("container_name", name), ("pod", pod), ("pod_namespace", namespace)] {
            self.maybe(field, value.as_deref().map(printable));
        }
    }

    fn transition(&mut self, change: &StateChange) {
        self.add("old_state", change.old);
        self.add("new_state", change.new);
        self.maybe("duration_us", change.duration_ns.map(|ns| ns / 1_000));
        self.ends(change.local, change.peer, change.family);
        self.owner(change.owner);
        self.maybe("cookie", change.cookie);
        self.maybe("netns", change.netns);
    }

    fn closed(&mut self, obituary: &Obituary) {
        self.maybe("ending", obituary.ending.map(Ending::name));
        self.maybe("role", obituary.role.map(Role::name));
        self.maybe("closer", obituary.closer.map(Closer::name));
        self.maybe("duration_us", obituary.duration_ns.map(|ns| ns / 1_000));
        self.maybe("bytes_sent", obituary.bytes_sent);
        self.maybe("bytes_received", obituary.bytes_received);
        self.ends(obituary.local, obituary.peer, obituary.family);
        self.owner(obituary.owner);
        self.maybe("cookie", obituary.cookie);
        self.maybe("netns", obituary.netns);
    }

    fn finding(&mut self, change: &FindingChange) {
        let finding = &change.finding;
        self.add("finding", finding.id);
        self.add("step", change.step.name());
        self.maybe("before", change.before.map(Severity::name));
        self.add("key", finding.key());
        self.text("subject", &finding.subject.to_string());
        let process = finding.subject.owner();
        self.maybe("pid", process.map(|process| process.pid));
        self.maybe("comm", process.and_then(|process| process.comm.as_ref().map(Comm::to_string)));
        let since = |since: crate::time::WallTime| format!("{:.9}", since.timestamp());
        self.maybe("since", finding.since.map(since));
        self.text("cause", &finding.cause);
        self.text("advice", &finding.advice);
        finding.evidence.iter().for_each(|evidence| self.text("evidence", &number(evidence)));
    }

    fn loss(&mut self, loss: &Loss) {
        self.add("seen", loss.seen);
        self.add("lost", loss.lost);
    }

    fn report(&mut self, digest: &ReportDigest) {
        self.loss(&digest.loss);
        self.add("lingering", digest.lingering);
        self.maybe("half_open", digest.half_open);
        for (name, severity) in [
            ("findings_critical", Severity::Critical),
            ("findings_warning", Severity::Warning),
            ("findings_info", Severity::Info),
        ] {
            self.add(name, digest.findings.get(&severity).copied().unwrap_or_default());
        }
    }
}

impl IntoIterator for Fields {
    type Item = (&'static str, String);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// `lingering 40 sockets`
fn number(Evidence { name, value, unit, source }: &Evidence) -> String {
    let value: Cow<'_, str> = match value {
        Value::Count(count) => count.to_string().into(),
        Value::Real(real) => real.to_string().into(),
        Value::Text(text) => text.into(),
        Value::Unknown => "not known".into(),
    };
    let inferred = if source.starts_with("inferred") { " (inferred)" } else { "" };
    format!("{name} {value}{}{unit}{inferred}", if unit.is_empty() { "" } else { " " })
}

impl Document {
    /// What it says, as names and texts. Nothing in the texts can disturb a terminal; a sink escapes them for itself.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        match self {
            Self::Transition(change) => fields.transition(change),
            Self::Closed(obituary) => fields.closed(obituary),
            Self::Finding(change) => fields.finding(change),
            Self::Report(digest) => fields.report(digest),
            Self::Loss(LossNotice { window: _, loss }) => fields.loss(loss),
            Self::Degradation(notice) => {
                fields.text("feature", &notice.degradation.feature);
                fields.add("over", notice.over);
                fields.text("reason", &notice.degradation.reason);
                fields.maybe("remedy", notice.degradation.remedy.as_deref().map(printable));
            }
        }
        fields.container(self.container());
        fields
    }
}

//! Which documents a sink gets: what its filter asks for, and no more of anybody than its rate.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use tcp_trace_core::{
    endpoint::Endpoint,
    findings::Severity,
    log::{Document, Level},
    process::{Comm, Owner},
    state::TcpState,
    time::WallTime,
};

/// `[sinks.NAME.filter]`: what is not given does not restrict. Losses, degradations and reports are always told, since
/// nobody would know otherwise what the rest is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Findings at least as severe as this: `info`, `warning`, `critical`.
    pub severity: Option<Severity>,
    /// Findings with these identifiers.
    pub findings: Vec<String>,
    /// Containers by name, or by the beginning of their id.
    pub containers: Vec<String>,
    /// Kubernetes namespaces.
    pub namespaces: Vec<String>,
    /// Processes by name (comm).
    pub processes: Vec<String>,
    /// Transitions and connections with one of these local ports.
    pub local_ports: Vec<u16>,
    /// Transitions and connections with one of these peer ports.
    pub peer_ports: Vec<u16>,
    /// Transitions that leave or enter one of these states, in any usual spelling.
    #[serde(deserialize_with = "states")]
    pub states: Vec<TcpState>,
}

fn states<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<TcpState>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}

impl Filter {
    /// Whether everything of its level passes.
    fn is_open(&self) -> bool {
        *self == Self::default()
    }

    fn wants(&self, document: &Document) -> bool {
        match document {
            Document::Transition(change) => {
                let states = &self.states;
                (states.is_empty() || states.contains(&change.old) || states.contains(&change.new))
                    && self.wants_ends(change.local, change.peer)
                    && self.wants_whom(document, change.owner)
            }
            Document::Closed(closed) => {
                self.wants_ends(closed.local, closed.peer) && self.wants_whom(document, closed.owner)
            }
            Document::Finding(change) => {
                let finding = &change.finding;
                self.severity.is_none_or(|least| finding.severity >= least)
                    && (self.findings.is_empty() || self.findings.iter().any(|id| id == finding.id))
                    && self.wants_container(document)
                    && self.wants_name(finding.subject.owner().and_then(|process| process.comm))
            }
            Document::Report(_) | Document::Loss(_) | Document::Degradation(_) => true,
        }
    }

    fn wants_ends(&self, local: Endpoint, peer: Endpoint) -> bool {
        (self.local_ports.is_empty() || self.local_ports.contains(&local.port))
            && (self.peer_ports.is_empty() || self.peer_ports.contains(&peer.port))
    }

    fn wants_whom(&self, document: &Document, owner: Option<Owner>) -> bool {
        self.wants_container(document) && self.wants_name(owner.and_then(|owner| owner.comm))
    }

    fn wants_name(&self, comm: Option<Comm>) -> bool {
        let named = |comm: Comm| self.processes.iter().any(|name| Comm::from_text(name) == Some(comm));
        self.processes.is_empty() || comm.is_some_and(named)
    }

    fn wants_container(&self, document: &Document) -> bool {
        if self.containers.is_empty() && self.namespaces.is_empty() {
            return true;
        }
        let Some(container) = document.container() else { return false };
        let named = |wanted: &String| {
            container.name.as_ref() == Some(wanted) || wanted.len() >= 8 && container.id.starts_with(wanted)
        };
        let inside = |wanted: &String| container.namespace.as_ref() == Some(wanted);
        (self.containers.is_empty() || self.containers.iter().any(named))
            && (self.namespaces.is_empty() || self.namespaces.iter().any(inside))
    }
}

/// Identities that have a budget of their own; those that come later share one.
const IDENTITIES: usize = 4096;
/// How long an identity that is not heard of keeps its budget, in nanoseconds. It is full long before.
const FORGET_NS: u64 = 60_000_000_000;
/// As many seconds' worth may come at once.
const BURST_S: u64 = 10;

/// Whom a document is about, as far as a budget goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Container(Box<str>),
    Program(Option<Comm>),
    Others,
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Documents, in thousand-millionths.
    left: u64,
    at: u64,
}

/// A sink's choice.
#[derive(Debug)]
pub struct Selector {
    level: Level,
    filter: Filter,
    rate: u64,
    buckets: FxHashMap<Identity, Bucket>,
    /// The agent itself, where it is not to be told of.
    not: Option<u32>,
}

/// What becomes of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is sent.
    Send,
    /// Nobody asked for it.
    Skip,
    /// It is beyond the rate of its identity.
    OverRate,
}

impl Selector {
    /// One that has told nothing yet. `not` is the process whose sockets are not told of.
    #[must_use]
    pub fn new(level: Level, filter: Filter, rate: u32, not: Option<u32>) -> Self {
        Self { level, filter, rate: u64::from(rate), buckets: FxHashMap::default(), not }
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Judges a document.
    pub fn choose(&mut self, document: &Document) -> Choice {
        if document.level() > self.level || !self.filter.is_open() && !self.filter.wants(document) {
            return Choice::Skip;
        }
        let owner = match document {
            Document::Transition(change) => change.owner,
            Document::Closed(closed) => closed.owner,
            _ => return Choice::Send,
        };
        if owner.is_some_and(|owner| Some(owner.process.pid) == self.not) {
            return Choice::Skip;
        }
        let identity = match document.container() {
            Some(container) => Identity::Container(container.id.as_str().into()),
            None => Identity::Program(owner.and_then(|owner| owner.comm)),
        };
        if self.spend(identity, document.time()) { Choice::Send } else { Choice::OverRate }
    }

    fn spend(&mut self, identity: Identity, WallTime(now): WallTime) -> bool {
        const ONE: u64 = 1_000_000_000;
        let full = self.rate.saturating_mul(BURST_S).saturating_mul(ONE);
        if self.buckets.len() >= IDENTITIES && !self.buckets.contains_key(&identity) {
            self.buckets.retain(|_, bucket| now.saturating_sub(bucket.at) < FORGET_NS);
        }
        let fits = self.buckets.len() < IDENTITIES || self.buckets.contains_key(&identity);
        let identity = if fits { identity } else { Identity::Others };
        let bucket = self.buckets.entry(identity).or_insert(Bucket { left: full, at: now });
        let gained = now.saturating_sub(bucket.at).saturating_mul(self.rate);
        bucket.left = bucket.left.saturating_add(gained).min(full);
        // Documents of several CPUs come a little out of order.
        bucket.at = bucket.at.max(now);
        let enough = bucket.left >= ONE;
        if enough {
            bucket.left -= ONE;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use tcp_trace_core::{
        endpoint::Family,
        log::{DegradationNotice, Origin},
        process::{OwnerSource, ProcessId},
        report::StateChange,
        session::Degradation,
        state::TcpState,
        time::Timestamp,
    };

    use super::*;

    fn change(comm: &str, pid: u32, peer_port: u16, at_ns: u64) -> Document {
        let end = |port| Endpoint { address: [198, 18, 0, 1].into(), port };
        Document::Transition(StateChange {
            at: Timestamp(at_ns),
            time: WallTime(at_ns),
            old: TcpState::Established,
            new: TcpState::CloseWait,
            duration_ns: None,
            local: end(443),
            peer: end(peer_port),
            family: Family::Ipv4,
            cookie: None,
            skaddr: 0,
            netns: None,
            cgroup_id: None,
            owner: Some(Owner {
                process: ProcessId::new(pid, None),
                comm: Comm::from_text(comm),
                source: OwnerSource::Task,
            }),
            container: None,
        })
    }

    fn degradation() -> Document {
        let degradation = Degradation { feature: "x".into(), reason: "y".into(), remedy: None };
        Document::Degradation(DegradationNotice { time: WallTime(0), degradation, over: false })
    }

    fn selector(level: Level, filter: &str, rate: u32) -> Selector {
        Selector::new(level, toml::from_str(filter).unwrap(), rate, Some(77))
    }

    #[test]
    fn a_level_has_what_the_lower_ones_have() {
        let _: Origin = Origin::default();
        let one = change("web", 1, 5000, 0);
        assert_eq!(selector(Level::Closed, "", 1).choose(&one), Choice::Skip);
        assert_eq!(selector(Level::All, "", 1).choose(&one), Choice::Send);
        for level in [Level::Findings, Level::Closed, Level::All] {
            assert_eq!(selector(level, "severity = \"critical\"", 1).choose(&degradation()), Choice::Send);
        }
    }

    #[test]
    fn a_filter_has_all_of_its_words_fulfilled() {
        for (filter, choice) in [
            ("processes = [\"web\"]", Choice::Send),
            ("processes = [\"db\"]", Choice::Skip),
            ("local_ports = [443]\npeer_ports = [5000, 1]", Choice::Send),
            ("local_ports = [443]\npeer_ports = [1]", Choice::Skip),
            ("states = [\"close-wait\"]", Choice::Send),
            ("states = [\"LISTEN\"]", Choice::Skip),
            // Of a process of the host nobody can say that it is in one of these.
            ("namespaces = [\"shop\"]", Choice::Skip),
            ("containers = [\"web\"]", Choice::Skip),
        ] {
            assert_eq!(
                selector(Level::All, filter, 1).choose(&change("web", 1, 5000, 0)),
                choice,
                "{filter}"
            );
        }
    }

    #[test]
    fn the_agent_does_not_tell_of_itself() {
        assert_eq!(selector(Level::All, "", 1).choose(&change("tcp-trace", 77, 1, 0)), Choice::Skip);
    }

    #[test]
    fn nobody_has_more_told_of_it_than_its_rate() {
        let mut selector = selector(Level::All, "", 2);
        let mut sent = |comm: &str, from_s: u64, seconds: u64, each: u64| {
            let choices = (0..seconds * each).map(|n| {
                let at = from_s * 1_000_000_000 + n * 1_000_000_000 / each;
                selector.choose(&change(comm, 1, 1, at))
            });
            choices.filter(|choice| *choice == Choice::Send).count()
        };
        // Twenty at once, then two a second.
        assert_eq!(sent("loud", 0, 10, 100), 20 + 19);
        assert_eq!(sent("quiet", 5, 10, 2), 20, "whoever keeps within the rate loses nothing");
        assert_eq!(sent("loud", 1000, 1, 15), 15, "and so does who has been quiet");
    }

    #[test]
    fn names_without_number_share_one_budget() {
        let mut selector = selector(Level::All, "", 1);
        let sent = (0..20_000_u64)
            .filter(|n| selector.choose(&change(&format!("p{n}"), 1, 1, 0)) == Choice::Send)
            .count();
        assert_eq!(sent, IDENTITIES + 10);
        assert!(selector.buckets.len() <= IDENTITIES + 1);
    }
}

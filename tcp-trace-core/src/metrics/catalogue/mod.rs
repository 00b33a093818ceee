//! The catalogue: what there is, what it is called in each world, and what it means.
//!
//! Prometheus' names and OpenTelemetry's are made here and nowhere else, so are the labels. `docs/metrics.md` is held
//! against it by a test.

mod label;
mod own;
mod traffic;

pub use label::{Label, otel_label};
pub(crate) use own::*;
pub(crate) use traffic::*;

use super::{Family, Kind, Series};

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Prometheus' name without the suffix `_total`; it ends in the unit.
    pub name: &'static str,
    /// OpenTelemetry's name.
    pub otel_name: &'static str,
    /// OpenTelemetry's unit.
    pub otel_unit: &'static str,
    /// What kind of number.
    pub kind: Kind,
    /// What its series differ in; a series may lack one that says nothing of it.
    pub labels: &'static [Label],
    /// What it helps to answer.
    pub question: Question,
    /// What it is, in one line.
    pub help: &'static str,
}

/// The questions that tcp-trace answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What is TCP doing on this host right now?
    Activity,
    /// Are we being flooded, is the accept loop slow, or are SYN-ACKs lost?
    HalfOpen,
    /// Who leaks sockets in CLOSE_WAIT?
    CloseWait,
    /// Who fills TIME_WAIT, and when do the ports run out?
    Ports,
    /// How did connections live and die?
    Lives,
    /// What is wrong?
    Findings,
    /// Can these numbers be believed, and what do they cost?
    Own,
}

impl Question {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Activity => "What is TCP doing on this host right now?",
            Self::HalfOpen => "Is it a SYN flood, a slow accept loop, or are SYN-ACKs lost?",
            Self::CloseWait => "Who leaks sockets in CLOSE_WAIT?",
            Self::Ports => "Who fills TIME_WAIT, and when do the ports run out?",
            Self::Lives => "How did connections live and die?",
            Self::Findings => "What is wrong?",
            Self::Own => "Can the numbers be believed, and what do they cost?",
        }
    }
}

impl Metric {
    /// The unit that its name ends in; empty for one that says something and counts nothing.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.kind == Kind::Info { "" } else { self.name.rsplit('_').next().unwrap_or_default() }
    }

    /// As Prometheus shows it: a counter's ends in `_total`.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        if self.kind == Kind::Counter { format!("{}_total", self.name) } else { self.name.to_owned() }
    }

    pub(super) fn family(&self, series: Vec<Series>) -> Family {
        let Self { name, otel_name, otel_unit, kind, labels: _, question: _, help } = *self;
        Family { name, otel_name, help, unit: self.unit(), otel_unit, kind, series }
    }

    const fn new(
        kind: Kind,
        names: (&'static str, &'static str),
        otel_unit: &'static str,
        labels: &'static [Label],
        question: Question,
        help: &'static str,
    ) -> Self {
        let (name, otel_name) = names;
        Self { name, otel_name, otel_unit, kind, labels, question, help }
    }
}

/// Every metric, in the order in which they are exposed.
pub static CATALOGUE: [&Metric; 44] = [
    &TRANSITIONS,
    &SOCKETS,
    &STATE_DURATION,
    &HALF_OPEN_DURATION,
    &CONNECT_DURATION,
    &COARSE_DURATIONS,
    &HANDSHAKES,
    &LISTENER_HANDSHAKES,
    &HALF_OPEN_REQUESTS,
    &HALF_OPEN_OVERDUE,
    &ACCEPT_QUEUE,
    &ACCEPT_QUEUE_LIMIT,
    &LISTENER_DROPS,
    &CLOSE_WAIT_LINGERING,
    &CLOSE_WAIT_OLDEST,
    &TIME_WAIT,
    &LOCAL_PORTS,
    &TIME_WAIT_ENTERED,
    &CONNECT_FAILURES,
    &ENDED,
    &FINDINGS,
    &SEEN,
    &EVENTS,
    &MISSED,
    &UNATTRIBUTED,
    &UNTRACKED,
    &SIDE_LOST,
    &REPAIRED,
    &WINDOWS,
    &MODE,
    &TABLE_USED,
    &TABLE_DROPPED,
    &DEGRADATIONS,
    &RETIRED,
    &REPORT_TIME,
    &SINK_QUEUE,
    &SINK_QUEUE_LIMIT,
    &SINK_DOCUMENTS,
    &SINK_FAILURES,
    &RELOADS,
    &CPU,
    &MEMORY,
    &START_TIME,
    &BUILD,
];

//! The kinds of documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ReportDigest;
use crate::{
    findings::{Finding, Severity},
    report::{CLOSED_EVENT_NAME, EVENT_NAME, Loss, Obituary, StateChange, Window},
    session::Degradation,
    survey::ContainerFacts,
    time::WallTime,
};

/// The version of the schema that every document follows, `docs/schema/log.schema.json`.
pub const SCHEMA: &str = "tcp-trace.log/1";

/// Where a document comes from: the same for all that an agent sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Name of the host; of a Kubernetes node its node name.
    pub host: String,
    /// Name of the cluster, as the configuration has it.
    pub cluster: Option<String>,
    /// Further labels of the configuration, such as `deploy` or `environment`.
    pub labels: BTreeMap<String, String>,
}

/// How much of it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Findings, losses, degradations and the periodic report: what a fleet can afford.
    #[default]
    Findings,
    /// Finished connections as well.
    Closed,
    /// Every transition as well.
    All,
}

/// One document.
#[derive(Clone, Debug)]
pub enum Document {
    /// A transition.
    Transition(StateChange),
    /// A finished connection.
    Closed(Obituary),
    /// A finding was opened, has changed, or was closed.
    Finding(Box<FindingChange>),
    /// What happened since the last one.
    Report(Box<ReportDigest>),
    /// Something was lost.
    Loss(LossNotice),
    /// Something cannot be had, or can be had again.
    Degradation(DegradationNotice),
}

/// What became of a finding.
#[derive(Clone, Debug)]
pub struct FindingChange {
    /// The end of the report that shows it.
    pub time: WallTime,
    /// What became of it.
    pub step: FindingStep,
    /// How severe it was before; `None` unless that is what has changed.
    pub before: Option<Severity>,
    /// The time of the document that opened it.
    pub opened: WallTime,
    /// The finding; of a closed one as it was last told.
    pub finding: Finding,
}

/// A step of a finding's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingStep {
    /// It is new.
    Opened,
    /// Its severity has changed.
    Changed,
    /// It is over.
    Closed,
}

/// The stream has lost something in a window.
#[derive(Clone, Debug)]
pub struct LossNotice {
    /// The window.
    pub window: Window,
    /// Its balance.
    pub loss: Loss,
}

/// Something that this run does without.
#[derive(Clone, Debug)]
pub struct DegradationNotice {
    /// When it was said first, or not any more.
    pub time: WallTime,
    /// What it is.
    pub degradation: Degradation,
    /// Whether it is over.
    pub over: bool,
}

impl FindingStep {
    /// The name in JSON and elsewhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Changed => "changed",
            Self::Closed => "closed",
        }
    }
}

impl Document {
    /// What kind of document it is: the value of `event`, dotted and in lower case.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self {
            Self::Transition(_) => EVENT_NAME,
            Self::Closed(_) => CLOSED_EVENT_NAME,
            Self::Finding(_) => "tcp.finding",
            Self::Report(_) => "tcp.report",
            Self::Loss(_) => "tcp.loss",
            Self::Degradation(_) => "tcp.degradation",
        }
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> WallTime {
        match self {
            Self::Transition(change) => change.time,
            Self::Closed(obituary) => obituary.time,
            Self::Finding(change) => change.time,
            Self::Report(digest) => digest.window.end,
            Self::Loss(notice) => notice.window.end,
            Self::Degradation(notice) => notice.time,
        }
    }

    /// From which level on it is told.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Transition(_) => Level::All,
            Self::Closed(_) => Level::Closed,
            Self::Finding(_) | Self::Report(_) | Self::Loss(_) | Self::Degradation(_) => Level::Findings,
        }
    }

    /// The container that it is about; `None` for the host, and where it is not known.
    #[must_use]
    pub fn container(&self) -> Option<&ContainerFacts> {
        match self {
            Self::Transition(change) => change.container.as_deref(),
            Self::Closed(obituary) => obituary.container.as_deref(),
            Self::Finding(change) => change.finding.subject.container(),
            Self::Report(_) | Self::Loss(_) | Self::Degradation(_) => None,
        }
    }
}

impl Finding {
    /// Sixteen hexadecimal digits that tell it from every other finding of its host, and stay the same as long as it
    /// is open. They are made of its id and its subject; of a process that is its number and its start.
    #[must_use]
    pub fn key(&self) -> String {
        // FNV-1a: it has to be the same in every version and on every machine.
        let text = format!("{}\0{}", self.id, self.subject.key());
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

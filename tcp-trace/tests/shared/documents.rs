//! The documents of the committed recording, and of what does not happen in it: at least one of each kind.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use tcp_trace::{
    engine::{Cadence, Engine},
    outlet::Outlet,
    source::Replay,
};
use tcp_trace_core::{
    filter::FilterSpec,
    findings::{Judge, Severity, Thresholds},
    log::{Chronicle, Document, Origin},
    report::{Limit, Obituary, OpenedAt, Report, StateChange},
    stack::{StackKind, Trace},
    survey::{ContainerFacts, Runtime},
    tracker::{Settings, Tracker},
};

/// Where they come from.
pub(crate) fn origin() -> Origin {
    Origin {
        host: "shop-1".to_owned(),
        cluster: Some("eu-west".to_owned()),
        labels: [("deploy".to_owned(), "2026-01-14.3".to_owned())].into(),
    }
}

/// The documents, in order.
pub(crate) fn documents() -> &'static [Document] {
    static DOCUMENTS: OnceLock<Vec<Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(told)
}

#[derive(Default)]
struct Story {
    chronicle: Chronicle,
    documents: Vec<Document>,
    last: Option<Report>,
}

impl Outlet for &mut Story {
    fn wants_changes(&self) -> bool {
        true
    }

    fn wants_closed(&self) -> bool {
        true
    }

    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()> {
        self.documents.extend(changes.drain(..).map(Document::Transition));
        Ok(())
    }

    fn closed(&mut self, closed: &mut Vec<Obituary>) -> anyhow::Result<()> {
        self.documents.extend(closed.drain(..).map(Document::Closed));
        Ok(())
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        let Story { chronicle, documents, last } = &mut **self;
        documents.extend(chronicle.report(&report));
        *last = Some(report);
        Ok(())
    }
}

fn told() -> Vec<Document> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/incident.tctrace");
    let (mut replay, session) = Replay::open(&path).expect("the committed recording");
    let settings = Settings { changes: true, closed: true, ..Settings::default() };
    let cadence = Cadence::new(session.started, 15_000_000_000);
    let tracker = Tracker::new(session, &FilterSpec::default(), settings).expect("its filter");
    let mut story = Story::default();
    let mut engine = Engine::new(tracker, Judge::new(Thresholds::default()), Some(cadence), &mut story, None);
    while let Some(batch) = replay.next_batch().expect("a whole recording") {
        engine.batch(&batch).expect("records that can be decoded");
    }
    engine.finish().expect("an end");
    story.epilogue();
    story.documents
}

impl Story {
    /// What does not happen in the recording: a finding gets worse, a table is full, stacks are taken, a pod's
    /// connection ends, all is well again.
    fn epilogue(&mut self) {
        let mut report = self.last.take().expect("a report");
        let findings = report.findings.iter_mut().flatten();
        findings.for_each(|finding| finding.severity = Severity::Critical);
        report.half_open.listeners.iter_mut().for_each(|listener| listener.drops = Some(3));
        report.limits.push(Limit { name: "processes", limit: 4096, in_use: 4096, peak: 4096, dropped: 7 });
        self.documents.extend(self.chronicle.report(&report));
        let stacked = self.documents.iter().find_map(|document| match document {
            Document::Closed(obituary) => Some(Obituary {
                opened_at: Some(opened_at()),
                container: Some(Arc::new(container())),
                ..obituary.clone()
            }),
            _ => None,
        });
        self.documents.extend(stacked.map(Document::Closed));
        report.findings = Some(Vec::new());
        report.source.degradations.clear();
        self.documents.extend(self.chronicle.report(&report));
    }
}

fn opened_at() -> OpenedAt {
    let trace = Trace { frames: Vec::new(), cut_off: Some("its code was gone".into()), interpreter: None };
    OpenedAt { kind: StackKind::Connected, trace: Arc::new(trace) }
}

fn container() -> ContainerFacts {
    ContainerFacts {
        id: "9d1e".repeat(16),
        name: Some("cart".to_owned()),
        runtime: Runtime::Containerd,
        image: None,
        pod_uid: None,
        pod: Some("cart-7c9d".to_owned()),
        namespace: Some("shop".to_owned()),
        qos: None,
    }
}

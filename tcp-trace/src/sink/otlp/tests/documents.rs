//! Documents of every kind, and with every field that there may be.

use std::{path::Path, sync::Arc};

use tcp_trace_core::{
    filter::FilterSpec,
    findings::{Evidence, Finding, Judge, Severity, Subject, Thresholds, Value},
    log::{Chronicle, DegradationNotice, Document, FindingChange, FindingStep},
    process::Comm,
    report::{Obituary, ProcessIdentity, Report, StateChange},
    session::Degradation,
    survey::{ContainerFacts, Runtime, ServiceClass},
    time::WallTime,
    tracker::{self, Tracker},
};

use crate::{
    engine::{Cadence, Engine},
    outlet::Outlet,
    source::Replay,
};

/// What a night is: 2026-11-22, 03:00 UTC.
pub(super) const NIGHT: WallTime = WallTime(1_795_316_400_000_000_000);

/// Everything that an agent tells of the recording of the tests.
pub(super) fn of_the_recording() -> Vec<Document> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/incident.tctrace");
    let (mut replay, session) = Replay::open(&path).unwrap();
    let settings = tracker::Settings { changes: true, closed: true, ..tracker::Settings::default() };
    let cadence = Cadence::new(session.started, 5_000_000_000);
    let tracker = Tracker::new(session, &FilterSpec::default(), settings).unwrap();
    let thresholds: Thresholds = toml::from_str("close_wait_leak.min_sockets = 1").unwrap();
    let mut all = Vec::new();
    let outlet = Collected { chronicle: Chronicle::default(), all: &mut all };
    let mut engine = Engine::new(tracker, Judge::new(thresholds), Some(cadence), outlet, None);
    while let Some(batch) = replay.next_batch().unwrap() {
        engine.batch(&batch).unwrap();
    }
    engine.finish().unwrap();
    all
}

struct Collected<'a> {
    chronicle: Chronicle,
    all: &'a mut Vec<Document>,
}

impl Outlet for Collected<'_> {
    fn wants_changes(&self) -> bool {
        true
    }

    fn wants_closed(&self) -> bool {
        true
    }

    fn changes(&mut self, changes: &mut Vec<StateChange>) -> anyhow::Result<()> {
        self.all.extend(changes.drain(..).map(Document::Transition));
        Ok(())
    }

    fn closed(&mut self, closed: &mut Vec<Obituary>) -> anyhow::Result<()> {
        self.all.extend(closed.drain(..).map(Document::Closed));
        Ok(())
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        self.all.extend(self.chronicle.report(&report));
        Ok(())
    }
}

/// A container of Kubernetes with everything that its node's files tell.
pub(super) fn cart() -> ContainerFacts {
    ContainerFacts {
        id: "4f1c9a52e0b7".repeat(5) + "4f1c",
        name: Some("cart".to_owned()),
        runtime: Runtime::Containerd,
        image: Some("registry.example:5000/shop/cart:1.14.2".to_owned()),
        pod_uid: Some("0f6b1f9e-4c1d-4a52-9b0e-27b5f3f5c0a1".to_owned()),
        pod: Some("cart-7d9f6c5b8-x2x4z".to_owned()),
        namespace: Some("shop".to_owned()),
        qos: Some(ServiceClass::Burstable),
    }
}

/// A container of which nothing but the id is known.
pub(super) fn nameless(id: &str) -> ContainerFacts {
    ContainerFacts {
        id: id.to_owned(),
        name: None,
        image: None,
        pod_uid: None,
        pod: None,
        namespace: None,
        qos: None,
        ..cart()
    }
}

/// `cart` leaks.
pub(super) fn leak(container: ContainerFacts, step: FindingStep) -> Document {
    let process = ProcessIdentity {
        pid: 21856,
        comm: Comm::from_text("cart"),
        exe: Some("/srv/cart/bin/cart".to_owned()),
        cmdline: Some(vec!["cart".to_owned(), "--password=hunter2".to_owned()]),
        user: Some("shop".to_owned()),
        start_time: Some(NIGHT.minus(3_600_000_000_000)),
        container: Some(container),
        cgroup: Some("/kubepods/burstable/pod0f6b1f9e".to_owned()),
        fds: Some(56),
        nofile: Some(20_000),
    };
    let evidence = |name, value, unit| Evidence { name, value, unit, source: "" };
    let finding = Finding {
        id: "close_wait_leak",
        severity: Severity::Critical,
        subject: Subject::Process { process: Some(Box::new(process)) },
        since: Some(NIGHT.minus(600_000_000_000)),
        cause: "40 connections of cart are in CLOSE_WAIT.".to_owned(),
        advice: "Close them.".to_owned(),
        evidence: vec![
            evidence("lingering", Value::Count(40), "sockets"),
            evidence("oldest, at least", Value::Count(600_500_000_000), "ns"),
            evidence("growth", Value::Real(3.5), "sockets/min"),
            evidence("no descriptors left in", Value::Unknown, "ns"),
            evidence("listener", Value::Text("10.1.2.3:8080 (39 of 40)".to_owned()), ""),
        ],
    };
    Document::Finding(Box::new(FindingChange {
        time: NIGHT,
        step,
        before: (step == FindingStep::Changed).then_some(Severity::Warning),
        opened: NIGHT.minus(60_000_000_000),
        finding,
    }))
}

/// A finding about any subject.
pub(super) fn about(subject: Subject) -> Document {
    let Document::Finding(mut change) = leak(cart(), FindingStep::Opened) else { unreachable!() };
    change.finding.subject = subject;
    Document::Finding(change)
}

pub(super) fn degradation(over: bool) -> Document {
    let degradation = Degradation {
        feature: "half_open".to_owned(),
        reason: "no cgroup2 is mounted".to_owned(),
        remedy: Some("mount -t cgroup2 none /sys/fs/cgroup".to_owned()),
    };
    Document::Degradation(DegradationNotice { time: NIGHT, degradation, over })
}

/// A transition in a container.
pub(super) fn transition(container: Option<ContainerFacts>) -> Document {
    let found = of_the_recording().into_iter().find_map(|document| match document {
        Document::Transition(change) => Some(change),
        _ => None,
    });
    Document::Transition(StateChange { container: container.map(Arc::new), ..found.unwrap() })
}

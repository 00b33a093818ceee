//! Reports to make metrics of: those of the committed recording, and of a host where everything is full.

use tcp_trace::{
    engine::{Cadence, Engine},
    outlet::Outlet,
    source::Replay,
};
use tcp_trace_core::{
    filter::FilterSpec,
    findings::{Judge, Severity, Thresholds},
    metrics::{Meter, Own, Settings, SinkHealth, Snapshot},
    process::Comm,
    report::{
        CloseWaitProcess, Connect, Listener, Obituary, Queue, Report, StateChange, TimeWaitDestination,
        TimeWaitProcess,
    },
    session::Degradation,
    time::{Timestamp, WallTime},
    tracker::{self, Tracker},
};

/// Keeps the reports.
#[derive(Debug, Default)]
struct Reports(std::sync::Arc<std::sync::Mutex<Vec<Report>>>);

impl Outlet for Reports {
    fn wants_changes(&self) -> bool {
        false
    }

    fn wants_closed(&self) -> bool {
        false
    }

    fn changes(&mut self, _: &mut Vec<StateChange>) -> anyhow::Result<()> {
        Ok(())
    }

    fn closed(&mut self, _: &mut Vec<Obituary>) -> anyhow::Result<()> {
        Ok(())
    }

    fn report(&mut self, report: Report) -> anyhow::Result<()> {
        self.0.lock().unwrap().push(report);
        Ok(())
    }
}

/// The reports of the committed recording, one every two seconds.
pub(crate) fn incident() -> Vec<Report> {
    let path = crate::root().join("tcp-trace/tests/data/incident.tctrace");
    let (mut replay, session) = Replay::open(&path).unwrap();
    let cadence = Cadence::new(Timestamp(session.started.0), 2_000_000_000);
    let tracker = Tracker::new(session, &FilterSpec::default(), tracker::Settings::default()).unwrap();
    let outlet = Reports::default();
    let reports = std::sync::Arc::clone(&outlet.0);
    let mut engine = Engine::new(tracker, Judge::new(Thresholds::default()), Some(cadence), outlet, None);
    while let Some(batch) = replay.next_batch().unwrap() {
        engine.batch(&batch).unwrap();
    }
    let reports = std::mem::take(&mut *reports.lock().unwrap());
    assert!(reports.len() > 2, "{} reports", reports.len());
    reports
}

/// The agent itself, as it may be.
pub(crate) fn own(sinks: usize) -> Own {
    let sink = |number| SinkHealth {
        name: format!("sink{number}"),
        queued: 3,
        queue_limit: 8192,
        sent: 1000,
        ..SinkHealth::default()
    };
    Own {
        version: "0.1.0".to_owned(),
        revision: Some("0123456789ab".to_owned()),
        started: Some(WallTime(1_767_000_000_000_000_000)),
        cpu_seconds: Some(12.5),
        resident_bytes: Some(30 << 20),
        reloads: Some((1, 0)),
        sinks: (0..sinks).map(sink).collect(),
    }
}

/// The metrics of the committed recording, as a first and a later scrape would see them.
pub(crate) fn snapshot() -> Snapshot {
    let reports = incident();
    let mut meter = Meter::new(Settings::default(), reports[0].window.start);
    for report in &reports {
        meter.absorb(report);
    }
    meter.snapshot(&own(1))
}

/// A host where nothing happens, as far as metrics go.
pub(crate) fn idle() -> Snapshot {
    let mut report = incident().pop().unwrap();
    report.half_open.listeners.clear();
    report.close_wait = Default::default();
    report.time_wait.destinations = Some(Vec::new());
    report.time_wait.processes.clear();
    report.connect.clear();
    report.distributions = Default::default();
    report.findings = Some(Vec::new());
    let mut meter = Meter::new(Settings::default(), report.window.start);
    meter.absorb(&report);
    meter.snapshot(&own(1))
}

/// A report in which every bounded table has more than it can hold, and every number is known.
pub(crate) fn crowded() -> Report {
    let reports = incident();
    let mut report = reports.iter().max_by_key(|report| report.close_wait.processes.len()).unwrap().clone();
    let identity = report.close_wait.processes[0].process.clone().unwrap();
    let process = |number: usize| {
        let mut process = identity.clone();
        process.pid = 1000 + number as u32;
        process.comm = Comm::from_text(&format!("worker-{number:04}"));
        if let Some(container) = &mut process.container {
            container.name = Some(format!("checkout-service-{number:04}"));
            container.namespace = Some("production".to_owned());
        }
        Some(process)
    };
    let many = 64;
    let leak = report.close_wait.processes[0].clone();
    report.close_wait.processes = (0..many)
        .map(|n| CloseWaitProcess {
            process: process(n),
            count: 20,
            oldest_ns: Some(600_000_000_000),
            ..leak.clone()
        })
        .collect();
    report.close_wait.lingering = 20 * many as u64;
    let listener = reports
        .iter()
        .flat_map(|report| &report.half_open.listeners)
        .find(|row| row.local.is_some())
        .unwrap()
        .clone();
    report.half_open.listeners = (0..many)
        .map(|n| {
            let mut local = listener.local.unwrap();
            local.port = 8000 + n as u16;
            let accept_queue = Some(Queue { length: 3, limit: 128 });
            Listener {
                local: Some(local),
                process: process(n),
                live: Some(2),
                overdue: Some(1),
                accept_queue,
                drops: Some(1),
                ..listener.clone()
            }
        })
        .collect();
    let all = &mut report.half_open;
    all.live = Some(2 * many as u64);
    (all.expired, all.reset, all.dead, all.cookies) = (Some(500), Some(100), Some(100), Some(500));
    all.completed.count = listener.completed.count * many as u64 + 10;
    let attempt =
        reports.iter().flat_map(|report| &report.connect).find(|row| row.peer.is_some()).unwrap().clone();
    report.connect = (0..many)
        .map(|n| {
            let mut peer = attempt.peer.unwrap();
            peer.port = 5000 + n as u16;
            Connect { peer: Some(peer), refused: 3, timed_out: 2, ..attempt.clone() }
        })
        .collect();
    report.time_wait.live = Some(500 * many as u64);
    report.time_wait.live_orphans = Some(1);
    report.time_wait.entered = Some(10 * many as u64);
    report.time_wait.processes =
        (0..many).map(|n| TimeWaitProcess { process: process(n), entered: 10, live: Some(10) }).collect();
    report.time_wait.destinations = Some(
        (0..many)
            .map(|n| TimeWaitDestination {
                netns: 1,
                local: std::net::IpAddr::from([198, 18, 0, 1]),
                peer: tcp_trace_core::endpoint::Endpoint {
                    address: [198, 18, 0, 2].into(),
                    port: 5000 + n as u16,
                },
                count: 500,
                arrived: 10,
                leaving: 10,
                live: Some(10),
                ports: Some(28_232),
                share: Some(0.02),
                reuse: Some(false),
                closers: Vec::new(),
            })
            .collect(),
    );
    for other in &reports {
        report.distributions.half_open.add(&other.distributions.half_open);
        report.distributions.connect.add(&other.distributions.connect);
        report.distributions.states.extend(other.distributions.states.clone());
        report.transitions.extend(&other.transitions);
        if let (Some(all), Some(more)) = (&mut report.endings, &other.endings) {
            all.extend(more.clone());
        }
    }
    if let Some(finding) = report.findings.iter_mut().flatten().next() {
        finding.severity = Severity::Critical;
    }
    report.loss.repaired = Some(0);
    let lacks =
        |feature: &str| Degradation { feature: feature.to_owned(), reason: String::new(), remedy: None };
    report.source.degradations =
        ["time_wait", "accepted", "request_dropped", "request_timer"].map(lacks).to_vec();
    report
}

/// The metrics of a host where everything is full.
pub(crate) fn full() -> Snapshot {
    let report = crowded();
    let mut meter = Meter::new(Settings::default(), report.window.start);
    for _ in 0..3 {
        meter.absorb(&report);
    }
    meter.snapshot(&own(5))
}

/// How many series there are.
pub(crate) fn series(snapshot: &Snapshot) -> usize {
    let exposed = tcp_trace::sink::prometheus::expose(snapshot, tcp_trace::sink::prometheus::Format::Text);
    exposed.lines().filter(|line| !line.starts_with('#')).count()
}

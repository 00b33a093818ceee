//! What a chronicle says of a run: events in, documents out.

use tcp_trace_core::{
    log::{Chronicle, Document, Level, Line, LogWriter, Origin, ReportDigest},
    report::Report,
    session::Degradation,
};

use crate::{
    check::{last_report, reports},
    findings::close_wait_leak::{LISTENS, closes, leaked},
};

/// `event severity: message` of all that is told of these reports but the digests.
fn told(reports: &[Report]) -> Vec<Vec<String>> {
    let mut chronicle = Chronicle::default();
    let line = |document: &Document| {
        format!("{} {}: {}", document.event(), document.severity().name(), document.message())
    };
    let news = |documents: &[Document]| {
        assert!(documents.iter().all(|document| document.level() == Level::Findings));
        let Some((Document::Report(_), news)) = documents.split_last() else {
            panic!("no digest at the end")
        };
        news.iter().map(line).collect()
    };
    reports.iter().map(|report| news(&chronicle.report(report))).collect()
}

/// A leak that is found, gets worse, better, and ends.
fn leak() -> Vec<Report> {
    let facts = |fds: u64| format!("facts 200:leaky start=5 fds={fds} nofile=1000\n");
    reports(&format!(
        "session close_wait_leak.critical_time_left_s=60
        {LISTENS}{}
        {}end +30000ms\nreport findings
        {}end +40000ms\nreport findings
        end +50000ms\nreport findings
        {}end +60000ms\nreport findings
        end +70000ms\nreport findings
        {}end +80000ms\nreport findings
        end +90000ms\nreport findings
        end +100000ms\nreport findings",
        leaked(10, 10, 1000, 1000),
        facts(40),
        facts(950),
        facts(40),
        closes(10, 10, 71_000),
    ))
}

#[test]
fn a_finding_is_told_when_it_opens_when_its_severity_changes_and_when_it_is_over() {
    let leak = told(&leak());
    let cause = "10 connections of leaky (200) are in CLOSE_WAIT: the peers closed them, and the program has not \
                 closed its end. → In the program: call close() wherever read() returns 0, error paths included; \
                 `tcp-trace snapshot --state close_wait --sockets -p 200` lists them.";
    let expected: [&[String]; 8] = [
        &[format!("tcp.finding warning: warning close_wait_leak: leaky (200): {cause}")],
        &[format!("tcp.finding critical: critical (was warning) close_wait_leak: leaky (200): {cause}")],
        &[],
        &[],
        &[format!("tcp.finding warning: warning (was critical) close_wait_leak: leaky (200): {cause}")],
        &[],
        &["tcp.finding info: close_wait_leak is over after 1m00s: leaky (200)".to_owned()],
        &[],
    ];
    let short: Vec<_> =
        leak.iter().map(|news| news.iter().map(|line| shorten(line)).collect::<Vec<_>>()).collect();
    assert_eq!(short, expected.map(|lines| lines.iter().map(|line| shorten(line)).collect::<Vec<_>>()));
    assert_eq!(leak[0], expected[0]);
}

/// Up to the sentences, whose numbers differ.
fn shorten(line: &str) -> String {
    line.split(": ").take(3).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_finding_keeps_its_key_and_the_time_when_it_was_opened() {
    let mut chronicle = Chronicle::default();
    let documents: Vec<_> = leak().iter().flat_map(|report| chronicle.report(report)).collect();
    let changes = documents.iter().filter_map(|document| match document {
        Document::Finding(change) => Some((change.finding.key(), change.opened)),
        _ => None,
    });
    let changes: Vec<_> = changes.collect();
    assert_eq!(changes.len(), 4);
    assert!(changes.iter().all(|change| *change == changes[0]), "{changes:?}");
    // Fixed: those of an older version have to be found by it, too.
    assert_eq!(changes[0].0, "8068a9cb4a5283bb");
    assert_eq!(chronicle.open().count(), 0);
}

#[test]
fn nobody_says_that_a_finding_is_over_who_has_not_looked_or_has_left_some_out() {
    let mut reports = leak();
    reports.truncate(1);
    let quiet = |change: &dyn Fn(&mut Report)| {
        let mut report = reports[0].clone();
        report.findings = Some(Vec::new());
        change(&mut report);
        report
    };
    let not_judged = quiet(&|report| report.findings = None);
    let left_out = quiet(&|report| {
        let limit = report.limits.iter_mut().find(|limit| limit.name == "findings");
        limit.unwrap().dropped = 7;
    });
    let told = told(&[reports[0].clone(), not_judged, left_out.clone(), left_out]);
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0, 1]);
    assert!(told[3][0].contains("is over"));
}

#[test]
fn findings_that_are_open_are_bounded() {
    let mut chronicle = Chronicle::default();
    let mut report = leak().swap_remove(0);
    let finding = report.findings.take().unwrap().swap_remove(0);
    for round in 0..30_u32 {
        let many = (0..100).map(|number| {
            let mut finding = finding.clone();
            let tcp_trace_core::findings::Subject::Process { process } = &mut finding.subject else {
                panic!()
            };
            process.as_mut().unwrap().pid = round * 100 + number;
            finding
        });
        report.findings = Some(many.collect());
        // Each of them leaves out those of the one before.
        report.limits.iter_mut().find(|limit| limit.name == "findings").unwrap().dropped = round.into();
        let _ = chronicle.report(&report);
    }
    assert_eq!(chronicle.open().count(), 1024);
}

#[test]
fn only_a_window_that_has_lost_something_is_told() {
    let input = "
        +0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=200:nginx start=5
        end +1000ms\nreport loss
        lost +1100ms CLOSE>SYN_SENT ck=2 10.0.0.1:0>10.0.0.9:80
        missed 2
        end +2000ms\nreport loss
        end +3000ms\nreport loss
        uncounted +3100ms CLOSE>SYN_SENT ck=3 10.0.0.1:0>10.0.0.9:80
        end +4000ms\nreport loss";
    let expected: [&[&str]; 4] = [
        &[],
        &[
            "tcp.loss warning: 3 of 3 transitions lost in 1.0 s; 2 of them of unknown kind; the counts are exact",
        ],
        &[],
        &[
            "tcp.loss critical: 0 of 0 transitions lost in 1.0 s; the counts do not balance and cannot be trusted",
        ],
    ];
    assert_eq!(told(&reports(input)), expected);
}

#[test]
fn what_cannot_be_had_is_told_once_and_that_it_can_be_had_again() {
    let degraded = |reasons: &[(&str, &str)]| {
        let mut report = last_report("end +1000ms\nreport loss");
        let degradation = |(feature, reason): &(&str, &str)| Degradation {
            feature: (*feature).to_owned(),
            reason: (*reason).to_owned(),
            remedy: (*feature == "time_wait").then(|| "a kernel that is not locked down".to_owned()),
        };
        report.source.degradations = reasons.iter().map(degradation).collect();
        report
    };
    let lockdown = ("time_wait", "the kernel permits no programs on its functions");
    let told = told(&[
        degraded(&[lockdown, ("stacks", "3 stacks found no room")]),
        // More of the same.
        degraded(&[lockdown, ("stacks", "1700 stacks found no room")]),
        degraded(&[lockdown, ("survey", "the namespace evil\x1b[2J\n could not be entered")]),
    ]);
    let expected: [&[&str]; 3] = [
        &[
            "tcp.degradation warning: degraded: stacks: 3 stacks found no room",
            "tcp.degradation warning: degraded: time_wait: the kernel permits no programs on its functions → a kernel that is not locked down",
        ],
        &[],
        &[
            "tcp.degradation info: no longer degraded: stacks",
            "tcp.degradation warning: degraded: survey: the namespace evil\\u{1b}[2J\\u{a} could not be entered",
        ],
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_digest_has_the_worst_of_everything_and_five_of_each_at_most() {
    let refused: String = (0..30)
        .map(|n| {
            let tuple = format!("ck={} 10.0.0.1:{}>10.0.0.9:{} ns=1", 100 + n, 4000 + n, 100 + n % 15);
            format!(
                "+{n}ms CLOSE>SYN_SENT {tuple} task=100:client start=3
                 +{n}ms SYN_SENT>CLOSE {tuple} err=111 task=100:client start=3\n"
            )
        })
        .collect();
    let input = format!("{LISTENS}{}{refused}end +30000ms\nreport findings", leaked(10, 10, 1000, 1000));
    let digest = ReportDigest::from(&last_report(&input));
    assert_eq!(digest.lingering, 10);
    assert_eq!((digest.destinations.len(), digest.destinations[0].refused), (5, 2));
    let whose = &digest.close_wait[0];
    assert_eq!((whose.process.as_ref().unwrap().pid, whose.count), (200, 10));
    assert_eq!(
        (digest.open[0].subject.as_str(), digest.open[0].evidence.as_ref().unwrap().name),
        ("leaky (200)", "lingering")
    );
    assert_eq!(digest.processes.len(), 2);
    let document = Document::Report(Box::new(digest));
    assert_eq!(
        document.message(),
        "91 transitions in 30.0 s, 0 lost; 10 lingering in CLOSE_WAIT; findings: 1 warning"
    );
}

#[test]
fn lines_are_what_documents_serialise_as() {
    let origin = Origin {
        host: "shop-1".to_owned(),
        cluster: Some("eu \"west\"".to_owned()),
        labels: [("deploy".to_owned(), "2026-11-22\n".to_owned())].into(),
    };
    let mut chronicle = Chronicle::default();
    let (mut writer, mut lines) = (LogWriter::new(&origin), Vec::new());
    for document in leak().iter().flat_map(|report| chronicle.report(report)) {
        lines.clear();
        writer.write(&mut lines, &document);
        let expected = serde_json::to_string(&Line { origin: &origin, document: &document }).unwrap() + "\n";
        assert_eq!(String::from_utf8(std::mem::take(&mut lines)).unwrap(), expected);
    }
}

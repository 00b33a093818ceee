//! What others have named comes out as text, whatever it is; and the page asks for nothing from anywhere.

use proptest::prelude::*;
use tcp_trace_core::{
    endpoint::Endpoint,
    filter::FilterSpec,
    findings::{Evidence, Finding, Severity, Subject, Value},
    process::Comm,
    report::{
        CloseWaitProcess, ContainerSummary, ProcessIdentity, ProcessSample, ProcessSeries, ProcessSummary,
        Report, Series, SeriesPoint, Socket, TimeWaitProcess,
    },
    session::{Attach, Degradation, Host, Session},
    state::TcpState,
    survey::{ContainerFacts, Runtime},
    time::{ClockAnchor, Timestamp, WallTime},
    tracker::{Settings, Tracker},
};

use super::{page, picture};

/// The report of a run in which nothing happened, on a host of this name.
fn empty(name: &str) -> Report {
    let session = Session {
        program: name.to_owned(),
        pid: None,
        host: Host { name: name.to_owned(), kernel: name.to_owned(), boot_id: None },
        anchor: ClockAnchor { monotonic_ns: 0, boottime_ns: 0, unix_ns: 1_768_446_000_000_000_000 },
        started: Timestamp(0),
        attach: Attach::TpBtf,
        half_open: true,
        programs: Vec::new(),
        filter: FilterSpec::default(),
        buffer_bytes: 0,
        degradations: vec![Degradation {
            feature: name.to_owned(),
            reason: format!("{name}; so {name}"),
            remedy: Some(name.to_owned()),
        }],
    };
    Tracker::new(session, &FilterSpec::default(), Settings::default()).unwrap().report()
}

/// A process all of whose names are this one.
fn process(name: &str) -> Option<ProcessIdentity> {
    let text = || Some(name.to_owned());
    Some(ProcessIdentity {
        pid: 7,
        comm: Comm::from_text(name),
        exe: text(),
        cmdline: Some(vec![name.to_owned()]),
        user: text(),
        start_time: None,
        container: Some(container(name)),
        cgroup: text(),
        fds: Some(9),
        nofile: Some(10),
    })
}

fn container(name: &str) -> ContainerFacts {
    let text = || Some(name.to_owned());
    ContainerFacts {
        id: name.to_owned(),
        name: text(),
        runtime: Runtime::Docker,
        image: text(),
        pod_uid: text(),
        pod: text(),
        namespace: text(),
        qos: None,
    }
}

/// A report in which everything that can have a name has this one.
fn named(name: &str) -> Report {
    let mut report = empty(name);
    let subject = Subject::Process { process: process(name).map(Box::new) };
    let evidence =
        vec![Evidence { name: "name", value: Value::Text(name.to_owned()), unit: "", source: "close_wait" }];
    report.findings = Some(vec![Finding {
        id: "close_wait_leak",
        severity: Severity::Critical,
        subject,
        since: None,
        cause: format!("It is {name}"),
        advice: format!("Ask {name}"),
        evidence,
    }]);
    let summary =
        |process| ProcessSummary { process, total: 1, inferred: 0, transitions: Vec::new(), live: 1 };
    report.processes = vec![summary(process(name)), summary(None)];
    report.containers = Some(vec![ContainerSummary {
        container: Some(container(name)),
        processes: 1,
        total: 1,
        live: 1,
        close_wait: 1,
        time_wait: 1,
    }]);
    report.close_wait.live = 1;
    report.close_wait.lingering = 1;
    report.close_wait.processes = vec![leak(name)];
    report.time_wait.processes = vec![TimeWaitProcess { process: process(name), entered: 1, live: None }];
    report.series = Some(series(name));
    report
}

fn leak(name: &str) -> CloseWaitProcess {
    let end = Endpoint { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 80 };
    let socket = Socket {
        cookie: None,
        local: end,
        peer: end,
        state: TcpState::CloseWait,
        age_ns: Some(1),
        age_exact: Some(false),
        fds: None,
        holders: None,
        unread_bytes: None,
        kind: None,
        owner_state: None,
        owner_source: tcp_trace_core::process::OwnerSource::Fd,
        stack: None,
    };
    CloseWaitProcess {
        process: process(name),
        count: 1,
        oldest_ns: Some(1),
        oldest_exact: Some(false),
        kinds: None,
        peers: Vec::new(),
        listeners: Vec::new(),
        stacks: None,
        sockets: vec![socket],
    }
}

fn series(name: &str) -> Series {
    let point = |second: u64| SeriesPoint {
        time: WallTime(second * 1_000_000_000),
        span_ns: 1_000_000_000,
        seen: 1,
        lost: 0,
        established: Some(0),
        close_wait: Some(2),
        time_wait: None,
        half_open: None,
    };
    let samples = vec![ProcessSample { point: 1, close_wait: 2, time_wait: 0 }];
    let of = |process| ProcessSeries { process, since: 0, samples: samples.clone() };
    Series { readings: 1, points: vec![point(1), point(2)], processes: vec![of(process(name)), of(None)] }
}

/// Texts that would do harm in one place or another, and any others.
fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("<script>alert(1)</script>".to_owned()),
        Just("</title></style></script>".to_owned()),
        Just("\"'><img src=x onerror=alert(1)>".to_owned()),
        Just("]]>--><!--&lt;&#60;&".to_owned()),
        Just("\x1b]0;b\x07\x1b[2J\r\n\t\0".to_owned()),
        Just("\u{202e}\u{2066}\u{200b}\u{feff}\u{85}\u{2028}".to_owned()),
        Just("javascript:alert(1)//${}{{}}".to_owned()),
        any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        any::<String>(),
    ];
    // Backticks are ours to use: they make code of what stands between them.
    proptest::collection::vec(part, 1..4).prop_map(|parts| format!("n{}", parts.concat()).replace('`', "_"))
}

/// How often each of these, of which markup is made, stands in a text.
fn markup(text: &str) -> [usize; 3] {
    ['<', '>', '"'].map(|c| text.matches(c).count())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_name_never_becomes_markup(name in hostile()) {
        let (hostile, harmless) = (named(&name), named("name"));
        for draw in [page, picture] {
            let text = draw(&hostile);
            prop_assert_eq!(markup(&text), markup(&draw(&harmless)), "of {:?}", name);
            let harm = |c: char| c != '\n' && (c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c)
                || ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2060}'..='\u{206f}').contains(&c));
            prop_assert!(!text.contains(harm), "of {:?}", name);
        }
    }
}

#[test]
fn a_hostile_name_is_there_to_be_read() {
    let text = page(&named("<script>a\x1b[31m"));
    assert!(text.contains("&lt;script&gt;a\\u{1b}[31m"), "{text}");
    assert_eq!(text.matches("<script").count(), 1, "ours");
}

#[test]
fn the_page_names_nothing_that_is_elsewhere() {
    let text = page(&named("name")).replace("http://www.w3.org/2000/svg", "");
    for scheme in ["http:", "https:", "//", "@import", "src=", "<link rel=\"stylesheet\""] {
        let found: Vec<_> =
            text.lines().filter(|line| line.contains(scheme) && !line.trim().starts_with("//")).collect();
        assert!(found.is_empty(), "{scheme}: {found:?}");
    }
    for style in [" style=", " onclick=", " onload="] {
        assert!(!text.contains(style), "the policy of the page forbids {style}");
    }
}

#[test]
fn a_report_of_nothing_has_a_page() {
    let text = page(&empty("calm"));
    assert!(text.contains("0 transitions seen") && text.contains("id=\"diagram\""), "{text}");
    assert!(!text.contains("id=\"close-wait\"") && !text.contains("id=\"over-time\""), "{text}");
    assert!(picture(&empty("calm")).starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg"));
}

//! What of a report becomes which metric, and what is not known.

use std::collections::BTreeSet;

use tcp_trace_core::{
    metrics::{CATALOGUE, Identities, Kind, Meter, Own, Sample, Settings, SinkHealth, otel_label},
    report::Report,
    session::Degradation,
    survey::{ContainerFacts, Runtime},
    time::WallTime,
};

use super::{START, check, check_with, told};
use crate::check::{last_report, reports};

const LISTENS: &str = "+0ms CLOSE>LISTEN ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=200:leaky start=5\n";

#[test]
fn counters_go_on_over_windows_and_gauges_do_not() {
    check(
        "
        session half_open
        +0ms    CLOSE>LISTEN   ck=1 0.0.0.0:80>0.0.0.0:0 ns=1 task=200:server
        +1ms    LISTEN>SYN_RECV ck=5 10.0.0.1:80>10.0.0.2:4000 ns=1
        +1ms    SYN_RECV>EST   ck=5 10.0.0.1:80>10.0.0.2:4000 ns=1 req=5
        counters +1000ms
        report
        +1001ms LISTEN>SYN_RECV ck=6 10.0.0.1:80>10.0.0.2:4001 ns=1
        +1001ms SYN_RECV>EST   ck=6 10.0.0.1:80>10.0.0.2:4001 ns=1 req=3300
        +1002ms EST>CLOSE      ck=5 10.0.0.1:80>10.0.0.2:4000 ns=1 err=104
        end +2000ms
        report",
        &["tcp_trace_half_open_duration_seconds", "tcp_trace_handshakes", "tcp_trace_listener_handshakes"],
        "
        tcp_trace_half_open_duration_seconds{} 2
        tcp_trace_handshakes{outcome=completed} 2
        tcp_trace_handshakes{outcome=cookie} 0
        tcp_trace_handshakes{outcome=untimed} 0
        tcp_trace_listener_handshakes{port=80,comm=server,outcome=completed} 1
        tcp_trace_listener_handshakes{port=80,comm=server,outcome=cookie} 0
        tcp_trace_listener_handshakes{port=80,comm=server,outcome=untimed} 0
        tcp_trace_listener_handshakes{port=other,outcome=completed} 1
        tcp_trace_listener_handshakes{port=other,outcome=cookie} 0
        tcp_trace_listener_handshakes{port=other,outcome=untimed} 0",
    );
}

#[test]
fn what_nobody_has_looked_at_is_absent_and_what_is_known_to_be_none_is_0() {
    let gauges = [
        "tcp_trace_sockets",
        "tcp_trace_half_open_requests",
        "tcp_trace_time_wait_sockets",
        "tcp_trace_close_wait_lingering_sockets",
        "tcp_trace_close_wait_oldest_seconds",
    ];
    check(
        "end +1000ms\nreport",
        &gauges,
        "
        tcp_trace_close_wait_lingering_sockets{comm=other} 0
        tcp_trace_sockets{state=close_wait} 0
        tcp_trace_sockets{state=closing} 0
        tcp_trace_sockets{state=established} 0
        tcp_trace_sockets{state=fin_wait_1} 0
        tcp_trace_sockets{state=last_ack} 0
        tcp_trace_sockets{state=listen} 0
        tcp_trace_sockets{state=syn_sent} 0",
    );
    check(
        "survey +1ms\nsurveyed +2ms all ns=1\nend +1000ms\nreport",
        &["tcp_trace_half_open_requests", "tcp_trace_time_wait_sockets", "tcp_trace_local_ports_used_ratio"],
        "
        tcp_trace_half_open_requests{port=other} 0
        tcp_trace_time_wait_sockets{peer_port=other} 0",
    );
}

#[test]
fn before_the_first_report_only_the_program_itself_is_known() {
    let own = Own { version: "1.2.3".to_owned(), ..Own::default() };
    let snapshot = Meter::new(Settings::default(), START).snapshot(&own);
    assert_eq!((snapshot.start, snapshot.time), (START, START));
    assert_eq!(
        snapshot.families.iter().map(|family| family.name).collect::<Vec<_>>(),
        ["tcp_trace_build_info"]
    );
}

/// Twelve sockets of one leaky process.
fn leak() -> String {
    let mut input = LISTENS.to_owned();
    for number in 0..12 {
        let tuple = format!("ck={} 10.0.0.1:80>10.0.0.2:{} ns=1", 10 + number, 4000 + number);
        input += &format!("+{number}ms LISTEN>SYN_RECV {tuple}\n+{number}ms SYN_RECV>EST {tuple} srtt=1\n");
        input += &format!("+{number}ms EST>CLOSE_WAIT {tuple} done\n");
    }
    input
}

#[test]
fn lingering_sockets_are_their_owners_and_its_containers() {
    let input = format!("{}facts 200:leaky start=5 container=web\nend +30000ms\nreport findings", leak());
    let names = ["tcp_trace_close_wait_lingering_sockets", "tcp_trace_close_wait_oldest_seconds"];
    check(
        &input,
        &names,
        "
        tcp_trace_close_wait_lingering_sockets{comm=leaky,container=web} 12
        tcp_trace_close_wait_lingering_sockets{comm=other} 0
        tcp_trace_close_wait_oldest_seconds{comm=leaky,container=web} 30",
    );
    let settings = Settings { identities: Identities::Container, ..Settings::default() };
    check_with(
        settings,
        &input,
        &names,
        "
        tcp_trace_close_wait_lingering_sockets{container=other} 0
        tcp_trace_close_wait_lingering_sockets{container=web} 12
        tcp_trace_close_wait_oldest_seconds{container=web} 30",
    );
    let told = told(Settings::default(), &reports(&input), &["tcp_trace_findings"]);
    assert!(told.contains("tcp_trace_findings{id=close_wait_leak,severity=critical} 1\n"), "{told}");
    assert!(told.contains("tcp_trace_findings{id=syn_flood,severity=critical} 0\n"), "{told}");
}

/// The leak's report, with its process in another place.
fn moved(change: impl FnOnce(&mut ContainerFacts)) -> Report {
    let mut report =
        last_report(&format!("{}facts 200:leaky start=5 container=web\nend +30000ms\nreport", leak()));
    let process = report.close_wait.processes[0].process.as_mut().unwrap();
    change(process.container.as_mut().unwrap());
    report
}

#[test]
fn a_pod_is_told_only_on_demand_and_a_unit_is_no_container() {
    let lingering = ["tcp_trace_close_wait_lingering_sockets"];
    let say = |identities, report: &Report| {
        let settings = Settings { identities, ..Settings::default() };
        told(settings, std::slice::from_ref(report), &lingering).lines().next().unwrap().to_owned()
    };
    let pod = moved(|container| {
        container.name = Some("cart".to_owned());
        container.pod = Some("cart-7d9f8-x2x4z".to_owned());
        container.namespace = Some("shop".to_owned());
    });
    let at = |labels: &str| format!("tcp_trace_close_wait_lingering_sockets{{{labels}}} 12");
    assert_eq!(say(Identities::Container, &pod), at("container=cart,namespace=shop"));
    assert_eq!(say(Identities::Process, &pod), at("comm=leaky,container=cart,namespace=shop"));
    assert_eq!(
        say(Identities::Pod, &pod),
        at("comm=leaky,container=cart,pod=cart-7d9f8-x2x4z,namespace=shop")
    );
    let nameless = moved(|container| container.name = None);
    assert_eq!(say(Identities::Process, &nameless), at("comm=leaky,container=unknown"));
    for (unit, labels) in
        [("nginx.service", "comm=leaky,unit=nginx.service"), ("session-3.scope", "comm=leaky")]
    {
        let report = moved(|container| {
            container.runtime = Runtime::Systemd;
            container.id = unit.to_owned();
            container.name = None;
        });
        assert_eq!(say(Identities::Process, &report), at(labels));
    }
}

#[test]
fn names_from_elsewhere_are_cut_and_cannot_disturb() {
    let long = moved(|container| container.name = Some(format!("a\x1b[31m{}", "é".repeat(1000))));
    let told = told(Settings::default(), &[long], &["tcp_trace_close_wait_oldest_seconds"]);
    let (name, _) = told.split_once("container=").unwrap().1.split_once('}').unwrap_or_default();
    assert!(name.starts_with("a\\u{1b"), "{told}");
    let name = told.split_once("container=").unwrap().1.rsplit_once('}').unwrap().0;
    assert_eq!(name.chars().count(), 128);
    assert!(name.ends_with('…'));
}

#[test]
fn one_that_calls_itself_other_is_one_of_the_others() {
    let mut input = leak().replace(":leaky", ":other");
    input += "end +30000ms\nreport";
    check(
        &input,
        &["tcp_trace_close_wait_lingering_sockets"],
        "tcp_trace_close_wait_lingering_sockets{comm=other} 12",
    );
}

#[test]
fn destinations_are_ports_and_few_ports_are_no_destination() {
    let mut rows = String::new();
    for number in 0..500 {
        let local = format!("10.0.0.1:{}", 40_000 + number);
        rows +=
            &format!("row TIME_WAIT ck={} ns=1 timer=tw expires=30000 {local}>10.0.0.9:5432\n", 100 + number);
    }
    for number in 0..20 {
        let peer = format!("10.0.0.2:{}", 50_000 + number);
        rows +=
            &format!("row TIME_WAIT ck={} ns=1 timer=tw expires=30000 10.0.0.1:80>{peer}\n", 900 + number);
    }
    check(
        &format!(
            "survey +5000ms\n{rows}facts ns=1 range=40000-40999\nsurveyed +5001ms report ns=1\nend +6000ms\nreport"
        ),
        &["tcp_trace_time_wait_sockets", "tcp_trace_local_ports_used_ratio"],
        "
        tcp_trace_local_ports_used_ratio{peer_port=5432} 0.5
        tcp_trace_local_ports_used_ratio{peer_port=other} 0.001
        tcp_trace_time_wait_sockets{peer_port=5432} 500
        tcp_trace_time_wait_sockets{peer_port=other} 20",
    );
}

#[test]
fn failed_connects_are_told_by_reason_and_port() {
    let attempt = |at: u64, ck: u64| {
        format!(
            "+{at}ms CLOSE>SYN_SENT ck={ck} 10.0.0.1:0>10.0.0.9:5432 task=100:client
             +{at}ms SYN_SENT>CLOSE ck={ck} 10.0.0.1:4000>10.0.0.9:5432 err=111 task=100:client\n"
        )
    };
    let told = told(
        Settings::default(),
        &reports(&format!(
            "{}counters +1000ms\nreport\n{}{}end +2000ms\nreport",
            attempt(1, 1),
            attempt(1001, 2),
            attempt(1002, 3)
        )),
        &["tcp_trace_connect_failures"],
    );
    // The first one came before the destination had a series.
    assert!(told.contains("{peer_port=5432,error=refused} 2\n"), "{told}");
    assert!(told.contains("{peer_port=other,error=refused} 1\n"), "{told}");
    assert!(told.contains("{peer_port=5432,error=timed_out} 0\n"), "{told}");
}

#[test]
fn aggregated_durations_are_counted_as_coarse() {
    check(
        "
        mode +0ms aggregate asked
        sum 7 EST>CLOSE_WAIT time=1.5 pid=100 start=5
        end +1000ms
        report",
        &["tcp_trace_coarse_durations", "tcp_trace_state_duration_seconds", "tcp_trace_mode_seconds"],
        "
        tcp_trace_coarse_durations{histogram=connect} 0
        tcp_trace_coarse_durations{histogram=half_open} 0
        tcp_trace_coarse_durations{histogram=state} 7
        tcp_trace_mode_seconds{mode=aggregate} 1
        tcp_trace_mode_seconds{mode=count} 0
        tcp_trace_mode_seconds{mode=stream} 0
        tcp_trace_state_duration_seconds{state=established} 7",
    );
}

#[test]
fn the_balance_and_what_is_missing_are_told() {
    let mut report = last_report(
        "
        lost +1ms     EST>CLOSE ck=5 10.0.0.1:80>10.0.0.2:4000
        missed 2
        +11ms         EST>CLOSE ck=6 10.0.0.1:80>10.0.0.2:4001
        end +20ms
        report",
    );
    let degradation =
        |feature: &str| Degradation { feature: feature.to_owned(), reason: String::new(), remedy: None };
    report.source.degradations = vec![degradation("survey"), degradation("survey"), degradation("time_wait")];
    let text = told(Settings::default(), &[report.clone()], &["tcp_trace_events", "tcp_trace_degradations"]);
    assert_eq!(
        text,
        "tcp_trace_degradations{feature=survey} 2\ntcp_trace_degradations{feature=time_wait} 1\n\
         tcp_trace_events{outcome=aggregated} 0\ntcp_trace_events{outcome=delivered} 1\n\
         tcp_trace_events{outcome=filtered} 0\ntcp_trace_events{outcome=lost} 3\n"
    );
    // Each feature is a word of this program; a recording may say anything.
    report.source.degradations = (0..100).map(|n| degradation(&format!("f{n}"))).collect();
    let text = told(Settings::default(), &[report], &["tcp_trace_degradations"]);
    assert_eq!(text.lines().count(), 33);
    assert!(text.contains("{feature=other} 68\n"), "{text}");
}

/// Each metric is in a snapshot, as the catalogue has it, and nothing else is.
#[test]
fn the_catalogue_is_what_is_exposed() {
    let mut input = format!("session half_open programs=time_wait\n{}", leak());
    input += "facts 200:leaky start=5 container=web\nfacts ns=1 range=40000-40999\nsurvey +20000ms\n";
    input += "row LISTEN ck=1 ns=1 inode=5 rq=3 sq=128 0.0.0.0:80>0.0.0.0:0\n";
    input += "row NEW_SYN_RECV ck=900 ns=1 10.0.0.1:80>10.0.0.3:4000\nfacts listener ck=1 drops=5\n";
    for number in 0..20 {
        let local = format!("10.0.0.1:{}", 40_000 + number);
        input +=
            &format!("row TIME_WAIT ck={} ns=1 timer=tw expires=30000 {local}>10.0.0.9:80\n", 100 + number);
    }
    input += "surveyed +20001ms report ns=1\nend +30000ms\nreport findings";
    let mut report = last_report(&input);
    report.source.degradations =
        vec![Degradation { feature: "survey".to_owned(), reason: String::new(), remedy: None }];
    let mut meter = Meter::new(Settings::default(), START);
    meter.absorb(&report);
    let sink = SinkHealth { name: "journal".to_owned(), ..SinkHealth::default() };
    let own = Own {
        version: "1".to_owned(),
        revision: Some("abc".to_owned()),
        started: Some(WallTime(1)),
        cpu_seconds: Some(0.5),
        resident_bytes: Some(1),
        reloads: Some((1, 0)),
        sinks: vec![sink],
    };
    let snapshot = meter.snapshot(&own);
    let exposed: Vec<_> = snapshot.families.iter().map(|family| family.name).collect();
    assert_eq!(exposed, CATALOGUE.map(|metric| metric.name));
    for (family, metric) in snapshot.families.iter().zip(CATALOGUE) {
        let known: BTreeSet<_> = metric.labels.iter().map(|label| label.name).collect();
        for series in &family.series {
            for (label, _) in &series.labels {
                assert!(known.contains(label), "{}: {label} is not in the catalogue", metric.name);
            }
            assert_eq!(matches!(series.value, Sample::Histogram(_)), metric.kind == Kind::Histogram);
        }
    }
}

#[test]
fn names_follow_the_conventions_and_every_label_has_both_spellings() {
    let mut names = BTreeSet::new();
    let mut otel = BTreeSet::new();
    for metric in CATALOGUE {
        let own = metric.name.starts_with("tcp_trace_");
        assert!(own || metric.name.starts_with("process_"), "{}", metric.name);
        assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert!(metric.name.ends_with(&format!("_{}", metric.unit())) || metric.kind == Kind::Info);
        assert!(!metric.name.ends_with("_total"), "{}", metric.name);
        assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}", metric.name);
        // A number of seconds has the unit s wherever it goes.
        assert_eq!(metric.name.ends_with("_seconds"), metric.otel_unit == "s", "{}", metric.name);
        assert!(names.insert(metric.name) && otel.insert(metric.otel_name), "{} is there twice", metric.name);
        for label in metric.labels {
            assert_eq!(otel_label(label.name), Some(label.otel), "{}", label.name);
        }
    }
}

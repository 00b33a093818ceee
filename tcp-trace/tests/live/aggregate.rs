//! Transitions that are counted in the kernel: exact, put down to the right processes, and only while the stream cannot
//! keep up.

use std::{fs, thread, time::Duration};

use serde_json::Value;
use tcp_trace_testkit::{
    Helper, NetNs,
    workload::{ChurnPlan, churn, churn_for},
};

use crate::{
    Test,
    counts::{CLIENT_FIRST, assert_counts, assert_time_wait, rounds},
    tracer::{PATIENCE, Tracer, assert_sums, assert_whole, count, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("ten_thousand_connections_count_exactly", || rounds(ten_thousand_connections_count_exactly)),
    ("counting_alone_is_as_exact", || rounds(counting_alone_is_as_exact)),
    ("a_full_buffer_switches_there_and_back", || rounds(a_full_buffer_switches_there_and_back)),
    ("a_leak_is_still_listed", a_leak_is_still_listed),
    ("a_replayed_report_is_the_live_one", a_replayed_report_is_the_live_one),
    ("what_cannot_be_is_refused", what_cannot_be_is_refused),
];

/// How long each mode held, and why it began.
fn modes(report: &Value) -> Vec<(String, String, f64)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let span = |span: &Value| (word(&span["mode"]), word(&span["reason"]), span["seconds"].as_f64().unwrap());
    report["modes"].as_array().unwrap().iter().map(span).collect()
}

fn ten_thousand_connections_count_exactly() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["report", "--json", "--mode", "aggregate", "--netns", &netns]);
    let churn = churn(&ns, 10_000, &ChurnPlan::default()).unwrap();
    let report = tracer.report();
    assert_whole(&report);
    assert_counts(&report, 10_000, churn.listeners.into());
    let transitions = 10_000 * 10 + 2 * u64::from(churn.listeners);
    let loss = &report["loss"];
    assert_eq!((&loss["aggregated"], &loss["unattributed"]), (&transitions.into(), &0.into()), "{loss}");
    assert_time_wait(&report, 10_000);
    let half_open = &report["half_open"];
    assert_eq!(half_open["completed"]["count"], 10_000, "{half_open}");
    assert_eq!(half_open["completed"]["coarse"], 10_000, "{half_open}");
    assert_eq!(half_open["sources"]["sock_ops"], 10_000, "{half_open}");
    assert_eq!(half_open["listeners"].as_array().unwrap().len(), churn.listeners as usize);
    let me = &report["processes"][0];
    assert_eq!(me["process"]["pid"], std::process::id());
    assert_eq!(me["total"], transitions, "{}", report["processes"]);
    let established = &report["states"]["ESTABLISHED"];
    assert_eq!(established["duration"]["count"], 20_000, "{established}");
    assert_eq!(established["live"], 0, "{established}");
    let [(mode, reason, _)] = &modes(&report)[..] else { panic!("{}", report["modes"]) };
    assert_eq!((mode.as_str(), reason.as_str()), ("aggregate", "asked"));
}

/// It counts for the whole host, on which little else happens meanwhile.
fn counting_alone_is_as_exact() {
    let ns = NetNs::new().unwrap();
    let tracer = Tracer::start(&["report", "--json", "--mode", "count"]);
    churn(&ns, 10_000, &ChurnPlan::default()).unwrap();
    let report = tracer.report();
    assert_whole(&report);
    for (old, new) in CLIENT_FIRST.into_iter().filter(|(old, _)| *old != "LISTEN") {
        let counted = count(&report, old, new);
        assert!((10_000..10_100).contains(&counted), "{old} > {new}: {}", report["transitions"]);
    }
    let loss = &report["loss"];
    assert_eq!((&loss["delivered"], &loss["aggregated"]), (&0.into(), &loss["seen"]), "{loss}");
    assert_eq!(loss["aggregated"], loss["unattributed"], "{loss}");
    assert_eq!(report["half_open"]["completed"]["count"], 0);
    for entered in [&report["half_open"]["unknown"], &report["states"]["CLOSE_WAIT"]["entered"]] {
        assert!((10_000..10_100).contains(&entered.as_u64().unwrap()), "{entered}");
    }
    let unknown =
        [&report["half_open"]["cookies"], &report["time_wait"]["entered"], &report["half_open"]["reset"]];
    assert_eq!(unknown, [&Value::Null; 3]);
    let lacks = report["source"]["degradations"].as_array().unwrap();
    assert!(lacks.iter().any(|lack| lack["feature"] == "attribution"), "{lacks:?}");
    let [(mode, reason, _)] = &modes(&report)[..] else { panic!("{}", report["modes"]) };
    assert_eq!((mode.as_str(), reason.as_str()), ("count", "asked"));
}

fn a_full_buffer_switches_there_and_back() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let tracer = Tracer::start(&["report", "--json", "--buffer", "4k", "--netns", &netns]);
    // What aggregates is loaded when the run has begun.
    thread::sleep(Duration::from_secs(1));
    let first = churn_for(&ns, Duration::from_secs(2), &ChurnPlan::default()).unwrap();
    // Nothing happens for longer than the rule waits.
    thread::sleep(Duration::from_secs(4));
    let report = tracer.report();
    let loss = &report["loss"];
    assert_eq!(loss["balanced"], true, "{loss}");
    assert_sums(loss);
    assert_counts(&report, first.connections, first.listeners.into());
    assert!(loss["aggregated"].as_u64() > loss["lost"].as_u64(), "{loss}");
    let modes = modes(&report);
    let names: Vec<_> = modes.iter().map(|(mode, reason, _)| (mode.as_str(), reason.as_str())).collect();
    assert_eq!(names, [("stream", "start"), ("aggregate", "lost"), ("stream", "calm")]);
    let aggregated = modes[1].2;
    assert!((3.0..5.0).contains(&aggregated), "{aggregated} s");
    let live = |state: &str| report["states"][state]["live"].clone();
    assert_eq!(
        [live("ESTABLISHED"), live("SYN_SENT"), live("CLOSE_WAIT")],
        [0, 0, 0],
        "{}",
        report["states"]
    );
}

/// Listed under its process, also while a flood of other connections is counted in the kernel.
fn a_leak_is_still_listed() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let after = ["--close-wait-after", "500ms"];
    let tracer = Tracer::start(
        &[&["report", "--json", "--mode", "aggregate", "--netns", &netns], &after[..]].concat(),
    );
    let mut server = Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=leaky"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7001", "count=40"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close count=37").unwrap();
    for _ in 0..37 {
        server.expect("eof", PATIENCE).unwrap();
    }
    churn(&ns, 2_000, &ChurnPlan::default()).unwrap();
    thread::sleep(Duration::from_secs(1));
    let report = tracer.report();
    assert_whole(&report);
    let close_wait = &report["close_wait"];
    assert_eq!((&close_wait["live"], &close_wait["lingering"]), (&37.into(), &37.into()), "{close_wait}");
    let [process] = &close_wait["processes"].as_array().unwrap()[..] else { panic!("{close_wait}") };
    assert_eq!(process["process"]["pid"], server.pid());
    assert_eq!(process["count"], 37);
    assert_eq!(process["listeners"][0]["port"], 7001);
    let sockets = process["sockets"].as_array().unwrap();
    assert!(sockets.iter().all(|socket| socket["age_exact"] == true), "{close_wait}");
    assert_eq!(report["states"]["ESTABLISHED"]["live"], 6, "{}", report["states"]);
}

fn a_replayed_report_is_the_live_one() {
    let ns = NetNs::new().unwrap();
    let netns = ns.inum().to_string();
    let path = std::env::temp_dir().join(format!("tcp-trace-{}-aggregate.tctrace", std::process::id()));
    let file = path.to_str().unwrap();
    let arguments = ["report", "--json", "--buffer", "4k", "--interval", "1s", "--netns", &netns];
    let tracer = Tracer::start(&[&arguments[..], &["--record", file]].concat());
    churn_for(&ns, Duration::from_secs(3), &ChurnPlan::default()).unwrap();
    let live = tracer.stop().stdout;
    let replayed = Tracer::run(&["report", "--json", "--interval", "1s", "--from", file]).stdout;
    fs::remove_file(&path).unwrap();
    assert!(live == replayed, "live:\n{}\nreplayed:\n{}", text(&live), text(&replayed));
    let reports: Vec<Value> = text(&live).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(reports.iter().all(|report| report["loss"]["balanced"] == true), "{}", text(&live));
    reports.iter().for_each(|report| assert_sums(&report["loss"]));
    assert!(reports.iter().any(|report| report["loss"]["aggregated"].as_u64() > Some(0)));
}

fn what_cannot_be_is_refused() {
    for (arguments, code, why) in [
        (&["report", "--mode", "aggregate", "-p", "1"][..], 2, "filter by --netns"),
        (&["stream", "--mode", "aggregate"], 2, "single transitions"),
        (&["stream", "--mode", "count"], 2, "single transitions"),
        (&["report", "--mode", "count", "--netns", "1"], 2, "the whole host"),
        (&["report", "--mode", "aggregate", "--attach", "tracepoint"], 3, "need tp_btf"),
    ] {
        let output = Tracer::run(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
    // What `auto` cannot do it says.
    let report = Tracer::run(&["report", "--json", "--duration", "100ms", "-p", "1"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let lacks = report["source"]["degradations"].as_array().unwrap();
    assert!(lacks.iter().any(|lack| lack["feature"] == "aggregation"), "{lacks:?}");
}

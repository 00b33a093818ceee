//! Rules, alerts and the dashboard: every metric and label that they name is one of the catalogue, and promtool accepts
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::Value;
use tcp_trace_core::metrics::{CATALOGUE, Kind};

use crate::{Entry, root};

pub(crate) const TESTS: &[Entry] = &[
    ("every_query_names_the_catalogue", None, every_query_names_the_catalogue),
    ("what_is_not_in_the_catalogue_is_noticed", None, what_is_not_in_the_catalogue_is_noticed),
    ("promtool_accepts_rules_and_alerts", Some("promtool"), promtool_accepts_rules_and_alerts),
    ("every_alert_is_tested_both_ways", Some("promtool"), every_alert_is_tested),
];

/// The rule files.
const RULES: [&str; 2] = ["deploy/prometheus/rules.yml", "deploy/prometheus/alerts.yml"];
const DASHBOARD: &str = "deploy/grafana/tcp-trace.json";
const ALERT_TESTS: &str = "deploy/prometheus/tests/alerts_test.yml";
/// What Prometheus itself adds.
const TARGET: [&str; 2] = ["instance", "job"];

/// The values of a key in a file of YAML that has each of them in one line.
fn yaml(path: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    lines.filter_map(|line| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned())).collect()
}

/// Every expression of the dashboard, its variables put in as Grafana would.
pub(crate) fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(root().join(DASHBOARD)).unwrap();
    let mut found = Vec::new();
    expressions(&serde_json::from_str(&text).unwrap(), &mut found);
    found
        .into_iter()
        .map(|expr| expr.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m"))
        .collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        Value::Object(keys) => {
            for (key, value) in keys {
                match value {
                    Value::String(expr) if key == "expr" => found.push(expr.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Every expression of rules and alerts.
pub(crate) fn rules() -> Vec<String> {
    RULES.iter().flat_map(|path| yaml(path, "expr")).collect()
}

/// What an expression names: metrics with the labels they are selected by, and labels it groups by.
#[derive(Debug, Default)]
struct Names {
    metrics: Vec<(String, Vec<String>)>,
    groups: Vec<String>,
}

const KEYWORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Whether `sum` is followed by `by (…)`: it is no metric then.
fn is_grouped(next: &str) -> bool {
    ["by", "without"]
        .iter()
        .any(|word| next.strip_prefix(word).is_some_and(|next| next.trim_start().starts_with('(')))
}

fn names(expr: &str) -> Names {
    let mut names = Names::default();
    let mut rest = expr;
    while let Some(c) = rest.chars().next() {
        if c == '"' || c == '[' {
            let end = if c == '"' { '"' } else { ']' };
            rest = rest[1..].split_once(end).unwrap_or_else(|| panic!("{expr}: no {end}")).1;
        } else if c.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if c.is_ascii_alphabetic() || c == '_' {
            let end =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            let next = after.trim_start();
            let grouping = ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&word);
            if grouping && next.starts_with('(') {
                let (labels, after) = next[1..].split_once(')').unwrap();
                names
                    .groups
                    .extend(labels.split(',').map(|label| label.trim().to_owned()).filter(|l| !l.is_empty()));
                rest = after;
            } else if let Some(matchers) = next.strip_prefix('{') {
                let (labels, after) = matchers.split_once('}').unwrap();
                let label = |matcher: &str| matcher.split(['=', '!']).next().unwrap().trim().to_owned();
                let labels = labels.split("\",").filter(|part| part.contains('"')).map(label).collect();
                names.metrics.push((word.to_owned(), labels));
                rest = after;
            } else if !next.starts_with('(') && !KEYWORDS.contains(&word) && !is_grouped(next) {
                names.metrics.push((word.to_owned(), Vec::new()));
            }
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    names
}

/// Every series name that is exposed, with its labels.
fn exposed() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut exposed = BTreeMap::from([("up".to_owned(), BTreeSet::new())]);
    for metric in CATALOGUE {
        let labels: BTreeSet<_> = metric.labels.iter().map(|label| label.name).collect();
        if metric.kind == Kind::Histogram {
            let with_bound = labels.iter().copied().chain(["le"]).collect();
            exposed.insert(format!("{}_bucket", metric.name), with_bound);
            exposed.insert(format!("{}_sum", metric.name), labels.clone());
            exposed.insert(format!("{}_count", metric.name), labels);
        } else {
            exposed.insert(metric.prometheus_name(), labels);
        }
    }
    exposed
}

/// What is wrong with an expression.
fn wrong(expr: &str, exposed: &BTreeMap<String, BTreeSet<&'static str>>) -> Option<String> {
    let Names { metrics, groups } = names(expr);
    if metrics.is_empty() {
        return Some("it names no metric".to_owned());
    }
    let mut all: BTreeSet<&str> = TARGET.into();
    for (metric, labels) in &metrics {
        let Some(known) = exposed.get(metric) else { return Some(format!("{metric} is not exposed")) };
        if let Some(label) =
            labels.iter().find(|l| !known.contains(l.as_str()) && !TARGET.contains(&l.as_str()))
        {
            return Some(format!("{metric} has no label {label}"));
        }
        all.extend(known);
    }
    groups
        .iter()
        .find(|label| !all.contains(label.as_str()))
        .map(|label| format!("nothing there has {label}"))
}

fn every_query_names_the_catalogue() {
    let exposed = exposed();
    let queries: Vec<_> = rules().into_iter().chain(dashboard()).collect();
    assert!(queries.len() > 60, "{} queries", queries.len());
    for query in queries {
        assert_eq!(wrong(&query, &exposed), None, "{query}");
    }
    let dashboard = fs::read_to_string(root().join(DASHBOARD)).unwrap();
    for variable in dashboard.split("label_values(").skip(1) {
        let metric = variable.split(['{', ',']).next().unwrap();
        assert!(exposed.contains_key(metric), "{metric}");
    }
}

fn what_is_not_in_the_catalogue_is_noticed() {
    let exposed = exposed();
    for (expr, says) in [
        ("rate(tcp_trace_transitions[5m])", Some("tcp_trace_transitions is not exposed")),
        ("tcp_trace_sockets{port=\"80\"}", Some("tcp_trace_sockets has no label port")),
        ("sum by (pid) (tcp_trace_sockets)", Some("nothing there has pid")),
        ("1 + 1", Some("it names no metric")),
        (
            "histogram_quantile(0.9, sum by (le, job) (rate(tcp_trace_connect_duration_seconds_bucket{job=~\"a,b\"}[5m])))",
            None,
        ),
        ("time() - tcp_trace_report_timestamp_seconds > 120 and on (instance) up == 0", None),
    ] {
        assert_eq!(wrong(expr, &exposed).as_deref(), says, "{expr}");
    }
}

fn promtool(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("promtool").args(arguments).current_dir(root()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn promtool_accepts_rules_and_alerts() {
    for arguments in [
        &["check", "rules", "--lint-fatal", RULES[0], RULES[1]][..],
        &["check", "config", "deploy/prometheus/prometheus.yml"],
    ] {
        let (good, said) = promtool(arguments);
        assert!(good, "{said}");
    }
}

fn every_alert_is_tested() {
    let (good, said) = promtool(&["test", "rules", ALERT_TESTS]);
    assert!(good, "{said}");
    let text = fs::read_to_string(root().join(ALERT_TESTS)).unwrap();
    for alert in yaml(RULES[1], "alert") {
        // A test names the labels with which it fires.
        let fires = text
            .split(&format!("alertname: {alert}\n"))
            .skip(1)
            .any(|after| after.lines().next().is_some_and(|line| line.trim() == "exp_alerts:"));
        assert!(fires, "no test sees {alert} fire");
    }
}

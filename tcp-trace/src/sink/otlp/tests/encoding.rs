//! What is said comes out again on the other side, under its names.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
};
use prost::Message as _;
use tcp_trace_core::{
    findings::Subject,
    log::{Document, FindingStep},
    metrics::{Bucketed, Family, Kind, Sample, Series, Snapshot},
    process::Comm,
    survey::{ContainerFacts, Runtime},
    time::WallTime,
};

use super::{
    documents::{self, NIGHT, cart, degradation, leak, nameless, transition},
    origin,
};
use crate::sink::otlp::{batch::Batch, metrics, names, resource::Resources};

type Texts = BTreeMap<String, String>;

/// Attributes as texts.
pub(super) fn texts(attributes: &[KeyValue]) -> Texts {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::ArrayValue(list)) => {
            let text = |value: &AnyValue| match &value.value {
                Some(Value::StringValue(text)) => text.clone(),
                other => format!("{other:?}"),
            };
            list.values.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

/// Through the wire and back: resource and record of each document.
pub(super) fn through(documents: &[Document]) -> Vec<(Texts, LogRecord)> {
    let resources = Resources::new(origin(), Texts::new());
    let batch = Batch::fill(documents, &resources, usize::MAX, 7);
    assert_eq!(batch.documents, documents.len());
    let decoded = ExportLogsServiceRequest::decode(batch.request.encode_to_vec().as_slice()).unwrap();
    assert_eq!(decoded, batch.request);
    let mut all = Vec::new();
    for resource in decoded.resource_logs {
        assert_eq!(resource.schema_url, names::SCHEMA_URL);
        let attributes = texts(&resource.resource.unwrap_or_default().attributes);
        for scope in resource.scope_logs {
            assert_eq!(scope.scope.unwrap_or_default().name, "tcp-trace");
            all.extend(scope.log_records.into_iter().map(|record| (attributes.clone(), record)));
        }
    }
    all
}

fn only(document: Document) -> (Texts, LogRecord, Texts) {
    let (resource, record) = through(&[document]).pop().unwrap();
    let attributes = texts(&record.attributes);
    (resource, record, attributes)
}

/// Checks that each pair is there.
fn has(texts: &Texts, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(texts.get(*key).map(String::as_str), Some(*value), "{key} in {texts:#?}");
    }
}

#[test]
fn every_document_of_a_run_is_a_record() {
    let documents = documents::of_the_recording();
    let records = through(&documents);
    let kinds: BTreeSet<_> = records.iter().map(|(_, record)| record.event_name.as_str()).collect();
    assert!(kinds.len() >= 5, "{kinds:?}");
    for (resource, record) in &records {
        assert!(record.time_unix_nano > 0 && record.observed_time_unix_nano == 7);
        assert!(record.severity_number >= 9 && !record.severity_text.is_empty());
        assert!(!texts(&record.attributes).is_empty());
        has(resource, &[("host.name", "node-7"), ("k8s.cluster.name", "prod"), ("deploy", "2026-11-22.3")]);
        let keys: BTreeSet<_> = record.attributes.iter().map(|pair| &pair.key).collect();
        assert_eq!(keys.len(), record.attributes.len(), "one attribute twice in {record:?}");
    }
    let told: BTreeSet<_> =
        documents.iter().map(|document| (document.time().0, document.message())).collect();
    let body = |record: &LogRecord| match record.body.clone().and_then(|body| body.value) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        records.iter().map(|(_, record)| (record.time_unix_nano, body(record))).collect::<BTreeSet<_>>(),
        told
    );
}

#[test]
fn a_finding_says_who_and_since_when() {
    let (resource, record, attributes) = only(leak(cart(), FindingStep::Changed));
    assert_eq!((record.time_unix_nano, record.severity_number), (NIGHT.0, 18));
    assert_eq!((record.event_name.as_str(), record.severity_text.as_str()), ("tcp.finding", "critical"));
    has(
        &resource,
        &[
            ("service.name", "cart"),
            ("service.namespace", "shop"),
            ("service.instance.id", "node-7"),
            ("container.image.name", "registry.example:5000/shop/cart"),
            ("container.runtime.name", "containerd"),
            ("k8s.pod.name", "cart-7d9f6c5b8-x2x4z"),
            ("k8s.pod.uid", "0f6b1f9e-4c1d-4a52-9b0e-27b5f3f5c0a1"),
            ("k8s.node.name", "node-7"),
            ("deployment.environment.name", "production"),
        ],
    );
    assert!(resource["container.image.tags"].contains("1.14.2"), "{resource:?}");
    has(
        &attributes,
        &[
            ("tcp_trace.finding.id", "close_wait_leak"),
            ("tcp_trace.finding.step", "changed"),
            ("tcp_trace.finding.severity_before", "warning"),
            ("tcp_trace.finding.since", "2026-11-22T02:50:00.000000000Z"),
            ("tcp_trace.finding.evidence.lingering", "40"),
            ("tcp_trace.finding.evidence.oldest_at_least", "600.5"),
            ("tcp_trace.finding.evidence.listener", "10.1.2.3:8080 (39 of 40)"),
            ("process.pid", "21856"),
            ("process.executable.path", "/srv/cart/bin/cart"),
        ],
    );
    // What is not known is not there, and no command line is.
    assert!(!attributes.contains_key("tcp_trace.finding.evidence.no_descriptors_left_in"));
    assert!(!format!("{record:?}").contains("hunter2"));
}

/// Stores that make objects of dots (Elasticsearch, OpenSearch) cannot have a value and an object under one name.
#[test]
fn no_name_is_the_beginning_of_another() {
    let mut documents = documents::of_the_recording();
    documents.extend([leak(cart(), FindingStep::Changed), degradation(false)]);
    let names: BTreeSet<_> = through(&documents)
        .into_iter()
        .flat_map(|(_, record)| texts(&record.attributes).into_keys())
        .collect();
    for name in &names {
        let under = names
            .iter()
            .find(|other| other.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.')));
        assert_eq!(under, None, "under {name}");
    }
}

#[test]
fn what_is_over_pages_nobody() {
    let (_, record, attributes) = only(leak(cart(), FindingStep::Closed));
    assert_eq!((record.severity_number, record.severity_text.as_str()), (9, "info"));
    has(&attributes, &[("tcp_trace.finding.severity", "critical"), ("tcp_trace.finding.step", "closed")]);
    let (_, record, attributes) = only(degradation(false));
    assert_eq!(record.severity_number, 13);
    has(
        &attributes,
        &[("tcp_trace.degradation.feature", "half_open"), ("tcp_trace.degradation.over", "false")],
    );
}

#[test]
fn nothing_of_a_name_reaches_a_terminal() {
    let Document::Finding(mut change) = leak(cart(), FindingStep::Opened) else { unreachable!() };
    let Subject::Process { process: Some(process) } = &mut change.finding.subject else { unreachable!() };
    process.comm = Comm::from_text("cart\u{1b}[2J");
    let (_, record, attributes) = only(Document::Finding(change));
    assert_eq!(attributes["process.executable.name"], "cart\\u{1b}[2J");
    let values = record.attributes.iter().filter_map(|pair| pair.value.clone()).chain(record.body);
    let disturbs =
        |value: &Value| matches!(value, Value::StringValue(text) if text.contains(char::is_control));
    assert!(values.filter_map(|value| value.value).all(|value| !disturbs(&value)));
}

#[test]
fn each_container_is_a_resource_of_its_own() {
    let one = || nameless(&"a".repeat(64));
    let unit = |name: &str| ContainerFacts { runtime: Runtime::Systemd, ..nameless(name) };
    let documents = [
        leak(one(), FindingStep::Opened),
        degradation(false),
        leak(nameless(&"b".repeat(64)), FindingStep::Opened),
        transition(Some(one())),
        transition(Some(unit("worker@3.service"))),
        transition(Some(unit("session-7.scope"))),
        transition(None),
    ];
    let resources = Resources::new(origin(), Texts::new());
    let batch = Batch::fill(&documents, &resources, usize::MAX, 0);
    let groups = batch.request.resource_logs.iter();
    let groups: Vec<_> = groups
        .map(|group| {
            let attributes = texts(&group.resource.as_ref().unwrap().attributes);
            (attributes["service.name"].clone(), group.scope_logs[0].log_records.len())
        })
        .collect();
    let expected =
        [("a".repeat(64), 2), ("tcp-trace".to_owned(), 3), ("b".repeat(64), 1), ("worker".to_owned(), 1)];
    assert_eq!(groups, expected);
}

#[test]
fn a_service_is_called_the_same_on_every_host() {
    let resources = Resources::new(origin(), Texts::new());
    let service = |facts| texts(&resources.container(&facts).attributes)["service.name"].clone();
    assert_eq!(service(ContainerFacts { name: None, ..cart() }), "cart");
    assert_eq!(service(ContainerFacts { image: None, name: None, ..cart() }), cart().id);
    let digest = Some("sha256:0123".to_owned());
    assert_eq!(service(ContainerFacts { image: digest, name: None, ..cart() }), "sha256:0123");
    assert_eq!(
        service(ContainerFacts { runtime: Runtime::Systemd, ..nameless("orders-api.service") }),
        "orders-api"
    );
}

#[test]
fn what_the_environment_says_of_a_service_is_about_the_agent() {
    let extra = [("service.name", "node-agent"), ("team", "edge"), ("host.name", "other")];
    let extra = extra.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let resources = Resources::new(origin(), extra);
    let of = |resource: Resource| texts(&resource.attributes);
    has(&of(resources.host()), &[("service.name", "node-agent"), ("team", "edge"), ("host.name", "other")]);
    has(
        &of(resources.container(&cart())),
        &[("service.name", "cart"), ("team", "edge"), ("host.name", "other")],
    );
}

#[test]
fn a_subject_of_any_kind_has_its_ends() {
    let end = "10.1.2.3:8080".parse::<std::net::SocketAddr>().unwrap();
    let end = tcp_trace_core::endpoint::Endpoint { address: end.ip(), port: end.port() };
    let listener = Subject::Listener { local: Some(end), netns: Some(4026531840), process: None };
    has(
        &only(documents::about(listener)).2,
        &[
            ("network.local.address", "10.1.2.3"),
            ("server.port", "8080"),
            ("tcp.network_namespace.id", "4026531840"),
            ("tcp_trace.finding.subject.kind", "listener"),
        ],
    );
    let destination = Subject::Destination { peer: Some(end), process: None };
    has(
        &only(documents::about(destination)).2,
        &[("network.peer.port", "8080"), ("server.address", "10.1.2.3")],
    );
    let ports =
        Subject::LocalPorts { netns: 1, local: "10.0.0.1".parse().unwrap(), peer: end, process: None };
    has(
        &only(documents::about(ports)).2,
        &[("network.local.address", "10.0.0.1"), ("network.peer.port", "8080")],
    );
    let namespace = Subject::Namespace { netns: 1, name: Some("blue".to_owned()) };
    has(&only(documents::about(namespace)).2, &[("tcp.network_namespace.name", "blue")]);
}

/// Metrics of each kind, some time after the night.
pub(super) fn snapshot(seconds: u64) -> Snapshot {
    let family = |name, otel_name, otel_unit, kind, series| Family {
        name,
        otel_name,
        help: "What it is.",
        unit: "",
        otel_unit,
        kind,
        series,
    };
    let series = |labels: &[(&'static str, &str)], value| Series {
        labels: labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect(),
        value,
    };
    let buckets = Bucketed { bounds: &[0.1, 1.0], counts: vec![3, 2, 1], sum: 4.5 };
    let moves = [("old", "established"), ("new", "close_wait")];
    Snapshot {
        start: NIGHT,
        time: WallTime(NIGHT.0 + seconds * 1_000_000_000),
        families: vec![
            family(
                "t",
                "tcp.state.transitions",
                "{transition}",
                Kind::Counter,
                vec![series(&moves, Sample::Count(7))],
            ),
            family(
                "s",
                "system.network.connection.count",
                "{connection}",
                Kind::Gauge,
                vec![series(&[("state", "listen")], Sample::Count(3))],
            ),
            family("o", "tcp.close_wait.oldest_age", "s", Kind::Gauge, vec![series(&[], Sample::Real(1.5))]),
            family(
                "h",
                "tcp.half_open.duration",
                "s",
                Kind::Histogram,
                vec![series(&[], Sample::Histogram(buckets))],
            ),
        ],
    }
}

#[test]
fn metrics_are_cumulative_and_have_the_names_of_opentelemetry() {
    let resource = Resources::new(origin(), Texts::new()).host();
    let requests = metrics::requests(&snapshot(30), &resource, 4 << 20);
    let [request] = &requests[..] else { panic!("{requests:?}") };
    let decoded = ExportMetricsServiceRequest::decode(request.encode_to_vec().as_slice()).unwrap();
    assert_eq!((&decoded, metrics::points(request)), (request, 4));
    let [transitions, sockets, oldest, half_open] = &decoded.resource_metrics[0].scope_metrics[0].metrics[..]
    else {
        panic!()
    };
    let Some(Data::Sum(sum)) = &transitions.data else { panic!("{transitions:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let point = &sum.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (NIGHT.0, NIGHT.0 + 30_000_000_000));
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(7)));
    let attributes =
        [("tcp.connection.state.previous", "established"), ("network.connection.state", "close_wait")];
    has(&texts(&point.attributes), &attributes);
    let Some(Data::Sum(sum)) = &sockets.data else { panic!("{sockets:?}") };
    assert!(!sum.is_monotonic);
    assert!(matches!(&oldest.data, Some(Data::Gauge(_))), "{oldest:?}");
    let Some(Data::Histogram(histogram)) = &half_open.data else { panic!("{half_open:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.sum, &point.bucket_counts[..]), (6, Some(4.5), &[3, 2, 1][..]));
    assert_eq!(point.explicit_bounds, [0.1, 1.0]);
}

#[test]
fn requests_of_metrics_are_bounded_and_lose_nothing() {
    let mut snapshot = snapshot(0);
    let series = snapshot.families[0].series[0].clone();
    snapshot.families[0].series = vec![series; 5000];
    let resource = Resources::new(origin(), Texts::new()).host();
    let requests = metrics::requests(&snapshot, &resource, 32 << 10);
    assert!(requests.iter().all(|request| request.encoded_len() <= 32 << 10));
    assert_eq!(requests.iter().map(metrics::points).sum::<usize>(), 5003);
    let names = |metric: &Metric| metric.name.clone();
    let metrics = requests.iter().flat_map(|request| &request.resource_metrics[0].scope_metrics[0].metrics);
    assert!(metrics.map(names).all(|name| !name.is_empty()));
}

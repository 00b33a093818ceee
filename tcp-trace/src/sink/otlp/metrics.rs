//! The catalogue of metrics as OTLP metrics: cumulative, with the start of the agent as their start.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message as _;
use tcp_trace_core::metrics::{Bucketed, Family, Kind, Sample, Series, Snapshot, otel_label};

use super::{attributes::Attributes, batch, names};

/// Points that go into one message at most: what is longer than a request may be is cut here, long before it.
const POINTS: usize = 1000;

/// What OpenTelemetry's conventions have as a sum that goes up and down: it may be added up over hosts.
const UP_DOWN: [&str; 2] = ["system.network.connection.count", "process.memory.usage"];

/// One request after another, none longer than `max_bytes` if its points let it.
pub(super) fn requests(
    snapshot: &Snapshot,
    resource: &Resource,
    max_bytes: usize,
) -> Vec<ExportMetricsServiceRequest> {
    let base = resource.encoded_len() + 256;
    let (mut requests, mut metrics, mut bytes) = (Vec::new(), Vec::new(), base);
    let points = POINTS.min(max_bytes / 1024).max(1);
    let parts = snapshot
        .families
        .iter()
        .flat_map(|family| family.series.chunks(points).map(move |part| (family, part)));
    for (family, part) in parts {
        let metric = metric(snapshot, family, part);
        let more = metric.encoded_len() + 6;
        if !metrics.is_empty() && bytes + more > max_bytes {
            requests.push(request(resource, std::mem::take(&mut metrics)));
            bytes = base;
        }
        bytes += more;
        metrics.push(metric);
    }
    if !metrics.is_empty() {
        requests.push(request(resource, metrics));
    }
    requests
}

/// How many points there are in it: what a collector rejects is counted in them.
pub(super) fn points(request: &ExportMetricsServiceRequest) -> usize {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let data = scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref());
    data.map(|data| match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(_) | Data::Summary(_) => 0,
    })
    .sum()
}

fn request(resource: &Resource, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope =
        ScopeMetrics { scope: Some(batch::scope()), metrics, schema_url: names::SCHEMA_URL.to_owned() };
    let resource = ResourceMetrics {
        resource: Some(resource.clone()),
        scope_metrics: vec![scope],
        schema_url: names::SCHEMA_URL.to_owned(),
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

fn metric(snapshot: &Snapshot, family: &Family, series: &[Series]) -> Metric {
    let temporality = AggregationTemporality::Cumulative.into();
    let numbers = || series.iter().filter_map(|series| number(snapshot, family.kind, series)).collect();
    let data = match family.kind {
        Kind::Counter => Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        Kind::Gauge if UP_DOWN.contains(&family.otel_name) => Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: temporality,
            is_monotonic: false,
        }),
        Kind::Gauge | Kind::Info => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => Data::Histogram(Histogram {
            data_points: series.iter().filter_map(|series| histogram(snapshot, series)).collect(),
            aggregation_temporality: temporality,
        }),
    };
    Metric {
        name: family.otel_name.to_owned(),
        description: family.help.to_owned(),
        unit: family.otel_unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(snapshot: &Snapshot, kind: Kind, series: &Series) -> Option<NumberDataPoint> {
    let value = match &series.value {
        Sample::Count(count) => match i64::try_from(*count) {
            Ok(whole) => number_data_point::Value::AsInt(whole),
            Err(_too_large) => number_data_point::Value::AsDouble(*count as f64),
        },
        Sample::Real(real) => number_data_point::Value::AsDouble(*real),
        Sample::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: labels(series),
        // What goes up and down has no beginning.
        start_time_unix_nano: if kind == Kind::Counter { snapshot.start.0 } else { 0 },
        time_unix_nano: snapshot.time.0,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(snapshot: &Snapshot, series: &Series) -> Option<HistogramDataPoint> {
    let Sample::Histogram(histogram) = &series.value else { return None };
    let Bucketed { bounds, counts, sum } = histogram;
    Some(HistogramDataPoint {
        attributes: labels(series),
        start_time_unix_nano: snapshot.start.0,
        time_unix_nano: snapshot.time.0,
        count: histogram.count(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

fn labels(series: &Series) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
    let mut attributes = Attributes::default();
    for (label, value) in &series.labels {
        attributes.text(otel_label(label).unwrap_or(label), value);
    }
    attributes.into_vec()
}

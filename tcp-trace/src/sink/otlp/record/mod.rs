//! Documents as log records.

mod connection;
mod finding;
mod report;

use opentelemetry_proto::tonic::{common::v1::any_value::Value, logs::v1::LogRecord};
use tcp_trace_core::log::Document;

use super::attributes::{Attributes, any};

/// A document as a record, with the time at which it was sent first.
pub(super) fn record(document: &Document, observed: u64) -> LogRecord {
    let attributes = match document {
        Document::Transition(change) => connection::transition(change),
        Document::Closed(obituary) => connection::closed(obituary),
        Document::Finding(change) => finding::finding(change),
        Document::Report(digest) => report::report(digest),
        Document::Loss(notice) => report::loss_notice(notice),
        Document::Degradation(notice) => degradation(notice),
    };
    let severity = document.severity();
    LogRecord {
        time_unix_nano: document.time().0,
        observed_time_unix_nano: observed,
        severity_number: severity.otlp().into(),
        severity_text: severity.name().to_owned(),
        // The conventions want events to have no body, but Loki and others show an empty line then.
        body: Some(any(Value::StringValue(document.message()))),
        attributes: attributes.into_vec(),
        event_name: document.event().to_owned(),
        ..LogRecord::default()
    }
}

fn degradation(notice: &tcp_trace_core::log::DegradationNotice) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text("tcp_trace.degradation.feature", &notice.degradation.feature);
    attributes.text("tcp_trace.degradation.reason", &notice.degradation.reason);
    attributes.maybe_text("tcp_trace.degradation.remedy", notice.degradation.remedy.as_deref());
    attributes.flag("tcp_trace.degradation.over", notice.over);
    attributes
}

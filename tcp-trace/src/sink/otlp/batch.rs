//! Documents to one request after another, none of which is longer than it may be.

use std::collections::HashMap;

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::InstrumentationScope,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message as _;
use tcp_trace_core::{log::Document, survey::ContainerFacts};

use super::{
    names, record,
    resource::{self, Resources},
};

/// What a field of a message costs beyond its content: tag and length.
const FRAME: usize = 6;

/// One request, and how many documents are in it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) request: ExportLogsServiceRequest,
    pub(super) documents: usize,
}

impl Batch {
    /// As many documents from the front as fit into `max_bytes`; one at least, which may be longer.
    pub(super) fn fill(
        documents: &[Document],
        resources: &Resources,
        max_bytes: usize,
        observed: u64,
    ) -> Self {
        let mut groups: Vec<ResourceLogs> = Vec::new();
        let mut places: HashMap<Option<&ContainerFacts>, usize> = HashMap::new();
        let (mut bytes, mut taken) = (0, 0);
        for document in documents {
            let record = record::record(document, observed);
            let container = document.container().filter(|facts| resource::has_own(facts));
            let place = places.get(&container).copied();
            let group = match place {
                Some(_) => None,
                None => Some(group(match container {
                    Some(facts) => resources.container(facts),
                    None => resources.host(),
                })),
            };
            let more =
                record.encoded_len() + FRAME + group.as_ref().map_or(0, |group| group.encoded_len() + FRAME);
            if taken > 0 && bytes + more > max_bytes {
                break;
            }
            bytes += more;
            taken += 1;
            let place = *places.entry(container).or_insert(groups.len());
            groups.extend(group);
            add(&mut groups, place, record);
        }
        Self { request: ExportLogsServiceRequest { resource_logs: groups }, documents: taken }
    }
}

fn add(groups: &mut [ResourceLogs], place: usize, record: LogRecord) {
    if let Some(scope) = groups.get_mut(place).and_then(|group| group.scope_logs.first_mut()) {
        scope.log_records.push(record);
    }
}

fn group(resource: Resource) -> ResourceLogs {
    let scope =
        ScopeLogs { scope: Some(scope()), log_records: Vec::new(), schema_url: names::SCHEMA_URL.to_owned() };
    ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![scope],
        schema_url: names::SCHEMA_URL.to_owned(),
    }
}

/// Who says it.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: names::SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

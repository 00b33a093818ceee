//! OpenTelemetry: documents as OTLP log records, metrics as OTLP metrics, over HTTP as protobuf.
//!
//! Only the messages are taken from elsewhere. The official SDK has one resource for all that a process tells, and we
//! tell of other people's containers: each of them is a resource of its own here. What an exporter does about a slow or
//! a dead collector (queue, retries, back-off) is the agent's, and the same for every sink.
//!
//! This folder is the only one that imports OTLP and an HTTP client.

mod answer;
mod attributes;
mod batch;
mod client;
mod config;
mod environment;
mod exporter;
#[doc(hidden)]
pub mod fuzzing;
mod metrics;
mod names;
mod record;
mod resource;
mod settings;

pub use config::{Compression, Config, Secret, Signal};
pub use exporter::Exporter;

#[cfg(test)]
mod tests;

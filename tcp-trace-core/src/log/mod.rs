//! What an agent tells as it happens: documents, each of which stands for itself wherever it is sent.
//!
//! A sink lays a document out in its own way: as a line of JSON, as fields of a journal, as an OTLP log record. What it
//! says is decided here.

mod document;

pub use document::{
    DegradationNotice, Document, FindingChange, FindingStep, Level, LossNotice, Origin, ReportDigest, SCHEMA,
};

//! What an agent tells as it happens: documents, each of which stands for itself wherever it is sent.
//!
//! A sink lays a document out in its own way: as a line of JSON, as fields of a journal, as an OTLP log record. What it
//! says is decided here: which documents there are ([`Chronicle`]), how grave each is ([`Document::severity`]), its one
//! line for people ([`Document::message`]), and its JSON ([`Line`], [`LogWriter`]).

mod chronicle;
mod digest;
mod document;
mod fields;
mod line;
mod message;
mod severity;

pub use chronicle::Chronicle;
pub use digest::{
    CloseWaitDigest, DestinationDigest, ListenerDigest, OpenFinding, PortsDigest, ProcessDigest,
    ReportDigest, Who,
};
pub use document::{
    DegradationNotice, Document, FindingChange, FindingStep, Level, LossNotice, Origin, SCHEMA,
};
pub use fields::{FIELDS, Fields};
pub use line::{Line, LogWriter};

//! What tcp-trace says: plain structs with public fields. Numbers are decided once, in the tracker; a sink
//! only lays them out. `docs/schema/` holds the JSON Schema of both documents.
//!
//! `None` is "not known" and serialises as `null`; it is never 0 and never left out.

mod change;
mod document;

pub use change::{EVENT_NAME, Process, StateChange};
pub use document::{
    CloseWait, CloseWaitProcess, Connect, DurationSummary, Findings, HalfOpen, HalfOpenSources, Listener,
    Loss, PeerCount, ProcessIdentity, ProcessSummary, Report, SCHEMA, Socket, Source, StateSummary, TimeWait,
    TimeWaitProcess, TransitionCount, Window,
};

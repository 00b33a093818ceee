//! What tcp-trace says: plain structs with public fields. Numbers are decided once, in the tracker; a sink
//! only lays them out. `docs/schema/` holds the JSON Schema of both documents.
//!
//! `None` is "not known" and serialises as `null`; it is never 0 and never left out.

mod change;
mod distributions;
mod document;
mod half_open;
mod line;
mod obituary;
mod opened_at;
mod series;
pub(crate) mod text;
mod trouble;

pub use change::{EVENT_NAME, Process, StateChange};
pub use distributions::{Distribution, Distributions, HANDSHAKE_BOUNDS_NS, STATE_BOUNDS_NS};
pub use document::{
    CloseWait, CloseWaitKinds, CloseWaitProcess, Connect, ConnectFailures, ContainerSummary, DurationSummary,
    Limit, Loss, ModeSpan, OwnerState, PeerCount, ProcessIdentity, ProcessSockets, ProcessSummary, Report,
    SCHEMA, Socket, SocketHolder, Source, StateSummary, TimeWait, TimeWaitCloser, TimeWaitDestination,
    TimeWaitProcess, TransitionCount, Window,
};
pub use half_open::{
    HalfOpen, HalfOpenCause, HalfOpenSources, Listener, NamespaceSummary, PrefixCount, Queue,
};
pub use line::LineWriter;
#[cfg(test)]
pub(crate) use line::tests::change as change_of_any_kind;
pub use obituary::{CLOSED_EVENT_NAME, Closer, Ending, Obituary, Role};
pub use opened_at::{OpenedAt, StackCount};
pub use series::{ProcessSample, ProcessSeries, Series, SeriesPoint};
pub use trouble::{
    Closing, ClosingGroup, ClosingSocket, EndingCount, Inherited, InheritedSocket, ListenerChange,
};

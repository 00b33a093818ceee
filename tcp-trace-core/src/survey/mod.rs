//! What user space finds out about the host by looking, as inputs: the sockets that exist now, who holds them, who
//! those processes are, which containers they are in, and what the kernel counts per network namespace.
//!
//! A *survey* is one such look. It begins with [`SurveyBegin`], brings rows and facts in any number of records, and
//! ends with [`SurveyEnd`]; the source sees to it that every transition up to its end stands before that mark in the
//! stream. Everything is data: where it comes from is the source's business.

mod age;
mod facts;
mod kind;
mod rows;
#[cfg(test)]
pub(crate) mod sample;
mod wire;

pub use age::{Age, age};
pub use facts::{
    ContainerFacts, Facts, ListenerFacts, NamespaceFacts, ProcessFacts, Runtime, ServiceClass, SocketCounters,
};
pub use kind::CloseWaitKind;
pub use rows::{Holder, RequestRow, SocketRow, SurveyBegin, SurveyEnd, TcpInfo, Timer, scope};
pub use wire::{
    decode_holders, decode_requests, decode_sockets, encode_holders, encode_requests, encode_sockets,
};

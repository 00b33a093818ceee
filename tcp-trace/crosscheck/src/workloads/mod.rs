//! Programs that others wrote, at work in namespaces of their own, and what tcp-trace says of each of their connections.
//!
//! Who serves and who asks is known from outside: from the process numbers of what was started, and from the programs' own
//! logs and counters.

pub(crate) mod containers;
pub(crate) mod namespaces;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod runtimes;
pub(crate) mod stage;
pub(crate) mod web;

//! A look at the host: the sockets that exist, who holds them, who those are. No eBPF but the kernel's own iterator
//! over descriptors.
//!
//! What is found becomes records of `tcp_trace_core::survey`, whoever asks for it.

pub mod containers;
pub mod holders;
pub mod namespaces;
pub mod netstat;
mod proc;
pub mod processes;
pub mod sock_diag;
mod surveyor;
mod users;

pub use containers::Containers;
pub(crate) use surveyor::Outlet;
pub use surveyor::{Scope, Surveyor};

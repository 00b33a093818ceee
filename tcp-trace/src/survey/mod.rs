//! A look at the host: the sockets that exist, who holds them, who those are. No eBPF but the kernel's own iterator
//! over descriptors.
//!
//! What is found becomes records of `tcp_trace_core::survey`, whoever asks for it.

mod cgroups;
mod cmdline;
pub mod containers;
mod found;
#[doc(hidden)]
pub mod fuzzing;
pub mod holders;
pub mod namespaces;
pub mod netstat;
mod proc;
pub mod processes;
mod scope;
pub mod sock_diag;
mod surveyor;
mod users;

pub use containers::Containers;
pub(crate) use found::Outlet;
pub use scope::Scope;
pub use surveyor::Surveyor;

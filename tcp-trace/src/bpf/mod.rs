//! The kernel programs: the only folder that imports aya.

pub mod btf;
mod cgroup;
mod degraded;
mod holders;
pub mod layout;
mod loading;
mod object;
mod optional;
mod requests;
mod sys;
mod tracefs;

pub use cgroup::mount_point as cgroup_mount_point;
pub use holders::Holders;
pub use object::{AttachChoice, Attached, Counts, Options, Ring, attach};
pub use requests::Requests;

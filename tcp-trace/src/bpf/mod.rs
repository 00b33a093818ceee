//! The kernel programs: the only folder that imports aya.

pub mod btf;
mod cgroup;
pub mod layout;
mod object;
mod tracefs;

pub use cgroup::mount_point as cgroup_mount_point;
pub use object::{AttachChoice, Attached, Counts, Options, Ring, attach};

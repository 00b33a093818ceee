//! The kernel programs: the only folder that imports aya.

mod aggregation;
pub mod btf;
mod cgroup;
pub(crate) mod degraded;
mod fill;
mod holders;
pub mod layout;
mod loading;
mod object;
mod optional;
mod placeholders;
mod requests;
mod stacks;
mod sys;
mod tracefs;

pub use aggregation::{Aggregation, Generation};
pub use cgroup::mount_point as cgroup_mount_point;
pub use fill::Fill;
pub use holders::Holders;
pub use object::{AttachChoice, Attached, Counts, ModeChoice, Options, Ring, attach};
pub use requests::Requests;
pub use stacks::{Stacks, StacksOrNot, attach as attach_stacks};

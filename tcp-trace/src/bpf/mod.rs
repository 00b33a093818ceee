//! The kernel programs: the only folder that imports aya.

mod aggregation;
pub mod btf;
mod cgroup;
pub(crate) mod degraded;
#[doc(hidden)]
pub mod fuzzing;
mod holders;
mod instead;
pub mod layout;
mod loading;
mod object;
mod optional;
mod placeholders;
mod requests;
mod rings;
mod stacks;
mod sys;
mod tracefs;
mod trial;

pub use aggregation::{Aggregation, Generation};
pub use cgroup::mount_point as cgroup_mount_point;
pub use holders::Holders;
pub use instead::{InPlace, Instead};
pub use object::{AttachChoice, Attached, Counts, ModeChoice, Options, attach};
pub use requests::Requests;
pub use rings::{Fills, Layout, Progress, Rings};
pub use stacks::{Stacks, StacksOrNot, attach as attach_stacks};
pub use trial::{Trials, try_all};

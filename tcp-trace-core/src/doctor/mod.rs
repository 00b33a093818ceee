//! `tcp-trace doctor`: what a host allows, what follows from it, and the next thing to do about it.
//!
//! Whoever examines a host fills in [`Facts`]; [`diagnose`] makes the document of them. No rule here asks the host.

mod capability;
mod cause;
mod checks;
mod diagnosis;
mod document;
mod facts;
mod needs;
mod remedy;
mod tiers;

pub use capability::{Capabilities, Capability};
pub use cause::{Cause, EACCES, EPERM, cause};
pub use diagnosis::diagnose;
pub use document::{
    CapabilityRow, Check, Diagnosis, HookRow, Layout, Next, Outcome, SCHEMA, Status, Tier, Works,
};
pub use facts::{
    Attempt, BtfFacts, CgroupFacts, CgroupMode, Facts, Field, HookKind, Privileges, Tracefs, Trial,
};

pub use needs::{Feature, for_setcap, names};

#[cfg(test)]
mod tests;

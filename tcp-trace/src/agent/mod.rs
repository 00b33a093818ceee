//! The agent: the long-running form, which hands what it finds to several sinks at once.

pub mod export;
pub mod values;

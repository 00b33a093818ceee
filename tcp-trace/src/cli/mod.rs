//! The command line: what was typed (`args`), what stands in the file that it names (`config`),
//! and what it comes to on this host (`settings`).

pub mod agent;
pub mod args;
pub mod config;
pub mod doctor;
pub mod explain;
pub mod kill;
pub mod settings;
pub mod top;
pub(crate) mod units;

//! The command line: what was typed (`args`), and what it comes to on this host (`settings`).

pub mod args;
pub mod doctor;
pub mod explain;
pub mod kill;
pub mod settings;
mod units;

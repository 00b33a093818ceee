//! tcp-trace, user side: everything that can fail or block.
//!
//! Modules in the order of the data's path: `bpf` and `source` yield records, `recording` keeps them,
//! `engine` feeds them to `tcp-trace-core`, `sink` prints what comes out, `pages` writes it into files; `run` wires one of each.
//! `progress` says how far long work has come.
//! `survey` looks at the host without eBPF, and `snapshot` prints what it finds; `doctor` tries what this host allows; `explain` only prints, `top`
//! draws, `agent` runs for long and hands on, and `kill` is the one command that changes something. `confine` takes rights
//! away from threads that have no use for them.

#![warn(clippy::print_stderr, reason = "it panics where standard error takes nothing; `say!` does not")]

// What tests of both sides share names it so.
#[cfg(test)]
extern crate self as tcp_trace;

pub mod agent;
pub mod bpf;
pub mod cli;
pub mod confine;
pub mod doctor;
pub mod engine;
pub mod exit;
pub mod explain;
pub mod host;
pub mod kill;
pub mod memory;
mod new_file;
pub mod outlet;
pub mod pages;
mod private_mount;
pub mod progress;
pub mod recording;
pub mod run;
pub mod say;
mod shown;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod stacks;
pub mod stop;
pub mod survey;
pub mod top;

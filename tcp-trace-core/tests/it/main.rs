//! The core from outside: wire bytes in, rows and reports out, both as text.
//!
//! A scenario is a sequence of events as the kernel makes it (`docs/` and the sources name the kernels it was
//! seen on) in the language of `dsl.rs`; what is expected follows from what TCP and the kernel do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod check;
mod container;
mod dsl;
mod findings;
mod log;
mod metrics;
mod properties;
mod render;
mod scenarios;
mod stacks;
mod surveys;
mod wild;

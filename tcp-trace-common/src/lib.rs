//! What the kernel half and the user half of tcp-trace must agree on, to the byte.
//!
//! Rules for a type that crosses the border:
//!
//! * `#[repr(C)]`, integers and byte arrays only, and no implicit padding: deriving
//!   [`zerocopy::IntoBytes`] refuses it at compile time.
//! * Anything that may be unknown has a bit in [`event::flags`] or a stated sentinel; 0 is never
//!   "unknown" unless its field says so.
//! * Changing a type changes [`WIRE_VERSION`], which every recording carries.
#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod aggregate;
pub mod config;
pub mod cookies;
pub mod counters;
pub mod event;
pub mod filter;
pub mod layout;
pub mod nesting;
pub mod packed;
pub mod request;
pub mod stack;
pub mod state;
mod word;

pub use word::Word;

/// Version of the wire types below. A recording made with another version is refused, never guessed at.
pub const WIRE_VERSION: u32 = 3;

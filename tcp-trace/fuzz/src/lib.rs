//! What is fuzzed, and what must hold for any bytes whatever: not only that nothing panics.
//!
//! Each target is a function of bytes. `fuzz_targets/` has a program of libFuzzer for each; the tests of this package run
//! every committed input through its target, without libFuzzer, so that what was found once stays mended.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a target that finds something must say so by panicking"
)]

mod kernel;
mod people;
mod processes;
mod records;
mod stream;

pub use kernel::{btf, netlink};
pub use people::{answers, config, filters};
pub use processes::{cgroups, documents, executables, proc, stacks, symbols};
pub use records::{decode, recording};
pub use stream::stream;

/// A target: any bytes in; a panic is a finding.
pub type Target = fn(&[u8]);

/// Every target by name; a test compares them with the programs and the corpora.
pub const TARGETS: [(&str, Target); 14] = [
    ("answers", answers),
    ("btf", btf),
    ("cgroups", cgroups),
    ("config", config),
    ("decode", decode),
    ("documents", documents),
    ("executables", executables),
    ("filters", filters),
    ("netlink", netlink),
    ("proc", proc),
    ("recording", recording),
    ("stacks", stacks),
    ("stream", stream),
    ("symbols", symbols),
];

/// The first byte, which chooses, and the rest as text, with what is no UTF-8 replaced as the program does it.
fn choice(data: &[u8]) -> (u8, std::borrow::Cow<'_, str>) {
    let (first, rest) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    (first, String::from_utf8_lossy(rest))
}

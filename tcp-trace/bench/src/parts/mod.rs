//! The parts, one file each.

mod kernel;
mod victim;

use anyhow::Result;
use clap::ValueEnum;

use crate::bench::{Bench, Outcome};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Run time of the kernel programs for each transition
    Kernel,
    /// Connection rate and latency of a traced load, and of a web server
    Victim,
}

impl Part {
    /// All that are measured when none is asked for.
    pub(crate) const USUAL: [Self; 2] = [Self::Kernel, Self::Victim];

    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Victim => "victim",
        }
    }

    pub(crate) fn run(self, bench: &Bench) -> Result<Outcome> {
        match self {
            Self::Kernel => kernel::run(bench),
            Self::Victim => victim::run(bench),
        }
    }
}

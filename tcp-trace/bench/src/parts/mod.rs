//! The parts, one file each.

mod kernel;
mod live_cpu;
mod loss;
mod memory;
mod recording;
mod replay;
mod soak;
mod startup;
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
    /// The highest rate without loss for each size of the buffer, and the counts beyond it
    Loss,
    /// Events and lines per second from a recording
    Replay,
    /// Processor time and memory of tcp-trace while it traces
    LiveCpu,
    /// Memory for each live connection, up to a million
    Memory,
    /// From exec to attached and to the first report; size of the program
    Startup,
    /// Bytes per event, and the rates of writing and reading
    Recording,
    /// Full churn for a long time (--minutes): fails unless memory and maps stay as they are
    Soak,
    /// The same of the agent with every exporter at work, one of them failing
    SoakAgent,
}

impl Part {
    /// All that are measured when none is asked for.
    pub(crate) const USUAL: [Self; 8] = [
        Self::Kernel,
        Self::Victim,
        Self::Loss,
        Self::Replay,
        Self::LiveCpu,
        Self::Memory,
        Self::Startup,
        Self::Recording,
    ];

    /// As it is typed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn run(self, bench: &Bench) -> Result<Outcome> {
        match self {
            Self::Kernel => kernel::run(bench),
            Self::Victim => victim::run(bench),
            Self::Loss => loss::run(bench),
            Self::Replay => replay::run(bench),
            Self::LiveCpu => live_cpu::run(bench),
            Self::Memory => memory::run(bench),
            Self::Startup => startup::run(bench),
            Self::Recording => recording::run(bench),
            Self::Soak => soak::run_report(bench),
            Self::SoakAgent => soak::run_agent(bench),
        }
    }

    /// Whether a budget that is not kept is a failure.
    pub(crate) fn is_a_test(self) -> bool {
        matches!(self, Self::Soak | Self::SoakAgent)
    }
}

//! What is measured side by side: nothing, the least possible, tcp-trace in each of its modes, other tools.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::{
    bench::Bench,
    child::{self, Ended, Options, Running},
    programs,
    reference::{Reference, Which},
};

/// Something that can be attached while a load runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// In tables and in JSON.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Reference(Which),
    /// tcp-trace with these arguments; the first ones that it understands.
    TcpTrace(&'static [&'static [&'static str]]),
    /// The same, with a reader that is stopped once it is attached.
    Stopped(&'static [&'static [&'static str]]),
    /// Another program, with its arguments.
    Tool(&'static str, &'static [&'static str]),
}

const fn tcp_trace(name: &'static str, arguments: &'static [&'static [&'static str]]) -> Candidate {
    Candidate { name, kind: Kind::TcpTrace(arguments) }
}

/// The modes of tcp-trace, one a line. A mode that the program at hand does not know is left out, and that is said.
pub(crate) const MODES: [Candidate; 5] = [
    tcp_trace("tcp-trace count only", &[&["--mode", "count"]]),
    // Without the option there is this mode alone.
    tcp_trace("tcp-trace stream", &[&["--mode", "stream"], &[]]),
    tcp_trace("tcp-trace aggregate", &[&["--mode", "aggregate"]]),
    tcp_trace("tcp-trace auto", &[&["--mode", "auto"]]),
    Candidate {
        name: "tcp-trace overload",
        kind: Kind::Stopped(&[&["--mode", "stream", "--buffer", "4k"], &["--buffer", "4k"]]),
    },
];

/// The name of the mode that budgets are about.
pub(crate) const STREAM: &str = "tcp-trace stream";
/// The name of the one that counts.
pub(crate) const COUNT: &str = "tcp-trace count only";
/// The name of the leanest program that streams.
pub(crate) const LEANEST: &str = "leanest stream";
/// The tool that everybody knows.
pub(crate) const TCPSTATES: &str = "tcpstates";
/// The load alone.
pub(crate) const UNTRACED: &str = "untraced";

/// Programs of the kernel half alone.
pub(crate) const REFERENCES: [Candidate; 2] = [
    Candidate { name: "one counter", kind: Kind::Reference(Which::Counter) },
    Candidate { name: LEANEST, kind: Kind::Reference(Which::Leanest) },
];

/// Programs of others.
pub(crate) const TOOLS: [Candidate; 2] = [
    Candidate { name: TCPSTATES, kind: Kind::Tool("tcpstates", &[]) },
    Candidate { name: "bpftrace counter", kind: Kind::Tool("bpftrace", &["-e", COUNT_WITH_BPFTRACE]) },
];

const COUNT_WITH_BPFTRACE: &str =
    "tracepoint:sock:inet_sock_set_state { @[args->oldstate, args->newstate] = count(); }";

/// How long tcp-trace is given to do what comes after its attachment: it looks at what is there already.
const SETTLE: Duration = Duration::from_millis(300);

/// A candidate that this host has.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) name: &'static str,
    kind: Kind,
    program: PathBuf,
    arguments: Vec<&'static str>,
}

/// A candidate at work.
pub(crate) enum Active {
    Reference(Reference),
    /// tcp-trace; `stopped` if its reader is.
    Program {
        running: Running,
        stopped: bool,
    },
    Tool(Running),
}

impl Candidate {
    /// Finds out whether this host has it; the error says what is missing.
    pub(crate) fn ready(&self, bench: &Bench) -> Result<Ready, String> {
        let Self { name, kind } = *self;
        let (program, arguments) = match kind {
            Kind::Reference(_) => (PathBuf::new(), Vec::new()),
            Kind::TcpTrace(choices) | Kind::Stopped(choices) => {
                let known = choices.iter().find(|arguments| bench.understands(arguments));
                let known = known.ok_or_else(|| {
                    format!("{name}: this tcp-trace does not know `{}`", choices.concat().join(" "))
                })?;
                (bench.program.clone(), known.to_vec())
            }
            Kind::Tool(tool, arguments) => {
                let path = child::find(tool).ok_or_else(|| format!("{name}: {tool} is not installed"))?;
                (path, arguments.to_vec())
            }
        };
        Ok(Ready { name, kind, program, arguments })
    }
}

impl Ready {
    /// Starts it, and waits until it is at work. `more` are arguments for tcp-trace.
    pub(crate) fn start(&self, more: &[&str]) -> Result<Active> {
        let active = match self.kind {
            Kind::Reference(which) => Active::Reference(Reference::attach(which)?),
            Kind::TcpTrace(_) | Kind::Stopped(_) => {
                let stopped = matches!(self.kind, Kind::Stopped(_));
                Active::Program { running: self.start_tcp_trace(more)?, stopped }
            }
            Kind::Tool(..) => {
                let options = Options { tracefs: true, ..Options::default() };
                let mut running = Running::start(&self.program, &self.arguments, options)?;
                running.wait_for_programs()?;
                Active::Tool(running)
            }
        };
        std::thread::sleep(SETTLE);
        if let Active::Program { running, stopped: true } = &active {
            running.signal(Signal::STOP)?;
        }
        Ok(active)
    }

    fn start_tcp_trace(&self, more: &[&str]) -> Result<Running> {
        let arguments = [&["report", "--json"], self.arguments.as_slice(), more].concat();
        let options = Options { stdout: true, ..Options::default() };
        let mut running = Running::start(&self.program, &arguments, options)?;
        running.wait_for(crate::bench::ATTACHED)?;
        Ok(running)
    }
}

impl Active {
    /// The kernel's numbers of its programs.
    pub(crate) fn programs(&self) -> Result<BTreeSet<u32>> {
        match self {
            Self::Reference(reference) => Ok([reference.id].into()),
            Self::Program { running, .. } | Self::Tool(running) => {
                let programs: BTreeSet<u32> = programs::of_process(running.pid())?.into_keys().collect();
                ensure!(!programs.is_empty(), "it has no program");
                Ok(programs)
            }
        }
    }

    /// The process whose descriptors show the statistics of these programs.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Reference(_) => std::process::id(),
            Self::Program { running, .. } | Self::Tool(running) => running.pid(),
        }
    }

    /// Ends it; returns how, if it was a program.
    pub(crate) fn stop(self) -> Result<Option<Ended>> {
        match self {
            Self::Reference(_) => Ok(None),
            Self::Program { running, stopped } => {
                if stopped {
                    running.signal(Signal::CONT)?;
                }
                let ended = running.stop().context("ending it")?;
                let Ended { status, stderr, .. } = &ended;
                ensure!(status.success(), "it ended with {status}: {}", stderr.join("; "));
                Ok(Some(ended))
            }
            Self::Tool(running) => running.end().map(Some).context("ending it"),
        }
    }
}

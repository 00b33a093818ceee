//! What was typed: syntax only. Nothing here looks at the host, so `--help` works everywhere.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use tcp_trace_core::{state::TcpState, tracker::MAX_CONNECTIONS};

use super::{
    agent::{self, AgentArgs},
    doctor::{self, DoctorArgs},
    explain::{self, ExplainArgs},
    kill::{self, KillArgs},
    top::{self, TopArgs},
    units,
};

/// Says which process does what to TCP on this host.
///
/// Every state transition of every TCP socket, from the kernel's own tracepoint: who opens connections, who
/// leaves them half-closed, how long handshakes really take.
#[derive(Debug, Parser)]
#[command(name = "tcp-trace", version = VERSION, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// More diagnostics on standard error; twice: debug messages of the kernel programs too
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Keep every right: neither capabilities nor files nor system calls are given up (docs/privileges.md)
    #[arg(long, global = true, env = "TCP_TRACE_NO_SANDBOX", action = clap::ArgAction::SetTrue, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_sandbox: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("TCP_TRACE_COMMIT"),
    ", eBPF object ",
    env!("TCP_TRACE_EBPF_ORIGIN"),
    " ",
    env!("TCP_TRACE_EBPF_SHA256"),
    ")"
);

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print each transition as it happens, one line each
    #[command(after_help = STREAM_EXAMPLES)]
    Stream(StreamArgs),
    /// Gather, then say what happened: counts, durations, half-opens, lingering CLOSE_WAIT, per process
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Look at it full screen: findings, the state diagram, processes, half-open requests, transitions
    #[command(after_help = top::EXAMPLES)]
    Top(TopArgs),
    /// Write the transitions to a recording, for `stream --from` and `report --from`
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Print the sockets that exist now, with owners, ages and containers; no eBPF needed
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// Run for long: metrics over HTTP, documents to files, the journal, syslog, OTLP; configured by file
    #[command(after_help = agent::EXAMPLES)]
    Agent(AgentArgs),
    /// Say what this host allows, what will work, and how to get the rest
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(DoctorArgs),
    /// Say what a state or a finding means, and who has to do what about it
    #[command(after_help = explain::EXAMPLES)]
    Explain(ExplainArgs),
    /// Destroy CLOSE_WAIT sockets of one process; without --yes only list them
    #[command(after_help = kill::EXAMPLES)]
    Kill(KillArgs),
}

const STREAM_EXAMPLES: &str = "Examples:
  tcp-trace stream                    every transition of this host
  tcp-trace stream -T -D 443,8443     with the time (UTC); connections to these ports
  tcp-trace stream --json -p 1234     JSON Lines; sockets of process 1234
  tcp-trace stream --closed           how each connection lived and died
  tcp-trace stream --from incident.tctrace";

const REPORT_EXAMPLES: &str = "Examples:
  tcp-trace report                    gather until Ctrl-C (twice: at once)
  tcp-trace report --interval 5s      a report every five seconds
  tcp-trace report --duration 1m --json > report.json
  tcp-trace report --duration 1m --html report.html
  tcp-trace report --from incident.tctrace --html incident.html --svg states.svg
  tcp-trace report --close-wait-after 1m --container web
  tcp-trace report --duration 30s --fail-on critical || rollback

Exit codes: 0 done, 1 error, 2 usage, 3 not permitted or not supported here, 4 --strict and something was lost,
5 --fail-on and a finding. Both: 4, since the findings rest on counts that lack something.";

const RECORD_EXAMPLES: &str = "Examples:
  tcp-trace record incident.tctrace --duration 30s
  tcp-trace report --from incident.tctrace";

const SNAPSHOT_EXAMPLES: &str = "Examples:
  tcp-trace snapshot                  by process and state; listeners and their queues
  tcp-trace snapshot --state close_wait --sockets
  tcp-trace snapshot --container web --json > sockets.json";

/// Where records come from.
#[derive(Args, Debug)]
pub struct SourceArgs {
    /// How to hang on the kernel's inet_sock_set_state
    #[arg(long, value_enum, default_value_t = AttachArg::Auto, help_heading = "Source")]
    pub attach: AttachArg,
    /// Size of the kernel's ring buffers, which the CPUs share out evenly: a power of two between 4k and 1G [default: 16M,
    /// or 1M for each CPU if that is more]
    #[arg(long, value_name = "SIZE", value_parser = units::buffer, help_heading = "Source")]
    pub buffer: Option<u32>,
    /// What to do when the stream cannot keep up
    #[arg(long, value_enum, default_value_t = ModeArg::Auto, help_heading = "Source")]
    pub mode: ModeArg,
    /// Tell where in their programs connections are opened: the user stack at connect() and at accept(), or the first read
    /// where accept() cannot be had
    #[arg(long, help_heading = "Source")]
    pub stacks: bool,
    /// Stop after this time
    #[arg(long, value_name = "D", value_parser = units::duration, help_heading = "Source")]
    pub duration: Option<Duration>,
}

/// Values of `--attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachArg {
    /// tp_btf where it can be had, else the tracepoint
    Auto,
    /// BTF-typed raw tracepoint: everything is known
    #[value(name = "tp_btf")]
    TpBtf,
    /// Perf tracepoint: only what its record holds
    Tracepoint,
}

/// Values of `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeArg {
    /// Count in the kernel as long as the stream cannot keep up; `stream` never does
    Auto,
    /// Send every transition; those that find no room are lost, and counted
    Stream,
    /// Count in the kernel from the start; of single transitions only what live tables need
    Aggregate,
    /// Count by kind in the kernel and do nothing else there: exact counts of nobody in particular, at the least cost
    Count,
}

/// Which sockets.
#[derive(Args, Clone, Debug)]
pub struct FilterArgs {
    /// Sockets that belong to this process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Filters")]
    pub pid: Option<u32>,
    /// Local ports, separated by commas (at most 16)
    #[arg(short = 'L', long = "localport", value_name = "PORTS", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), help_heading = "Filters")]
    pub local_ports: Vec<u16>,
    /// Peer ports, separated by commas (at most 16)
    #[arg(short = 'D', long = "remoteport", value_name = "PORTS", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), help_heading = "Filters")]
    pub peer_ports: Vec<u16>,
    /// IPv4 only, v4-mapped addresses included
    #[arg(short = '4', long, overrides_with = "ipv6", help_heading = "Filters")]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long, overrides_with = "ipv4", help_heading = "Filters")]
    pub ipv6: bool,
    /// Network namespace: a path (/proc/PID/ns/net), a name of `ip netns`, or an inode number
    #[arg(long, value_name = "NS", help_heading = "Filters")]
    pub netns: Option<String>,
    /// Container, by name, id or the beginning of its id (docker, podman, containerd, CRI-O, LXC; POD/NAME in Kubernetes)
    #[arg(long, value_name = "NAME|ID", conflicts_with_all = ["netns", "cgroup"], help_heading = "Filters")]
    pub container: Option<String>,
    /// Cgroup of the socket's creator: a path of the cgroup2 hierarchy, or an id
    #[arg(long, value_name = "CGROUP", help_heading = "Filters")]
    pub cgroup: Option<String>,
}

/// What may be kept in memory.
#[derive(Args, Clone, Copy, Debug)]
pub struct MemoryArgs {
    /// Connections followed at once, some 200 bytes each; beyond, established ones make room, and it is said how many
    #[arg(long, value_name = "N", value_parser = units::connections, default_value_t = MAX_CONNECTIONS)]
    pub max_connections: usize,
}

/// `stream`
#[derive(Args, Debug)]
pub struct StreamArgs {
    /// Where records come from
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which sockets
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Print finished connections instead of transitions: one line each, when its socket closes
    #[arg(long)]
    pub closed: bool,
    /// Prefix the time, HH:MM:SS in UTC
    #[arg(short = 'T', long)]
    pub time: bool,
    /// Prefix the seconds since the first line
    #[arg(short = 't', long)]
    pub timestamp: bool,
    /// Wide columns, which fit IPv6 addresses, and the IP version
    #[arg(short, long)]
    pub wide: bool,
    /// Comma-separated values
    #[arg(short = 's', long)]
    pub csv: bool,
    /// JSON Lines
    #[arg(long, conflicts_with_all = ["csv", "wide", "time", "timestamp"])]
    pub json: bool,
    /// How much is kept in memory
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Read a recording instead of the live kernel
    #[arg(long, value_name = "FILE", conflicts_with_all = ["attach", "buffer", "mode", "stacks", "duration"], help_heading = "Source")]
    pub from: Option<PathBuf>,
    /// Keep a recording as well
    #[arg(long, value_name = "FILE", conflicts_with = "from", help_heading = "Source")]
    pub record: Option<PathBuf>,
    /// Exit with 4 if a transition was lost
    #[arg(long)]
    pub strict: bool,
}

/// `report`
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Where records come from
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which sockets
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Report each time this has passed, on what happened since the last report; of a recording, at the readings of
    /// the kernel's counters that it holds (one a second, or at the interval that it was made with)
    #[arg(long, value_name = "D", value_parser = units::duration)]
    pub interval: Option<Duration>,
    /// A socket lingers when it is in CLOSE_WAIT for longer than this
    #[arg(long, value_name = "D", value_parser = units::duration, default_value = "10s")]
    pub close_wait_after: Duration,
    /// One JSON document a report
    #[arg(long)]
    pub json: bool,
    /// Write the report of the whole run as a page for a browser as well: one file that needs nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "interval")]
    pub html: Option<PathBuf>,
    /// Write the state diagram of the whole run as an SVG picture as well
    #[arg(long, value_name = "FILE", conflicts_with = "interval")]
    pub svg: Option<PathBuf>,
    /// How much is kept in memory
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Read a recording instead of the live kernel
    #[arg(long, value_name = "FILE", conflicts_with_all = ["attach", "buffer", "mode", "stacks", "duration"], help_heading = "Source")]
    pub from: Option<PathBuf>,
    /// Keep a recording as well
    #[arg(long, value_name = "FILE", conflicts_with = "from", help_heading = "Source")]
    pub record: Option<PathBuf>,
    /// Exit with 4 if a transition was lost
    #[arg(long)]
    pub strict: bool,
    /// Exit with 5 if any report has a finding of this severity or a worse one; with --strict, 4 comes first
    #[arg(long, value_name = "SEVERITY", value_enum)]
    pub fail_on: Option<FailOn>,
    /// Read thresholds of findings from this file: TOML, with a table `findings`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Values of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Something is wrong, and connections suffer or will
    Warning,
    /// Connections fail now, or will before long
    Critical,
}

/// `record`
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Where records come from
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which sockets
    #[command(flatten)]
    pub filter: FilterArgs,
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How much is kept in memory
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Exit with 4 if a transition was lost
    #[arg(long)]
    pub strict: bool,
}

/// `snapshot`
#[derive(Args, Debug)]
pub struct SnapshotArgs {
    /// Which sockets
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Sockets in these states, separated by commas, in any usual spelling; SYN_RECV has the half-open requests with it
    #[arg(long = "state", value_name = "STATES", value_delimiter = ',', help_heading = "Filters")]
    pub states: Vec<TcpState>,
    /// Each socket, not groups of them
    #[arg(long)]
    pub sockets: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_argument_has_help() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_after_help().is_some(), "`{}` has no examples", sub.get_name());
            for argument in sub.get_arguments() {
                assert!(argument.get_help().is_some(), "`{}` has no help", argument.get_id());
            }
        }
    }

    #[test]
    fn the_flags_of_tcpstates_are_understood() {
        let cli = Cli::try_parse_from("tcp-trace stream -stTw -4 -L 80,443 -D 5432 -p 7".split(' ')).unwrap();
        let Command::Stream(args) = cli.command else { panic!("not stream") };
        assert!(args.csv && args.timestamp && args.time && args.wide && args.filter.ipv4);
        assert_eq!(args.filter.local_ports, [80, 443]);
        assert_eq!((args.filter.peer_ports, args.filter.pid), (vec![5432], Some(7)));
    }

    #[test]
    fn the_last_family_wins() {
        let cli = Cli::try_parse_from("tcp-trace stream -4 -6".split(' ')).unwrap();
        let Command::Stream(args) = cli.command else { panic!("not stream") };
        assert!(!args.filter.ipv4 && args.filter.ipv6);
    }

    #[test]
    fn a_recording_has_no_buffer() {
        let error = Cli::try_parse_from("tcp-trace report --from f --buffer 1M".split(' ')).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }
}

//! `tcp-trace kill`

use std::time::Duration;

use clap::Args;

use super::units;

/// `kill`
#[derive(Args, Debug)]
pub struct KillArgs {
    /// Sockets in CLOSE_WAIT, which is the only state that this is for; it has to be said
    #[arg(long, required = true)]
    pub close_wait: bool,
    /// The process whose sockets are meant
    #[arg(short, long, value_name = "PID", required = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: u32,
    /// Destroy them; without it they are only listed
    #[arg(long)]
    pub yes: bool,
    /// Only those that have been in CLOSE_WAIT for longer than this
    #[arg(long, value_name = "D", value_parser = units::duration, help_heading = "Filters")]
    pub older_than: Option<Duration>,
    /// Only those of this peer
    #[arg(long, value_name = "ADDRESS[:PORT]", help_heading = "Filters")]
    pub peer: Option<String>,
    /// Only those with one of these local ports, separated by commas
    #[arg(short = 'L', long = "localport", value_name = "PORTS", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), help_heading = "Filters")]
    pub local_ports: Vec<u16>,
    /// Only those in this network namespace: a path (/proc/PID/ns/net), a name of `ip netns`, or an inode number
    #[arg(long, value_name = "NS", help_heading = "Filters")]
    pub netns: Option<String>,
    /// Also those that other processes hold, or may hold
    #[arg(long)]
    pub shared: bool,
    /// JSON Lines, one for each socket
    #[arg(long)]
    pub json: bool,
}

pub(super) const EXAMPLES: &str = "Examples:
  tcp-trace kill --close-wait --pid 12377                what would be destroyed; nothing is done
  tcp-trace kill --close-wait --pid 12377 --yes          destroy it
  tcp-trace kill --close-wait --pid 12377 --older-than 1h --peer 198.18.0.9 --yes --json >> kill.log
The program's next send() fails with ECONNABORTED; the descriptor is its own until it closes it.
Exit code: 0 done, or a dry run; 1 if one was refused or failed; 3 if that cannot be done here.";

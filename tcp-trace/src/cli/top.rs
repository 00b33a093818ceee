//! `top`, as it is typed.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    args::{FilterArgs, MemoryArgs, SourceArgs},
    units,
};

pub(super) const EXAMPLES: &str = "Examples:
  tcp-trace top                       this host, now; ? shows the keys, q ends
  tcp-trace top --container web       the sockets of one container
  tcp-trace top --stacks              with the code that opened the sockets that leak
  tcp-trace top --from incident.tctrace

Colours: NO_COLOR turns them off; nothing is told by colour alone.";

/// `top`
#[derive(Args, Debug)]
pub struct TopArgs {
    /// Where records come from
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which sockets
    #[command(flatten)]
    pub filter: FilterArgs,
    /// How often the numbers are made anew [default: 1s; of a recording of more than ten minutes, a 600th of it]
    #[arg(long, value_name = "D", value_parser = units::duration)]
    pub interval: Option<Duration>,
    /// A socket lingers when it is in CLOSE_WAIT for longer than this
    #[arg(long, value_name = "D", value_parser = units::duration, default_value = "10s")]
    pub close_wait_after: Duration,
    /// How much is kept in memory
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Read a recording instead of the live kernel
    #[arg(long, value_name = "FILE", conflicts_with_all = ["attach", "buffer", "mode", "stacks", "duration"], help_heading = "Source")]
    pub from: Option<PathBuf>,
    /// Exit with 4 if a transition was lost
    #[arg(long, conflicts_with = "from")]
    pub strict: bool,
    /// Read thresholds of findings from this file: TOML, with a table `findings`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

//! `tcp-trace explain`

use clap::Args;

/// `explain`
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A state in any usual spelling, a finding, or another word; without one, a list of what can be explained
    #[arg(value_name = "STATE|FINDING")]
    pub topic: Vec<String>,
}

pub(super) const EXAMPLES: &str = "Examples:
  tcp-trace explain                   what can be explained
  tcp-trace explain close_wait        a state
  tcp-trace explain handshake         how a connection is opened, drawn
  tcp-trace explain syn_flood         a finding of a report";

//! `tcp-trace doctor`

use clap::Args;

/// `doctor`
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

pub(super) const EXAMPLES: &str = "Examples:
  tcp-trace doctor                    what this user may do here, and what root would get
  sudo tcp-trace doctor               what this host allows at all
  tcp-trace doctor --json | jq .next.command
Exit code: 0 if transitions can be traced, 3 if not.";

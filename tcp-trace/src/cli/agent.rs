//! `tcp-trace agent`

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::units;

/// `agent`
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// The configuration file (TOML); without it, metrics on 127.0.0.1:9981 and nothing else
    #[arg(long, value_name = "FILE", env = "TCP_TRACE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Only say whether the configuration is right, line and remedy if not, and what it comes to
    #[arg(long, conflicts_with = "from")]
    pub check: bool,
    /// Name of this host in everything that is sent [agent.host]
    #[arg(long, value_name = "NAME", env = "TCP_TRACE_HOST", help_heading = "In place of the file")]
    pub host: Option<String>,
    /// Name of the cluster [agent.cluster]
    #[arg(long, value_name = "NAME", env = "TCP_TRACE_CLUSTER", help_heading = "In place of the file")]
    pub cluster: Option<String>,
    /// Labels beside those of the file, NAME=VALUE with commas between [agent.labels]
    #[arg(long, value_name = "LABELS", env = "TCP_TRACE_LABELS", help_heading = "In place of the file")]
    pub labels: Option<String>,
    /// Where to answer /metrics, /healthz and /readyz [http.listen]
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "TCP_TRACE_HTTP_LISTEN",
        help_heading = "In place of the file"
    )]
    pub http_listen: Option<SocketAddr>,
    /// Let that be an address that other hosts reach: without a token anybody there may read it [http.allow_remote]
    #[arg(long, env = "TCP_TRACE_HTTP_ALLOW_REMOTE", help_heading = "In place of the file")]
    pub http_allow_remote: bool,
    /// How often to report [report.interval]
    #[arg(long, value_name = "D", value_parser = units::duration, env = "TCP_TRACE_INTERVAL", help_heading = "In place of the file")]
    pub interval: Option<Duration>,
    /// Send what a recording holds instead of the live kernel, without losing any of it; then go on answering over HTTP
    /// until stopped, if it is to listen
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

pub(super) const EXAMPLES: &str = "Examples:
  tcp-trace agent --config /etc/tcp-trace/agent.toml
  tcp-trace agent --config agent.toml --check
  tcp-trace agent --http-listen 127.0.0.1:9981      metrics only
  kill -HUP PID                                     read the configuration again, losing nothing
A flag goes before the environment (TCP_TRACE_*), the environment before the file. Every key: docs/agent.md.";

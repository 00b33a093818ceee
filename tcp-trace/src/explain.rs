//! `tcp-trace explain`: prints what a state or a finding means. Asks nothing of the host.

use std::io::{self, Write as _};

use anyhow::Context as _;
use tcp_trace_core::explain::{Kind, TOPICS, Topic, plain};

use crate::{
    cli::explain::ExplainArgs,
    exit::{Exit, Output, Usage},
};

/// Runs the command.
///
/// # Errors
///
/// [`Usage`] for a word that means nothing.
pub fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let text = if args.topic.is_empty() {
        list()
    } else {
        let topic = Topic::find(&args.topic.join("_")).map_err(|error| Usage(error.to_string()))?;
        plain(topic.page)
    };
    io::stdout().write_all(text.as_bytes()).map_err(Output::from).context("writing the explanation")?;
    Ok(Exit::Done)
}

/// All that can be explained.
fn list() -> String {
    let of_kind = |(kind, title): (Kind, &str)| {
        let topics = TOPICS.iter().filter(|topic| topic.kind == kind);
        let lines: String = topics.map(|topic| format!("  {:<22} {}\n", topic.name, topic.gist())).collect();
        format!("{title}\n{lines}")
    };
    let kinds = [(Kind::Overview, "How it goes"), (Kind::State, "States"), (Kind::Finding, "Findings")];
    kinds.map(of_kind).join("\n")
}

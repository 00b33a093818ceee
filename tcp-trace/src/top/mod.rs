//! A full screen: what is wrong, who hurts, the state diagram, one process, half-open requests, transitions.
//!
//! Three threads, of which none waits for another: the one that tracks fills an [`inbox`], the screen's own empties it and
//! draws, at most ten times a second and only what has changed, and whoever reads a recording is a third. What is drawn is
//! a function of [`Model`](model::Model); the only folder that imports ratatui and crossterm.

pub mod filter;
pub mod frame;
pub mod inbox;
mod keys;
mod live;
pub mod model;
pub mod palette;
pub mod recorded;
mod replay;
pub mod rows;
mod screen;
mod signals;
mod terminal;
pub mod view;
mod words;

#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;

pub use terminal::Log;

use crate::{
    cli::top::TopArgs,
    exit::{Exit, Usage},
};

/// Runs `top`.
///
/// # Errors
///
/// What went wrong; [`Exit::of`] gives the exit code.
pub fn run(args: &TopArgs, verbose: u8) -> anyhow::Result<Exit> {
    if !std::io::stdout().is_terminal() {
        return Err(Usage(
            "top: standard output is no terminal, and there is nothing to draw on; use `report --interval 1s` for text, or \
             `report --json --interval 1s` for programs (over ssh: `ssh -t HOST tcp-trace top`)"
                .to_owned(),
        )
        .into());
    }
    match &args.from {
        Some(path) => replay::run(args, path),
        None => live::run(args, verbose),
    }
}

/// What the environment says of colours.
fn palette() -> palette::Palette {
    palette::Palette { depth: palette::Depth::detect(|name| std::env::var(name).ok()) }
}

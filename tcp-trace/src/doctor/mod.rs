//! `tcp-trace doctor`: examines this host, tries each hook, and says what will work.

mod examine;

use std::io::{self, BufWriter};

use anyhow::Context as _;
use tcp_trace_core::doctor::diagnose;

use crate::{
    cli::doctor::DoctorArgs,
    exit::{Exit, Output},
    sink,
};

/// Runs the command.
///
/// # Errors
///
/// If the result cannot be written.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let diagnosis = diagnose(&examine::facts());
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    sink::diagnosis(&mut out, &diagnosis, args.json)
        .map_err(Output::from)
        .context("writing the diagnosis")?;
    Ok(if diagnosis.ready { Exit::Done } else { Exit::Unsupported })
}

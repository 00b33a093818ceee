//! Holds tcp-trace against programs that others wrote: `cargo xtask crosscheck` builds it and runs this.
//!
//! `docs/cross-checks.md` says what is compared and what was found. A difference that is not explained by something that a
//! third witness shows is a failure.

mod check;
mod child;
mod parts;
mod smoke;
mod workloads;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Parser;

use check::{Check, Outcome};
use parts::Part;

/// Hold tcp-trace against other programs that look at TCP, and let it watch other programs that use it.
#[derive(Debug, Parser)]
#[command(name = "tcp-trace-crosscheck", bin_name = "cargo xtask crosscheck")]
struct Args {
    /// What to compare; without any, everything
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How many transitions are compared with tcpstates, at least
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    transitions: u64,
    /// How many connections a second that load begins: tcpstates loses events above what it can print
    #[arg(long, value_name = "N", default_value_t = 1_500)]
    rate: u32,
    /// How many looks are compared with those of ss
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    samples: u64,
    /// Small loads and few looks
    #[arg(long)]
    quick: bool,
    /// Run each quick part as a test that has this in its name, and print what tests print
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = "", hide = true)]
    smoke: Option<String>,
    /// The tcp-trace to check; without it, the one beside this program
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(code) = tcp_trace_testkit::helper::run_if_helper() {
        return code;
    }
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("tcp-trace"),
    };
    anyhow::ensure!(
        program.is_file(),
        "{}: there is no such program; `cargo xtask crosscheck` builds it",
        program.display()
    );
    let quick = args.quick || args.smoke.is_some();
    let check = Check {
        program,
        transitions: if quick { 20_000 } else { args.transitions },
        rate: args.rate,
        samples: if quick { 20 } else { args.samples },
        quick,
    };
    if let Some(filter) = &args.smoke {
        return Ok(smoke::run(&check, filter));
    }
    if let Err(lacking) = tcp_trace_testkit::require_root() {
        anyhow::bail!("comparing {lacking}");
    }
    let parts = if args.parts.is_empty() { Part::ALL } else { &args.parts };
    let mut failed = false;
    for part in parts {
        let began = Instant::now();
        check::say(&format!("{}: {}", part.name(), part.about()));
        let outcome = part.run(&check).unwrap_or_else(|error| {
            let mut outcome = Outcome::default();
            outcome.difference(format!("it could not be compared: {error:#}"));
            outcome
        });
        show(part.name(), &outcome, began.elapsed().as_secs_f64());
        failed |= !outcome.differences.is_empty();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[expect(clippy::print_stdout, reason = "the comparison is what this program is for")]
fn show(part: &str, outcome: &Outcome, seconds: f64) {
    println!("{part}, {seconds:.1} s");
    for (what, value) in &outcome.figures {
        println!("  {what:<64} {value}");
    }
    outcome.explained.iter().for_each(|text| println!("  explained: {text}"));
    outcome.lacks.iter().for_each(|text| println!("  not compared: {text}"));
    outcome.differences.iter().for_each(|text| println!("  DIFFERENT: {text}"));
    println!();
}

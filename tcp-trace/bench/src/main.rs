//! Measures tcp-trace: `cargo xtask bench` builds it and runs this. `docs/overhead.md` says what the figures mean.

mod bench;
mod candidates;
mod child;
mod fdinfo;
mod maps;
mod parts;
mod programs;
mod reference;
mod smoke;
mod stats;
mod table;
mod tape;
mod truth;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::{Map, Value, json};

use bench::{Bench, Outcome, say};
use parts::Part;
use table::Table;

/// Measure tcp-trace, side by side with other tools and with the least that the kernel permits.
#[derive(Debug, Parser)]
#[command(name = "tcp-trace-bench", bin_name = "cargo xtask bench")]
struct Args {
    /// What to measure; without any, everything but the soak
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How often each candidate has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Tiny loads and one round: shows that every part works, and says nothing about speed
    #[arg(long)]
    quick: bool,
    /// Run each part as a test that has this in its name, and print what tests print
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = "", hide = true)]
    smoke: Option<String>,
    /// How long a soak takes
    #[arg(long, value_name = "N", default_value_t = 30)]
    minutes: u64,
    /// Write every figure of every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the tables into this file: into the places that are marked for them, if there are any
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The tcp-trace to measure; without it, the one beside this program
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
        "{}: there is no such program; `cargo xtask bench` builds it",
        program.display()
    );
    let quick = args.quick || args.smoke.is_some();
    let rounds = if quick { 1 } else { args.rounds.into() };
    let soak = if quick { Duration::from_secs(1) } else { Duration::from_secs(60 * args.minutes) };
    let bench = Bench::new(program, rounds, quick, soak);
    if let Some(filter) = &args.smoke {
        return Ok(smoke::run(&bench, filter));
    }
    measure(args, &bench)
}

/// Measures one part after another; one that fails does not keep the others from it.
fn measure(args: &Args, bench: &Bench) -> Result<ExitCode> {
    if let Err(lacking) = tcp_trace_testkit::require_root() {
        anyhow::bail!("measuring {lacking}");
    }
    let parts = if args.parts.is_empty() { &Part::USUAL[..] } else { &args.parts };
    let mut all = Map::new();
    let mut failed = false;
    for part in parts {
        let began = Instant::now();
        say(&part.name());
        match part.run(bench) {
            Ok(outcome) => {
                show(&outcome);
                if let Some(file) = &args.markdown {
                    write_markdown(file, &part.name(), &outcome)?;
                }
                failed |= !outcome.failures.is_empty();
                failed |=
                    part.is_a_test() && !args.quick && outcome.budgets.iter().any(|budget| !budget.kept);
                all.insert(part.name(), json_of(&outcome, began.elapsed()));
            }
            Err(error) => {
                failed = true;
                eprintln!("error: {}: {error:#}", part.name());
                all.insert(part.name(), json!({"error": format!("{error:#}")}));
            }
        }
    }
    if let Some(file) = &args.json {
        let document =
            json!({"schema": "tcp-trace.bench/1", "host": host(), "quick": args.quick, "parts": all});
        fs::write(file, format!("{document:#}\n")).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[expect(clippy::print_stdout, reason = "the tables are what this program is for")]
fn show(outcome: &Outcome) {
    for table in outcome.tables.iter().chain(&budget_table(outcome)) {
        println!("{}", table.text());
    }
    outcome.lacks.iter().for_each(|lack| println!("Not measured: {lack}\n"));
    outcome.failures.iter().for_each(|failure| println!("FAILED: {failure}\n"));
}

fn budget_table(outcome: &Outcome) -> Option<Table> {
    let mut table = Table::new("Budgets", &["what", "budget", "found", "kept"]);
    for budget in &outcome.budgets {
        let kept = if budget.kept { "yes" } else { "NO" };
        table.row([budget.what.clone(), budget.limit.clone(), budget.found.clone(), kept.into()]);
    }
    (!outcome.budgets.is_empty()).then_some(table)
}

fn json_of(outcome: &Outcome, took: Duration) -> Value {
    let Outcome { tables: _, lacks, failures, figures, budgets } = outcome;
    json!({
        "figures": figures, "budgets": budgets, "not_measured": lacks, "failures": failures,
        "seconds": took.as_secs_f64()
    })
}

/// What the figures were measured on.
fn host() -> Value {
    let uname = rustix::system::uname();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    json!({
        "kernel": uname.release().to_string_lossy(), "machine": uname.machine().to_string_lossy(),
        "cpu": model.map(|(_, name)| name), "cpus": cpus
    })
}

fn write_markdown(file: &Path, part: &str, outcome: &Outcome) -> Result<()> {
    let tables: Vec<String> =
        outcome.tables.iter().chain(&budget_table(outcome)).map(Table::markdown).collect();
    let lacks = outcome.lacks.iter().map(|lack| format!("Not measured: {lack}\n"));
    let text: Vec<String> = tables.into_iter().chain(lacks).collect();
    let text = text.join("\n");
    let document = fs::read_to_string(file).unwrap_or_default();
    let document = table::fill(&document, part, &text).unwrap_or_else(|| format!("{document}{text}\n"));
    fs::write(file, document).with_context(|| format!("writing {}", file.display()))
}

//! `cargo xtask e2e`: the agent against the real programs that its users have.
//!
//! They take minutes to build and gigabytes to keep, so that this is run by hand, and no part of `cargo xtask ci`. A
//! scenario is a file: what it is about, what it needs, and one function that fails if what arrived is not what was put
//! in. Everything is kept under `target/e2e`: what is shared by scenarios in the folder itself, a scenario's own files in
//! a folder of its name, which is emptied when it begins.

mod chdb;
mod clickhouse;
mod collector;
mod fleet;
mod http;
mod kubernetes;
mod need;
mod outage;
mod program;
mod rows;
mod shop;
mod stage;
mod systemd;

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};

use self::{need::Need, stage::Stage};

/// Every scenario.
const SCENARIOS: &[Scenario] = &[
    collector::SCENARIO,
    clickhouse::SCENARIO,
    fleet::SCENARIO,
    kubernetes::SCENARIO,
    outage::SCENARIO,
    systemd::SCENARIO,
];

/// One of them.
struct Scenario {
    /// What it is called on the command line.
    name: &'static str,
    /// What it shows, in one line.
    about: &'static str,
    /// What has to be there.
    needs: &'static [Need],
    /// Shows it.
    run: fn(&Stage) -> Result<()>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Scenarios to run; without any, all of them.
    names: Vec<String>,
    /// Only say which there are, and what they lack here.
    #[arg(long)]
    list: bool,
    /// Install or build what they lack, as far as it can be had.
    #[arg(long)]
    install: bool,
    /// Build the program without optimisation, which is quicker.
    #[arg(long)]
    debug: bool,
    /// Do not build it, but take this one.
    #[arg(long, value_name = "FILE", conflicts_with = "debug")]
    program: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let chosen = choose(&args.names)?;
    let folder = stage::folder()?;
    if args.list {
        for Scenario { name, about, needs, .. } in chosen {
            eprintln!("{name:12} {about}");
            needs
                .iter()
                .filter(|need| !need.is_met(&folder))
                .for_each(|need| eprintln!("{:12} lacks {need}", ""));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let program = args.program.clone().map_or_else(|| program::build(args.debug), Ok)?;
    let mut failed = Vec::new();
    for scenario in &chosen {
        if let Err(error) = play(scenario, &folder, &program, args.install) {
            eprintln!("== {}: FAILED: {error:#}", scenario.name);
            failed.push(scenario.name);
        }
    }
    eprintln!("== {} of {} scenarios passed", chosen.len() - failed.len(), chosen.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    let known = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = names.iter().find(|name| !SCENARIOS.iter().any(|scenario| scenario.name == **name)) {
        bail!("there is no scenario `{name}`; there are {}", known());
    }
    let wanted = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

fn play(
    scenario: &Scenario,
    folder: &std::path::Path,
    program: &std::path::Path,
    install: bool,
) -> Result<()> {
    let Scenario { name, about, needs, run } = scenario;
    eprintln!("== {name}: {about}");
    let start = Instant::now();
    for need in needs.iter().filter(|need| !need.is_met(folder)) {
        if !install {
            bail!("it lacks {need} (--install gets it)");
        }
        need.install(folder).with_context(|| format!("getting {need}"))?;
    }
    let stage = Stage::new(folder, name, program)?;
    run(&stage)?;
    eprintln!("== {name}: passed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

//! Every part once, small, as a test. A part whose peer is not installed is skipped, and says what to install.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use tcp_trace_testkit::require_root;

use crate::{
    check::{Check, Outcome},
    parts::Part,
};

/// A kernel was met that does not run tracing programs while `init` is the current task, and busy machines take the CPU away
/// between two clocks. That is rare, so one of a few rounds is without a difference; a fault of ours would not be.
const ROUNDS: usize = 3;

fn rounds(part: Part, check: &Check) -> Result<Outcome> {
    for _ in 1..ROUNDS {
        let outcome = part.run(check)?;
        if outcome.differences.is_empty() {
            return Ok(outcome);
        }
        outcome
            .differences
            .iter()
            .for_each(|difference| eprintln!("{}: {difference}; once more", part.name()));
    }
    part.run(check)
}

/// Runs the parts whose names contain the filter, and prints what libtest would print.
#[expect(clippy::print_stdout, reason = "the results of tests belong to stdout")]
pub(crate) fn run(check: &Check, filter: &str) -> ExitCode {
    let began = Instant::now();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let named = Part::ALL.iter().map(|part| (part, format!("crosscheck::{}", part.name())));
    for (part, name) in named.filter(|(_, name)| name.contains(filter)) {
        let done = match require_root() {
            Err(reason) => Err(reason),
            Ok(()) => Ok(rounds(*part, check)),
        };
        match done {
            Err(reason) => {
                println!("test {name} ... ignored, {reason}");
                ignored += 1;
            }
            Ok(Ok(outcome)) if outcome.differences.is_empty() && outcome.figures.is_empty() => {
                println!("test {name} ... ignored, {}", outcome.lacks.join("; "));
                ignored += 1;
            }
            Ok(Ok(outcome)) if outcome.differences.is_empty() => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Ok(Ok(outcome)) => {
                outcome.differences.iter().for_each(|difference| eprintln!("{name}: {difference}"));
                println!("test {name} ... FAILED");
                failed += 1;
            }
            Ok(Err(error)) => {
                eprintln!("{name}: {error:#}");
                println!("test {name} ... FAILED");
                failed += 1;
            }
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "test result: {result}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out; \
         finished in {seconds:.2}s"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

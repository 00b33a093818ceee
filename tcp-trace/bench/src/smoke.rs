//! Every part once, with tiny loads, as a test: it must yield a table or say what it lacks. So none rots.

use std::{process::ExitCode, time::Instant};

use clap::ValueEnum as _;
use tcp_trace_testkit::require_root;

use crate::{bench::Bench, parts::Part};

/// Runs the parts whose names contain the filter, and prints what libtest would print.
#[expect(clippy::print_stdout, reason = "the results of tests belong to stdout")]
pub(crate) fn run(bench: &Bench, filter: &str) -> ExitCode {
    let began = Instant::now();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let named = Part::value_variants().iter().map(|part| (part, format!("bench::{}", part.name())));
    for (part, name) in named.filter(|(_, name)| name.contains(filter)) {
        if let Err(reason) = require_root() {
            println!("test {name} ... ignored, {reason}");
            ignored += 1;
            continue;
        }
        match part.run(bench) {
            Ok(outcome) if !outcome.failures.is_empty() => {
                outcome.failures.iter().for_each(|failure| eprintln!("{name}: {failure}"));
                println!("test {name} ... FAILED");
                failed += 1;
            }
            Ok(outcome) if !outcome.tables.is_empty() || !outcome.lacks.is_empty() => {
                outcome.lacks.iter().for_each(|lack| eprintln!("{name}: not measured: {lack}"));
                println!("test {name} ... ok");
                passed += 1;
            }
            Ok(_) => {
                eprintln!("{name}: neither a figure nor a reason");
                println!("test {name} ... FAILED");
                failed += 1;
            }
            Err(error) => {
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

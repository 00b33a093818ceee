//! The program against the running kernel: real sockets in fresh network namespaces, a real ring buffer.
//! Without root every test is counted as skipped, with the reason; `requirements.rs` has the other reasons.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed, which is meant")]

mod agent;
mod aggregate;
mod close_wait;
mod connects;
mod containers;
mod counts;
mod doctor;
#[path = "../shared/documents.rs"]
mod documents;
mod existing;
mod faults;
mod filters;
mod floods;
mod ground_truth;
mod half_open;
mod hosts;
mod html;
mod kill;
mod obituaries;
mod privileges;
mod pty;
mod recordings;
mod requirements;
mod results;
mod rights;
mod sinks;
mod snapshot;
mod stacks;
mod states;
mod stream;
mod survey;
mod top;
mod tracer;
mod zoo;

use std::{
    panic::{catch_unwind, resume_unwind},
    process::ExitCode,
    time::Instant,
};

use libtest_mimic::{Arguments, Completion, Trial};
use requirements::{Cause, Skip};
use results::Outcome;
use tcp_trace_testkit::{helper, require_root};

/// A test panics when it fails.
type Test = fn();

fn main() -> ExitCode {
    if let Some(code) = helper::run_if_helper() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Durations are measured: tests at the same time would disturb each other.
    arguments.test_threads.get_or_insert(1);
    let groups: &[(&str, &[(&str, Test)])] = &[
        ("counts", counts::TESTS),
        ("aggregate", aggregate::TESTS),
        ("close_wait", close_wait::TESTS),
        ("half_open", half_open::TESTS),
        ("connects", connects::TESTS),
        ("states", states::TESTS),
        ("stream", stream::TESTS),
        ("filters", filters::TESTS),
        ("recordings", recordings::TESTS),
        ("hosts", hosts::TESTS),
        ("html", html::TESTS),
        ("existing", existing::TESTS),
        ("obituaries", obituaries::TESTS),
        ("ground_truth", ground_truth::TESTS),
        ("floods", floods::TESTS),
        ("containers", containers::TESTS),
        ("requirements", requirements::TESTS),
        ("survey", survey::TESTS),
        ("snapshot", snapshot::TESTS),
        ("doctor", doctor::TESTS),
        ("kill", kill::TESTS),
        ("privileges", privileges::TESTS),
        ("stacks", stacks::TESTS),
        ("top", top::TESTS),
        ("zoo", zoo::TESTS),
        ("agent", agent::TESTS),
        ("sinks", sinks::TESTS),
        ("faults", faults::TESTS),
    ];
    let trials = groups.iter().flat_map(|(group, tests)| {
        tests.iter().map(move |(name, test)| trial(format!("{group}::{name}"), *test))
    });
    results::begin();
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial(name: String, test: Test) -> Trial {
    Trial::ignorable_test(name.clone(), move || {
        let start = Instant::now();
        let outcome = run(test);
        results::note(&name, &outcome, start.elapsed());
        match outcome {
            Outcome::Passed => Ok(Completion::Completed),
            Outcome::Skipped(Skip { reason, .. }) => Ok(Completion::ignored_with(reason)),
            Outcome::Failed(payload) => resume_unwind(payload),
        }
    })
}

fn run(test: Test) -> Outcome {
    match require_root() {
        Err(reason) => Outcome::Skipped(Skip { cause: Cause::Privileges, reason }),
        Ok(()) => catch_unwind(test).map_or_else(Outcome::of_panic, |()| Outcome::Passed),
    }
}

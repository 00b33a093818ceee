//! The program against the running kernel: real sockets in fresh network namespaces, a real ring buffer.
//! Without root every test is counted as skipped, with the reason.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is meant")]

mod close_wait;
mod connects;
mod counts;
mod filters;
mod half_open;
mod hosts;
mod recordings;
mod states;
mod stream;
mod tracer;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};
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
    let groups: [(&str, &[(&str, Test)]); 9] = [
        ("counts", counts::TESTS),
        ("close_wait", close_wait::TESTS),
        ("half_open", half_open::TESTS),
        ("connects", connects::TESTS),
        ("states", states::TESTS),
        ("stream", stream::TESTS),
        ("filters", filters::TESTS),
        ("recordings", recordings::TESTS),
        ("hosts", hosts::TESTS),
    ];
    let trials = groups.iter().flat_map(|(group, tests)| {
        tests.iter().map(move |(name, test)| trial(format!("{group}::{name}"), *test))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial(name: String, test: Test) -> Trial {
    Trial::ignorable_test(name, move || match require_root() {
        Ok(()) => {
            test();
            Ok(Completion::Completed)
        }
        Err(lacking) => Ok(Completion::ignored_with(lacking)),
    })
}

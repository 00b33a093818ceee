//! Proves the library against the running kernel. Without root every test is counted as skipped, with
//! the reason.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed, which is meant")]

mod closing;
mod floods;
mod handshakes;
mod helpers;
mod isolation;
mod kernel_clients;
mod leaks;
mod truths;
mod util;
mod workloads;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tcp_trace_testkit::{helper, require_root};

/// Tests panic or return an error; both are failures.
type Test = fn() -> std::io::Result<()>;

fn main() -> ExitCode {
    if let Some(code) = helper::run_if_helper() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Times are measured: tests at the same time would disturb each other.
    arguments.test_threads.get_or_insert(1);
    let groups: [(&str, &[(&str, Test)]); 9] = [
        ("isolation", isolation::TESTS),
        ("handshakes", handshakes::TESTS),
        ("kernel_clients", kernel_clients::TESTS),
        ("closing", closing::TESTS),
        ("helpers", helpers::TESTS),
        ("workloads", workloads::TESTS),
        ("floods", floods::TESTS),
        ("truths", truths::TESTS),
        ("leaks", leaks::TESTS),
    ];
    let trials: Vec<Trial> = groups
        .iter()
        .flat_map(|(group, tests)| {
            tests.iter().map(move |(name, test)| trial(format!("{group}::{name}"), *test))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: String, test: Test) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Err(lacking) = require_root() {
            return Ok(Completion::ignored_with(lacking));
        }
        test().map(|()| Completion::Completed).map_err(|error| Failed::from(error.to_string()))
    })
}

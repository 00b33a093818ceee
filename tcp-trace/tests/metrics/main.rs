//! Metrics against what reads them: the committed exposition, promtool, a real Prometheus, and the book.
//!
//! Not libtest: what needs Prometheus is counted as skipped where there is none, with the reason.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is meant")]

mod book;
mod exposition;
mod prometheus;
mod queries;
mod source;

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Completion, Trial};

/// A test.
type Test = fn();

/// A test, and the program that it cannot do without.
type Entry = (&'static str, Option<&'static str>, Test);

fn main() -> ExitCode {
    let groups: &[(&str, &[Entry])] = &[
        ("exposition", exposition::TESTS),
        ("queries", queries::TESTS),
        ("prometheus", prometheus::TESTS),
        ("book", book::TESTS),
    ];
    let trials = groups.iter().flat_map(|(group, tests)| {
        tests.iter().map(move |(name, needs, test)| trial(format!("{group}::{name}"), *needs, *test))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn trial(name: String, needs: Option<&'static str>, test: Test) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(program) = needs.filter(|program| !exists(program)) {
            let reason =
                format!("needs {program}, which is not installed (Debian: apt-get install prometheus)");
            return Ok(Completion::ignored_with(reason));
        }
        test();
        Ok(Completion::Completed)
    })
}

fn exists(program: &str) -> bool {
    let ran = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

/// Compares with a committed file; `BLESS=1` writes it instead.
#[track_caller]
fn golden(path: &std::path::Path, actual: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(expected == actual, "{} differs; BLESS=1 writes it anew\n--- actual\n{actual}", path.display());
}

/// The root of the repository.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

//! What became of each test, for `cargo xtask vm`, which compares kernels.
//!
//! If the environment names a file, one line of JSON is appended for each test when it ends, so that what was
//! done before a crash stands there. `{"kernel": RELEASE}` comes first; then, for each test, its name as
//! `test`, `outcome` (`passed`, `failed` or `skipped`), `seconds`, for the last two `reason`, and for a skip
//! `cause`.

use std::{any::Any, fs::File, io::Write as _, time::Duration};

use serde_json::{Value, json};
use tcp_trace::host;

use crate::requirements::{Cause, Skip};

/// Names the file.
const VARIABLE: &str = "TCP_TRACE_TEST_RESULTS";

/// What became of a test.
pub(crate) enum Outcome {
    Passed,
    Skipped(Skip),
    /// With the panic's payload.
    Failed(Box<dyn Any + Send>),
}

impl Outcome {
    /// Of a test that has panicked.
    pub(crate) fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        match payload.downcast::<Skip>() {
            Ok(skip) => Self::Skipped(*skip),
            Err(payload) => Self::Failed(payload),
        }
    }
}

/// Says which kernel the lines to come are about.
pub(crate) fn begin() {
    append(&json!({ "kernel": host::host().kernel }));
}

pub(crate) fn note(test: &str, outcome: &Outcome, took: Duration) {
    let seconds = took.as_secs_f64();
    append(&match outcome {
        Outcome::Passed => json!({ "test": test, "outcome": "passed", "seconds": seconds }),
        Outcome::Skipped(Skip { cause, reason }) => {
            let cause = match cause {
                Cause::Privileges => "privileges",
                Cause::Kernel => "kernel",
                Cause::Machine => "machine",
            };
            json!({ "test": test, "outcome": "skipped", "seconds": seconds, "reason": reason, "cause": cause })
        }
        Outcome::Failed(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let reason = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
            json!({ "test": test, "outcome": "failed", "seconds": seconds, "reason": reason })
        }
    });
}

/// In one write, because a test that is killed must not leave half a line.
fn append(line: &Value) {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let file = File::options().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

//! What the host tells the guest's first process to do. Both sides are compiled with this file.

use serde::{Deserialize, Serialize};

/// Where the job lies in the guest.
pub(crate) const PATH: &str = "/job.json";

/// The guest's second serial line, on which results leave it.
pub(crate) const RESULTS: &str = "/dev/ttyS1";

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    /// Kernel modules, each after those that it needs.
    pub(crate) modules: Vec<String>,
    /// tcp-trace, which reports once before the tests.
    pub(crate) program: String,
    /// The test program.
    pub(crate) tests: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Its environment.
    pub(crate) environment: Vec<(String, String)>,
}

/// What the first process itself says; the lines of the tests stand between these.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// The report of a second in which nothing is asked of it.
    Report(serde_json::Value),
    /// Something that should have worked did not.
    Trouble(String),
    /// The test program's exit code; the last word.
    End(i32),
}

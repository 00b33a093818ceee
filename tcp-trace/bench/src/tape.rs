//! A recording of churn, to be read again and again.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use tcp_trace_testkit::{NetNs, workload::Churn};

use crate::{
    bench::{Bench, churn},
    child::Ended,
};

/// A recording; the file goes with this.
pub(crate) struct Tape {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Events in it.
    pub(crate) events: u64,
    pub(crate) lost: u64,
    /// What was recorded.
    pub(crate) churn: Churn,
    /// How the recorder ended.
    pub(crate) recorder: Ended,
}

impl Tape {
    /// Records churn for so long.
    pub(crate) fn record(bench: &Bench, duration: Duration) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tcp-trace-bench-{}.tctrace", std::process::id()));
        let text = path.to_string_lossy().into_owned();
        let ns = NetNs::new()?;
        let running = bench.tcp_trace(&[&["record", text.as_str()], bench.streaming()].concat())?;
        let churn = churn(&ns, duration)?;
        let recorder = running.stop()?;
        let mut tape = Self { path, bytes: 0, events: 0, lost: 0, churn, recorder };
        tape.bytes = fs::metadata(&tape.path).with_context(|| text.clone())?.len();
        let report = bench.begin(&["report", "--from", &text, "--json"])?.wait()?.json()?;
        let of = |key: &str| report["loss"][key].as_u64().with_context(|| format!("no {key} in a report"));
        (tape.events, tape.lost) = (of("delivered")?, of("lost")?);
        Ok(tape)
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        // It may not have come to be.
        let _ = fs::remove_file(&self.path);
    }
}

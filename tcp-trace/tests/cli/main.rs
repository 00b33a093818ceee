//! The binary from its command line to its last byte, on recordings: no root, no kernel, no network.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics has failed, which is meant")]

mod agent;
mod aggregate;
mod closed;
mod damage;
mod deploy;
mod doctor;
#[path = "../shared/documents.rs"]
mod documents;
mod exits;
mod explain;
mod findings;
mod format;
mod found;
mod html;
mod http;
mod incident;
mod kill;
mod log;
mod look;
mod names;
#[path = "../shared/poison.rs"]
mod poison;
mod privileges;
mod reliability;
mod replay;
mod report;
mod schema;
mod snapshot;
mod stacks;
mod stream;
mod tape;
mod tracer;

#[test]
fn the_committed_recording_is_what_the_generator_writes() {
    // If this fails, old recordings may not open any more: see "What is promised" in docs/recording-format.md.
    tracer::assert_golden("incident.tctrace", &incident::recording());
}

//! Recordings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tcp_trace_fuzz::recording(data));

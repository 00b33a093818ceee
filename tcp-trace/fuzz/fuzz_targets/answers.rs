//! Answers of an OTLP endpoint, and variables of the environment.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tcp_trace_fuzz::answers(data));

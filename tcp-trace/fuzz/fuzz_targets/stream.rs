//! Streams of records of which it is known what they must come to.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tcp_trace_fuzz::stream(data));

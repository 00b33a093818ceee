//! Filters, as words, as a table and as JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tcp_trace_fuzz::filters(data));

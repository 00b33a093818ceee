//! Every map and read-only global, with its memory cost.

use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray, RingBuf},
};
use tcp_trace_common::{
    config::{Offsets, Settings},
    counters::Counters,
    filter::Filter,
    nesting::Taken,
};

/// The stream of transitions. User space sets the real size before load (`--buffer`, 16 MiB by default).
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Exact counts: one entry of 6 KiB per possible CPU.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Transitions under way: one entry of 80 bytes per possible CPU.
#[map]
pub(crate) static TAKEN: PerCpuArray<Taken> = PerCpuArray::with_max_entries(1, 0);

/// When each half-open request was queued, by socket cookie. An entry leaves when its handshake completes;
/// those of requests that never do are the least recently used ones. A request is bounded by its
/// listener's backlog, so this holds the half-opens of several full listeners: about 6 MiB.
#[map]
pub(crate) static REQUESTS: LruHashMap<u64, Request> = LruHashMap::with_max_entries(65_536, 0);

/// A half-open request, as `half_open` saw it begin.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Request {
    /// The key once more: the map gives an evicted entry to another socket at once, even while it is read.
    pub(crate) cookie: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) queued_ns: u64,
    /// 1 for a TCP Fast Open request, whose child exists from the SYN on.
    pub(crate) fast_open: u64,
}

/// Offsets into the running kernel's structs.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::NONE;

/// What is on.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings { wake_mask: 0, half_open: 0, filtering: 0 };

/// What to let through.
#[unsafe(no_mangle)]
pub(crate) static FILTER: Filter = Filter::NONE;

/// Reads a field of a read-only global.
///
/// Volatile, because to the compiler these statics are the constants above, while user space writes other
/// values into them before load; the verifier then treats what it reads as constants again.
macro_rules! global {
    ($global:ident . $field:ident) => {
        // SAFETY: a valid reference to a field of a static; volatile adds no requirement.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::$global.$field) }
    };
}
pub(crate) use global;

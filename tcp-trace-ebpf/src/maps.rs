//! Every map and read-only global, with its memory cost.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{ArrayOfMaps, RingBuf},
    helpers::bpf_get_smp_processor_id,
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, ProgramArray},
};
use tcp_trace_common::{
    aggregate::{self, AggregateKey},
    config::{Offsets, Settings},
    cookies,
    counters::{PerCpu, TRANSITIONS},
    event::RequestChange,
    filter::Filter,
    request::{self, Request},
    stack::StackSettings,
};

/// A ring buffer of the stream. The size is that of the model that the kernel asks for; it must be a multiple of the
/// largest page.
pub(crate) type Ring = RingBuf<u64, { 1 << 16 }>;

/// The stream: a ring buffer for each CPU, because the lock and the positions of one that is shared go from CPU to CPU
/// with each record, which costs more than all the rest of a transition. User space makes them (`--buffer`) and puts them in
/// their places before anything is attached, and sets the number of these.
#[btf_map]
pub(crate) static RINGS: ArrayOfMaps<Ring, 1> = ArrayOfMaps::new();

/// This CPU's part of the stream; `None` in an object that streams nothing.
#[inline(always)]
pub(crate) fn ring() -> Option<&'static Ring> {
    // SAFETY: takes nothing.
    RINGS.get(unsafe { bpf_get_smp_processor_id() })
}

/// Stacks as they were dumped (`--stacks`). User space sets the real size where they are wanted.
#[map]
pub(crate) static DUMPS: aya_ebpf::maps::RingBuf = aya_ebpf::maps::RingBuf::with_byte_size(1 << 16, 0);

/// Exact counts, and transitions under way: one entry of 8 KiB per possible CPU.
#[map]
pub(crate) static CPUS: PerCpuArray<PerCpu> = PerCpuArray::with_max_entries(1, 0);

/// Bits of `nesting::live`. User space may change it at any time.
#[map]
pub(crate) static LIVE: Array<u64> = Array::with_max_entries(1, 0);

/// When each half-open request was queued. One leaves when its handshake completes, or when its death is told; user
/// space, which maps this into its memory, takes out those that died unseen: 4 MiB.
#[map]
pub(crate) static REQUESTS: Array<request::Bucket> =
    Array::with_max_entries(request::BUCKETS, BPF_F_MMAPABLE);

/// Accepted sockets whose user has not been seen. Filled only where `first_read` stands in for `accepted`. Nobody else
/// takes them out, so that those which are closed unread stay until newer ones take their places: 128 KiB.
#[map]
pub(crate) static UNCLAIMED: Array<cookies::Bucket> = Array::with_max_entries(cookies::BUCKETS, 0);

/// Sockets whose connection ended in a softirq, by a reset or a timeout, while some process still held them. They leave
/// when they are closed; those that never are, when newer ones take their places: 128 KiB.
#[map]
pub(crate) static HELD: Array<cookies::Bucket> = Array::with_max_entries(cookies::BUCKETS, 0);

/// Where a set holds the sockets with this cookie; `None` in an object that needs no such set.
#[inline(always)]
pub(crate) fn sockets(set: &'static Array<cookies::Bucket>, cookie: u64) -> Option<&'static cookies::Bucket> {
    set.get(cookies::bucket(cookie))
}

/// Remembers a request; does nothing in an object that needs none.
#[inline(always)]
pub(crate) fn put_request(request: &Request) {
    if REQUESTS.get(request::near(request.cookie)).is_some_and(|near| near.put_where_free(request)) {
        return;
    }
    if let Some(bucket) = REQUESTS.get(request::bucket(request.cookie)) {
        bucket.put(request);
    }
}

/// Takes out the request with that cookie.
#[inline(always)]
pub(crate) fn take_request(cookie: u64) -> Option<Request> {
    let near = REQUESTS.get(request::near(cookie)).and_then(|near| near.take(cookie));
    near.or_else(|| REQUESTS.get(request::bucket(cookie)).and_then(|bucket| bucket.take(cookie)))
}

/// What became of a socket's time-wait socket, from its making to the socket's own end, which comes next.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TimeWait {
    /// The socket's, 0 if it has none.
    pub(crate) cookie: u64,
    /// State of the time-wait socket; 0 if the kernel could or would not make one.
    pub(crate) state: u64,
}

/// By address of the socket. It holds as many entries as there are CPUs, and tasks that lost theirs in between:
/// about 100 KiB.
#[map]
pub(crate) static TIME_WAITS: HashMap<u64, TimeWait> = HashMap::with_max_entries(1024, 0);

/// A half-open request whose timer's handler is running on this CPU, as it was before.
#[repr(C)]
pub(crate) struct Running {
    /// Its address; 0 when none is.
    pub(crate) request: u64,
    /// What will be said of it if it dies.
    pub(crate) change: RequestChange,
}

/// One entry of 104 bytes per possible CPU.
#[map]
pub(crate) static RUNNING: PerCpuArray<Running> = PerCpuArray::with_max_entries(1, 0);

/// What the main programs go on with instead of sending, while transitions are aggregated. User space puts it there when it is
/// loaded, which may be long after the main programs are.
#[map]
pub(crate) static INSTEAD: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// No program is ever put here. Not `INSTEAD` for a jump that leads nowhere: a program that is in a table and refers to it
/// would keep it, and be kept by it.
#[map]
pub(crate) static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// What kind each transition is, by slot.
#[unsafe(no_mangle)]
pub(crate) static CLASSES: [u16; TRANSITIONS] = aggregate::CLASSES;

/// Transitions by what they have in common, while they are aggregated. User space takes the rows out each second. 64 KiB
/// per possible CPU, and about 1 MiB.
#[map]
pub(crate) static AGGREGATES: PerCpuHashMap<AggregateKey, u64> = PerCpuHashMap::with_max_entries(8192, 0);

/// What is remembered of a socket while transitions are aggregated.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Since {
    /// When it entered `state`.
    pub(crate) at_ns: u64,
    /// Its owner's, as in the rows.
    pub(crate) process_start_ns: u64,
    pub(crate) tgid: u32,
    pub(crate) state: u32,
    /// 1 if it came in on a listener.
    pub(crate) passive: u64,
}

/// By cookie, or by address where a socket has none. No LRU: entries are written in place, which is safe only as long as
/// nobody else can take one away; they leave at their socket's end, and all of them when aggregation ends. About 6 MiB.
#[map]
pub(crate) static SINCE: HashMap<u64, Since> = HashMap::with_max_entries(65_536, 0);

/// Offsets into the running kernel's structs.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::NONE;

/// What is on.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings =
    Settings { wake_mask: 0, wake_bytes: 0, half_open: 0, filtering: 0, cookie_helper: 0, task_btf: 0 };

/// What to let through.
#[unsafe(no_mangle)]
pub(crate) static FILTER: Filter = Filter::NONE;

/// Where the programs of `--stacks` find registers.
#[unsafe(no_mangle)]
pub(crate) static STACKS: StackSettings = StackSettings::NONE;

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

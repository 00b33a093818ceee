//! Compile-time assertions on the size and alignment of every wire type.
//!
//! zerocopy already refuses padding; these catch a field that grew, which would otherwise only show as a
//! ring buffer that holds fewer records and recordings that no longer open.

use core::mem::{align_of, size_of};

use crate::{
    aggregate::{AggregateKey, AggregateRow},
    config::{Offsets, Settings},
    counters::{Counters, PerCpu},
    event::{RequestChange, SocketUse, StateChange},
    filter::Filter,
    nesting::Taken,
    request::Bucket,
    stack::{StackDump, StackSettings},
};

const _: () = {
    assert!(size_of::<StateChange>() == 160);
    assert!(size_of::<SocketUse>() == 64);
    assert!(size_of::<RequestChange>() == 96);
    assert!(size_of::<Bucket>() == 256);
    assert!(size_of::<AggregateKey>() == 32);
    assert!(size_of::<AggregateRow>() == 40);
    assert!(align_of::<StateChange>() == 8, "the ring buffer aligns records to 8 bytes");
    assert!(size_of::<Counters>() == 4 * 256 * 8 + 24);
    assert!(size_of::<Taken>() == 9 * 8);
    assert!(size_of::<PerCpu>() <= 32 * 1024, "a per-CPU map value is at most 32 KiB");
    assert!(size_of::<Offsets>() == 51 * 4);
    assert!(size_of::<Settings>() == 32);
    assert!(size_of::<Filter>() == 208);
    assert!(size_of::<StackDump>() == 64 + 64 * 8 + 4096);
    assert!(size_of::<StackSettings>() == 32);
};

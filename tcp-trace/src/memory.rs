//! What the allocator keeps of memory that is not needed any more.

/// Blocks from this size on are mappings of their own, which go back to the system when they are done with: the lists
/// of a survey, the growing parts of a table. Left to itself glibc raises the limit to up to 32 MiB as it meets larger
/// ones, and keeps what lies between blocks that stay.
#[cfg(target_env = "gnu")]
const MAPPED: i32 = 1 << 20;
/// What it keeps at the end of a heap: the batches of events that come and go.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 4 << 20;

/// Has the allocator give back what a survey of many sockets took. To be called before there is another thread.
pub fn bound() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_MMAP_THRESHOLD, MAPPED), (libc::M_TRIM_THRESHOLD, KEPT)] {
        // SAFETY: plain numbers, and no other thread allocates meanwhile.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            log::debug!("the allocator does not know parameter {parameter}");
        }
    }
}

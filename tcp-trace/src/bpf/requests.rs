//! The table of half-open requests, mapped into this process.

use std::{
    io,
    num::NonZeroU64,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
    slice,
};

use anyhow::{Context as _, bail};
use aya::maps::Map;
use tcp_trace_common::request::{BUCKETS, Bucket, Details, Request, bucket, near, source};
use tcp_trace_core::{endpoint::Endpoint, survey::RequestRow, time::Timestamp};
use zerocopy::transmute;

/// The half-open requests that the kernel programs remember. It may be read beside the stream, from another thread.
#[derive(Debug)]
pub struct Requests {
    first: NonNull<Bucket>,
}

// SAFETY: a mapping belongs to the process, and its words are atomic.
unsafe impl Send for Requests {}

impl Requests {
    /// Maps the table; it stays as long as this value, whatever becomes of `map`.
    pub(super) fn new(map: &Map) -> anyhow::Result<Self> {
        let Map::Array(data) = map else { bail!("the map REQUESTS is of another type") };
        let fd = data.fd().as_fd().as_raw_fd();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let address = unsafe { libc::mmap(ptr::null_mut(), BYTES, access, libc::MAP_SHARED, fd, 0) };
        let first = NonNull::new(address.cast()).filter(|_| address != libc::MAP_FAILED);
        let first =
            first.ok_or_else(io::Error::last_os_error).context("mapping the table of half-open requests")?;
        Ok(Self { first })
    }

    fn buckets(&self) -> &[Bucket] {
        // SAFETY: the mapping has this length, begins at a page and stays until `drop`. Any bits are valid words, and what
        // changes them meanwhile, here or in the kernel, does so word by word.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), BUCKETS as usize) }
    }

    /// Every request whose handshake has not completed; those of TCP Fast Open are none, they have a socket.
    #[must_use]
    pub fn read(&self) -> Vec<RequestRow> {
        self.buckets().iter().flat_map(Bucket::requests).filter_map(row).collect()
    }

    /// Takes requests out that are known to be dead.
    pub fn forget(&self, cookies: &[NonZeroU64]) {
        for cookie in cookies {
            // It is not in any more if newer ones took its place, or if it has completed after all.
            let take = |bucket: u32| self.buckets().get(bucket as usize)?.take(cookie.get());
            let _ = take(near(cookie.get())).or_else(|| take(bucket(cookie.get())));
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped; nobody else has a reference.
        unsafe { libc::munmap(self.first.as_ptr().cast(), BYTES) };
    }
}

/// Bytes of the table, a multiple of every page size.
const BYTES: usize = size_of::<Bucket>() * BUCKETS as usize;

/// A half-open request; `None` of a Fast Open one.
fn row(Request { cookie, queued_ns, details }: Request) -> Option<RequestRow> {
    let Details { local_addr, peer_addr, local_port, peer_port, family, source } = details;
    if source == source::FAST_OPEN {
        return None;
    }
    Some(RequestRow {
        cookie: NonZeroU64::new(cookie)?,
        queued: Timestamp(queued_ns),
        local: Endpoint::from_wire(transmute!(local_addr), local_port),
        peer: Endpoint::from_wire(transmute!(peer_addr), peer_port),
        family,
    })
}

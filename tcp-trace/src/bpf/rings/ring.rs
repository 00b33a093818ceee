//! One ring buffer, as the kernel maps it for its reader: a page with the reader's position, a page with the writers'
//! position, and the records, twice in a row so that none is cut in two (`kernel/bpf/ringbuf.c`, 5.8).
//!
//! aya has a reader, too, but one that gives each record back by itself. The writers look at that position each time, so
//! that the CPUs would take it from each other with each record.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::merge::{Lane, Next};

/// `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`, `BPF_RINGBUF_HDR_SZ` (`include/uapi/linux/bpf.h`).
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;
/// Where each of our records has its time.
const TIME: std::ops::Range<usize> = 8..16;

/// A mapping of a descriptor's memory.
#[derive(Debug)]
struct Mapping {
    start: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: &impl AsFd, offset: usize, length: usize, protection: libc::c_int) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, offset) };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Self { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A position, in the first word of a page.
    fn position(&self, page: usize) -> &AtomicU64 {
        debug_assert!(page + size_of::<AtomicU64>() <= self.length);
        // SAFETY: within the mapping, aligned to a page, and changed as a whole only.
        unsafe { self.start.byte_add(page).cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own. Nothing can be done about an error.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

/// How full a ring buffer is: its two positions, to be read by anybody.
#[derive(Debug)]
pub(super) struct Fill {
    positions: Mapping,
    page: usize,
}

impl Fill {
    pub(super) fn of(ring: &Ring) -> io::Result<Self> {
        let page = ring.page;
        Ok(Self { positions: Mapping::new(&ring.map, 0, 2 * page, libc::PROT_READ)?, page })
    }

    /// Bytes that wait to be read.
    pub(super) fn waiting(&self) -> u64 {
        // The reader's first: it never overtakes the writers'.
        let read = self.positions.position(0).load(Ordering::Relaxed);
        self.positions.position(self.page).load(Ordering::Relaxed).saturating_sub(read)
    }
}

/// A ring buffer and its only reader.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) map: OwnedFd,
    page: usize,
    reader: Mapping,
    /// The writers' position, and behind it the records.
    records: Mapping,
    /// One less than the size of the buffer.
    mask: usize,
    /// The reader's position, and how much of it the writers know.
    read: u64,
    told: u64,
    /// The writers' position when it was looked at last.
    written: u64,
    /// Length of the record that comes next, once it has been looked at.
    length: usize,
    /// The latest time of all records so far.
    latest: u64,
}

impl Ring {
    /// Maps an empty ring buffer of this size.
    pub(super) fn new(map: OwnedFd, bytes: usize, page: usize) -> io::Result<Self> {
        let reader = Mapping::new(&map, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let records = Mapping::new(&map, page, page + 2 * bytes, libc::PROT_READ)?;
        Ok(Self {
            map,
            page,
            reader,
            records,
            mask: bytes - 1,
            read: 0,
            told: 0,
            written: 0,
            length: 0,
            latest: 0,
        })
    }

    /// Looks how far the writers have come.
    pub(super) fn look(&mut self) {
        self.written = self.records.position(0).load(Ordering::Acquire);
    }

    /// Gives what was read back to the writers.
    pub(super) fn give_back(&mut self) {
        if self.told != self.read {
            // After everything that was read there (`smp_load_acquire` in `__bpf_ringbuf_reserve`).
            self.reader.position(0).store(self.read, Ordering::Release);
            self.told = self.read;
        }
    }

    /// `length` bytes at an offset from the next record's header.
    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let start = self.page + (self.read as usize & self.mask) + offset;
        let end = start.saturating_add(length);
        if end > self.records.length {
            return &[]; // No kernel writes such a length.
        }
        // SAFETY: within the mapping; committed and not given back, so that nobody writes there.
        unsafe { std::slice::from_raw_parts(self.records.start.byte_add(start).cast().as_ptr(), length) }
    }

    /// The next record's length, and the bits that say what is the matter with it.
    fn header(&self) -> u32 {
        let start = self.page + (self.read as usize & self.mask);
        // SAFETY: within the mapping, aligned to 8; the writer changes it as a whole (`xchg` in `bpf_ringbuf_commit`).
        let header: &AtomicU32 = unsafe { self.records.start.byte_add(start).cast().as_ref() };
        header.load(Ordering::Acquire)
    }

    fn skip(&mut self, length: usize) {
        self.read += (HEADER + length).next_multiple_of(8) as u64;
    }
}

impl Lane for Ring {
    fn next(&mut self) -> Next {
        while self.read < self.written {
            let header = self.header();
            if header & BUSY != 0 {
                return Next::Busy;
            }
            let length = (header & !DISCARDED) as usize;
            if header & DISCARDED != 0 {
                self.skip(length);
                continue;
            }
            self.length = length;
            let time = self.bytes(HEADER + TIME.start, TIME.len()).try_into().map_or(0, u64::from_ne_bytes);
            // An interrupt's record may lie before that of what it interrupted, which began earlier.
            self.latest = self.latest.max(time);
            return Next::Record(self.latest);
        }
        Next::Nothing
    }

    fn record(&self) -> &[u8] {
        self.bytes(HEADER, self.length)
    }

    fn pass(&mut self) {
        self.skip(self.length);
    }
}

//! How full the ring buffer is: its two positions, as the kernel maps them for any reader.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// The pages of the positions of the consumer and of the producer (`struct bpf_ringbuf`, `kernel/bpf/ringbuf.c`, 5.8).
#[derive(Debug)]
pub struct Fill {
    pages: NonNull<libc::c_void>,
    page: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; it is read by atomic loads only.
unsafe impl Send for Fill {}

impl Fill {
    /// Maps the positions of a ring buffer, to be read.
    pub(super) fn of(ring: &impl AsFd) -> io::Result<Self> {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(io::Error::other)?;
        let fd = ring.as_fd().as_raw_fd();
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let pages =
            unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(pages) {
            Some(pages) if pages.as_ptr() != libc::MAP_FAILED => Ok(Self { pages, page }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Bytes that wait to be read.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        // The consumer first: it never overtakes the producer.
        let consumed = self.position(0);
        self.position(1).saturating_sub(consumed)
    }

    fn position(&self, page: usize) -> u64 {
        // SAFETY: within the mapping, aligned to a page; the kernel changes it at any time, as a whole.
        let position = unsafe { self.pages.byte_add(page * self.page).cast::<AtomicU64>().as_ref() };
        position.load(Ordering::Relaxed)
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own. Nothing can be done about an error.
        unsafe { libc::munmap(self.pages.as_ptr(), 2 * self.page) };
    }
}

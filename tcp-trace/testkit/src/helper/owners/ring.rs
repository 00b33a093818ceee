//! A server that does everything through io_uring, where no system call names the socket.

use std::ffi::c_void;
use std::io::{self, ErrorKind};
use std::mem::{offset_of, size_of};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringFeatureFlags, IoringOp, IoringSqeFlags,
    addr_or_splice_off_in_union, io_uring_cqe, io_uring_enter, io_uring_params, io_uring_ptr, io_uring_setup,
    io_uring_sqe, len_union,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{ANSWER, Socket};

/// One operation at a time.
const ENTRIES: u32 = 1;

/// Serves connections without end, one after the other.
pub(super) fn serve(listener: &TcpListener) -> io::Result<()> {
    let mut ring = Ring::new()?;
    // The worker thread that the kernel makes for this flag is another task than the one that asked.
    for elsewhere in [IoringSqeFlags::empty(), IoringSqeFlags::ASYNC].into_iter().cycle() {
        let fd = ring.run(IoringOp::Accept, IoringSqeFlags::empty(), listener.as_raw_fd(), &mut [])?;
        // SAFETY: the kernel has just made this descriptor, for nobody else.
        let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let socket = Socket::new(stream, "server", "accept")?;
        ring.serve_one(&socket, elsewhere)?;
        socket.leaving("close")?;
        ring.run(IoringOp::Close, IoringSqeFlags::empty(), socket.stream.into_raw_fd(), &mut [])?;
    }
    Ok(())
}

/// Whether this kernel lets this process have one.
pub(crate) fn is_allowed() -> bool {
    Ring::new().is_ok()
}

struct Ring {
    fd: OwnedFd,
    params: io_uring_params,
    /// Both rings' heads, tails and entries.
    rings: NonNull<c_void>,
    rings_len: usize,
    entries: NonNull<io_uring_sqe>,
}

impl Ring {
    fn new() -> io::Result<Self> {
        let mut params = io_uring_params::default();
        // SAFETY: nothing is registered or submitted yet.
        let fd = unsafe { io_uring_setup(ENTRIES, &mut params) }?;
        if !params.features.contains(IoringFeatureFlags::SINGLE_MMAP) {
            return Err(io::Error::new(ErrorKind::Unsupported, "io_uring before kernel 5.4"));
        }
        let submissions = params.sq_off.array as usize + params.sq_entries as usize * size_of::<u32>();
        let completions =
            params.cq_off.cqes as usize + params.cq_entries as usize * size_of::<io_uring_cqe>();
        let rings_len = submissions.max(completions);
        let rings = map(&fd, rings_len, IORING_OFF_SQ_RING)?;
        let entries = map(&fd, params.sq_entries as usize * size_of::<io_uring_sqe>(), IORING_OFF_SQES)?;
        Ok(Self { fd, params, rings, rings_len, entries: entries.cast() })
    }

    fn serve_one(&mut self, socket: &Socket, flags: IoringSqeFlags) -> io::Result<()> {
        let fd = socket.stream.as_raw_fd();
        let mut byte = [0];
        if self.run(IoringOp::Recv, flags, fd, &mut byte)? == 0 {
            return Ok(());
        }
        let mode = byte[0];
        self.run(IoringOp::Send, flags, fd, &mut [ANSWER])?;
        socket.used(mode, 1, 1)?;
        if mode == b's' {
            return Ok(());
        }
        loop {
            match self.run(IoringOp::Recv, flags, fd, &mut byte) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                other => _ = other?,
            }
        }
    }

    /// Submits one operation and waits for its end; its result.
    fn run(
        &mut self,
        op: IoringOp,
        flags: IoringSqeFlags,
        fd: RawFd,
        buffer: &mut [u8],
    ) -> io::Result<RawFd> {
        let address = if buffer.is_empty() { ptr::null_mut() } else { buffer.as_mut_ptr().cast() };
        let entry = io_uring_sqe {
            opcode: op,
            flags,
            fd,
            addr_or_splice_off_in: addr_or_splice_off_in_union { addr: io_uring_ptr::new(address) },
            len: len_union { len: u32::try_from(buffer.len()).map_err(io::Error::other)? },
            ..io_uring_sqe::default()
        };
        // SAFETY: the mapping holds `ENTRIES` entries, of which the kernel reads none now: the last operation has ended.
        unsafe { self.entries.write(entry) };
        self.word(self.params.sq_off.array).store(0, Ordering::Relaxed);
        self.word(self.params.sq_off.tail).fetch_add(1, Ordering::Release);
        let mut to_submit = 1;
        let (head, tail) = (self.params.cq_off.head, self.params.cq_off.tail);
        while self.word(head).load(Ordering::Relaxed) == self.word(tail).load(Ordering::Acquire) {
            // SAFETY: the buffer lives until the operation has ended, for which this loop waits.
            match unsafe { io_uring_enter(&self.fd, to_submit, 1, IoringEnterFlags::GETEVENTS) } {
                Ok(submitted) => to_submit -= submitted,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let index = self.word(head).load(Ordering::Relaxed) & (self.params.cq_entries - 1);
        let at = self.params.cq_off.cqes as usize + index as usize * size_of::<io_uring_cqe>();
        // SAFETY: `at` is an entry of the mapping, and the kernel has filled it: its tail is past it.
        let result: i32 = unsafe { self.rings.byte_add(at + offset_of!(io_uring_cqe, res)).cast().read() };
        self.word(head).fetch_add(1, Ordering::Release);
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
    }

    /// A word that is shared with the kernel.
    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel gave the offset of an aligned u32 of the mapping, which lives as long as `self`.
        unsafe { self.rings.byte_add(offset as usize).cast().as_ref() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let entries_len = self.params.sq_entries as usize * size_of::<io_uring_sqe>();
        for (start, length) in [(self.rings, self.rings_len), (self.entries.cast(), entries_len)] {
            // SAFETY: mapped by `new`, and nothing refers to it any more. It fails for no mapping.
            let _ = unsafe { munmap(start.as_ptr(), length) };
        }
    }
}

fn map(fd: &OwnedFd, length: usize, offset: u64) -> io::Result<NonNull<c_void>> {
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let start = unsafe { mmap(ptr::null_mut(), length, protection, flags, fd, offset) }?;
    NonNull::new(start).ok_or_else(|| io::Error::other("mapped at 0"))
}

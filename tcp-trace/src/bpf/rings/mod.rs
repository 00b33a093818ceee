//! The stream's ring buffers, one for each CPU, read as one.

mod merge;
mod ring;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, anyhow};
use aya::{
    Ebpf,
    maps::Map,
    util::{nr_cpus, online_cpus},
};
use rustix::{
    event::{Timespec, epoll},
    param::page_size,
};
use tcp_trace_core::time::Timestamp;

pub use merge::Progress;
use ring::{Fill, Ring};

use super::sys::{bpf, bpf_fd, command, number};
use crate::host::NO_THREAD;

/// Unless another size is asked for: all buffers together, and each of them if that is more.
const ALL: usize = 16 << 20;
const EACH: usize = 1 << 20;
/// The largest that the kernel can be asked for, with room to spare (`RINGBUF_MAX_DATA_SZ` is 64 GiB).
const LARGEST: usize = 1 << 30;
/// Of a thread that makes one call.
const STACK: usize = 64 << 10;
/// `BPF_MAP_TYPE_RINGBUF` (`include/uapi/linux/bpf.h`, 5.8).
const RINGBUF: u32 = 27;

/// How many buffers there are, and how large each of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many.
    pub rings: usize,
    /// Bytes of each: a power of two, a multiple of the page size.
    pub each: usize,
}

impl Layout {
    /// For programs that send nothing.
    pub(super) const NONE: Self = Self { rings: 1, each: 1 << 16 };

    /// For the CPUs that are online; `bytes` is what all buffers may take together.
    #[must_use]
    pub fn of(bytes: Option<u32>) -> Self {
        Self::with(bytes, online_cpus().map_or(1, |cpus| cpus.len()), page_size())
    }

    fn with(bytes: Option<u32>, cpus: usize, page: usize) -> Self {
        let rings = cpus.max(1);
        let share = bytes.map_or((ALL / rings).max(EACH), |bytes| bytes as usize / rings);
        let share = share.clamp(page, LARGEST);
        Self { rings, each: 1 << share.ilog2() }
    }

    /// Bytes of all.
    #[must_use]
    pub fn bytes(self) -> u64 {
        (self.rings * self.each) as u64
    }
}

/// All ring buffers, and their only reader.
#[derive(Debug)]
pub struct Rings {
    rings: Vec<Ring>,
    /// Becomes readable when the kernel programs wake the reader of any of them.
    poll: OwnedFd,
}

/// How full the ring buffers are.
#[derive(Debug)]
pub struct Fills(Vec<Fill>);

/// The ring buffers in the making, beside what else takes its time at the start.
pub(super) struct Making(JoinHandle<anyhow::Result<Rings>>);

/// `union bpf_attr` of `BPF_MAP_CREATE`, as far as it is used.
#[repr(C)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// `union bpf_attr` of `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct UpdateAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Rings {
    /// Makes the buffers and puts them where the programs look for them.
    fn new(places: &OwnedFd, layout: Layout) -> anyhow::Result<Self> {
        let page = page_size();
        let make = |_| Ok(Ring::new(create(layout.each)?, layout.each, page)?);
        let rings: anyhow::Result<Vec<_>> = (0..layout.rings).map(make).collect();
        let rings = rings.context("making the ring buffers")?;
        hand_out(&rings, places).context("handing out the ring buffers")?;
        let poll = poll(&rings).context("watching the ring buffers")?;
        Ok(Self { rings, poll })
    }

    /// Hands over the records with a time of at most `until`, in the order of their time, until `enough` bytes are
    /// reached. `until` must have passed: a program that has noted a time goes on for some microseconds, and its clock
    /// may be as far behind.
    pub fn read(&mut self, until: Timestamp, enough: usize, sink: impl FnMut(&[u8])) -> Progress {
        self.rings.iter_mut().for_each(Ring::look);
        let progress = merge::merge(&mut self.rings, until.0, enough, sink);
        self.rings.iter_mut().for_each(Ring::give_back);
        progress
    }

    /// Forgets that the programs have called.
    pub fn heard(&self) {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // What is left is found at the next call; an error means that there is nothing.
        let _ = epoll::wait(&self.poll, &mut events, Some(&now));
    }

    /// To watch how full they are.
    ///
    /// # Errors
    ///
    /// If they cannot be mapped.
    pub fn fills(&self) -> io::Result<Fills> {
        self.rings.iter().map(Fill::of).collect::<io::Result<_>>().map(Fills)
    }
}

impl Making {
    /// Begins to make those of an object.
    pub(super) fn begin(object: &Ebpf, layout: Layout) -> anyhow::Result<Self> {
        let Some(Map::ArrayOfMaps(places)) = object.map("RINGS") else {
            return Err(anyhow!("the eBPF object has no map RINGS, or one of another type"));
        };
        let places = places.fd().as_fd().try_clone_to_owned()?;
        let thread = thread::Builder::new().name("tcp-trace-rings".to_owned());
        Ok(Self(thread.spawn(move || Rings::new(&places, layout)).context(NO_THREAD)?))
    }

    /// Waits for them.
    pub(super) fn finish(self) -> anyhow::Result<Rings> {
        self.0.join().map_err(|_panic| anyhow!("making the ring buffers panicked")).flatten()
    }
}

impl AsFd for Rings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

impl Fills {
    /// Bytes that wait in the fullest one.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.0.iter().map(Fill::waiting).max().unwrap_or(0)
    }
}

/// How many CPUs there can ever be: so many places the programs look into.
pub(super) fn possible_cpus() -> u32 {
    nr_cpus().ok().and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1)
}

/// Gives each CPU its buffer. The kernel lets each call wait until no program can see what was there before
/// (`maybe_wait_bpf_programs`, `kernel/bpf/syscall.c`), and all that wait at the same time wait no longer than one.
fn hand_out(rings: &[Ring], places: &OwnedFd) -> io::Result<()> {
    let online = online_cpus().unwrap_or_default();
    thread::scope(|scope| {
        let mut calls = Vec::new();
        for cpu in 0..possible_cpus() {
            // A CPU that is not online may become so: then it shares another's buffer.
            let own = online.iter().position(|online| *online == cpu).unwrap_or(cpu as usize);
            let Some(ring) = rings.get(own % rings.len().max(1)) else { continue };
            let ring = ring.map.as_fd();
            let thread = thread::Builder::new().stack_size(STACK);
            calls.push(thread.spawn_scoped(scope, move || put(places.as_fd(), cpu, ring))?);
        }
        let panicked = || Err(io::Error::other("the call panicked"));
        calls.into_iter().try_for_each(|call| call.join().unwrap_or_else(|_panic| panicked()))
    })
}

fn create(bytes: usize) -> anyhow::Result<OwnedFd> {
    let mut attr = CreateAttr {
        map_type: RINGBUF,
        key_size: 0,
        value_size: 0,
        max_entries: u32::try_from(bytes)?,
        map_flags: 0,
        inner_map_fd: 0,
        numa_node: 0,
        name: *b"EVENTS\0\0\0\0\0\0\0\0\0\0",
    };
    // SAFETY: no address in there; the command returns a new descriptor.
    Ok(unsafe { bpf_fd(command::MAP_CREATE, &mut attr)? })
}

fn put(places: BorrowedFd<'_>, cpu: u32, ring: BorrowedFd<'_>) -> io::Result<()> {
    let ring = number(&ring);
    let mut attr = UpdateAttr {
        map_fd: number(&places),
        padding: 0,
        key: (&raw const cpu).expose_provenance() as u64,
        value: (&raw const ring).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: a key and a value of four bytes each, as the map has.
    unsafe { bpf(command::MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

fn poll(rings: &[Ring]) -> io::Result<OwnedFd> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for ring in rings {
        // Only what the programs say is news, not that there is something to read.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, &ring.map, epoll::EventData::new_u64(0), flags)?;
    }
    Ok(poll)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_gets_its_share() {
        let each = |bytes: Option<u32>, cpus| Layout::with(bytes, cpus, 4096).each;
        assert_eq!(each(None, 1), 16 << 20);
        assert_eq!(each(None, 2), 8 << 20);
        assert_eq!(each(None, 3), 4 << 20, "a power of two");
        assert_eq!(each(None, 64), 1 << 20, "and never less than this");
        assert_eq!(each(Some(64 << 20), 64), 1 << 20);
        assert_eq!(each(Some(4096), 2), 4096, "no less than a page");
        assert_eq!(Layout::with(Some(1 << 20), 0, 4096), Layout { rings: 1, each: 1 << 20 });
        assert_eq!(Layout::with(Some(1 << 20), 2, 65_536).bytes(), 1 << 20);
    }
}

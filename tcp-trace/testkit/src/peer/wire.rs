//! The TUN device shared by all connections of a peer: one reader thread, a queue for each connection.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::clock::{as_ns, monotonic_ns, urgent};
use crate::packet::{Flags, Segment};
use crate::tun::{MAX_PACKET, Tun};

/// A segment from the kernel and when it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// `CLOCK_MONOTONIC` ns when the reader thread had it: some tens of µs after the kernel sent it.
    pub time_ns: u64,
    /// The segment; `dst` is the peer's address.
    pub segment: Segment,
}

/// The peer's address and the kernel's.
pub(super) type Pair = (SocketAddr, SocketAddr);

#[derive(Debug, Default)]
struct Queues {
    connections: HashMap<Pair, VecDeque<Received>>,
    listeners: HashMap<SocketAddr, VecDeque<Received>>,
}

#[derive(Debug)]
pub(super) struct Wire {
    tun: Tun,
    queues: Mutex<Queues>,
    arrived: Condvar,
}

impl Wire {
    pub(super) fn new(tun: Tun) -> Self {
        Self { tun, queues: Mutex::default(), arrived: Condvar::new() }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // Every change is one insert or remove: a panicking holder leaves nothing half done.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends and returns the moment just before.
    pub(super) fn send(&self, segment: &Segment) -> io::Result<u64> {
        self.send_bytes(&segment.to_bytes()?)
    }

    /// Sends an IP packet and returns the moment just before.
    pub(super) fn send_bytes(&self, packet: &[u8]) -> io::Result<u64> {
        let time_ns = monotonic_ns();
        self.tun.write(packet)?;
        Ok(time_ns)
    }

    pub(super) fn register(&self, pair: Pair) {
        self.queues().connections.entry(pair).or_default();
    }

    pub(super) fn unregister(&self, pair: Pair) {
        self.queues().connections.remove(&pair);
    }

    pub(super) fn listen(&self, local: SocketAddr) {
        self.queues().listeners.entry(local).or_default();
    }

    pub(super) fn stop_listening(&self, local: SocketAddr) {
        self.queues().listeners.remove(&local);
    }

    /// The next segment for `pair`, or `None` when the deadline (monotonic ns) has passed.
    pub(super) fn receive(&self, pair: Pair, deadline_ns: u64) -> Option<Received> {
        self.wait(deadline_ns, |queues| queues.connections.get_mut(&pair)?.pop_front())
    }

    /// The next SYN to `local`; later segments of its sender go to the connection's own queue.
    pub(super) fn next_syn(&self, local: SocketAddr, timeout: Duration) -> io::Result<Received> {
        let deadline_ns = monotonic_ns().saturating_add(as_ns(timeout));
        let syn = self.wait(deadline_ns, |queues| {
            let pending = queues.listeners.get_mut(&local)?;
            let syn = pending.pop_front()?;
            let (own, others) =
                std::mem::take(pending).into_iter().partition(|r| r.segment.src == syn.segment.src);
            *pending = others;
            queues.connections.insert((local, syn.segment.src), own);
            Some(syn)
        });
        syn.ok_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, format!("no SYN to {local} within {timeout:?}"))
        })
    }

    fn wait<T>(&self, deadline_ns: u64, mut take: impl FnMut(&mut Queues) -> Option<T>) -> Option<T> {
        let mut queues = self.queues();
        loop {
            if let Some(taken) = take(&mut queues) {
                return Some(taken);
            }
            let left = deadline_ns.checked_sub(monotonic_ns()).filter(|left| *left > 0)?;
            let waited = self.arrived.wait_timeout(queues, Duration::from_nanos(left));
            queues = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The reader thread: runs until `stop` is readable or the device fails.
    pub(super) fn read_until(&self, stop: &OwnedFd) {
        // The sooner it is woken, the closer its times are to the kernel's.
        let _urgent = urgent();
        let mut buffer = [0; MAX_PACKET];
        loop {
            let mut ready =
                [PollFd::from_borrowed_fd(self.tun.as_fd(), PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            if poll(&mut ready, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
                return;
            }
            if !ready[1].revents().is_empty() {
                return;
            }
            if ready[0].revents().is_empty() {
                continue;
            }
            let Ok(length) = self.tun.read(&mut buffer) else { return };
            let time_ns = monotonic_ns();
            // ICMPv6 router solicitations and the like are not ours.
            if let Ok(segment) = Segment::parse(&buffer[..length]) {
                self.sort(Received { time_ns, segment });
            }
        }
    }

    fn sort(&self, received: Received) {
        let mut queues = self.queues();
        let Segment { src, dst, flags, .. } = received.segment;
        let opening = flags.contains(Flags::SYN) && !flags.contains(Flags::ACK);
        if let Some(queue) = queues.connections.get_mut(&(dst, src)) {
            queue.push_back(received);
        } else if opening && let Some(queue) = queues.listeners.get_mut(&dst) {
            queue.push_back(received);
        }
        drop(queues);
        self.arrived.notify_all();
    }
}

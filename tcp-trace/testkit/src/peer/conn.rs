//! One hand-made connection: what is sent, what is awaited, and the sequence numbers between.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{Pair, Received, Wire};
use crate::clock::{as_ns, monotonic_ns};
use crate::packet::{Flags, Segment, TcpOptions, Timestamps};

/// What the peer puts into its segments.
#[derive(Clone, Debug)]
pub struct ConnOptions {
    /// The MSS option of its SYN, in bytes. Default 1,460.
    pub mss: Option<u16>,
    /// The timestamps option in every segment, the kernel's last value echoed. Default off.
    pub timestamps: bool,
    /// SACK-permitted in its SYN. Default off.
    pub sack_permitted: bool,
    /// The Fast Open option of its SYN: empty asks for a cookie. Default none.
    pub fastopen: Option<Vec<u8>>,
    /// The receive window it announces, in bytes; never scaled. Default 64,240.
    pub window: u16,
}

impl Default for ConnOptions {
    fn default() -> Self {
        Self { mss: Some(1460), timestamps: false, sack_permitted: false, fastopen: None, window: 64_240 }
    }
}

/// A connection between the peer and a kernel socket.
///
/// The `send_*` methods return the `CLOCK_MONOTONIC` ns just before the packet was handed to the kernel,
/// which has usually handled it when they return. Sequence numbers advance with what is sent, the
/// acknowledgment number with what the test has received through `recv` or `expect`. Dropping it sends
/// nothing: whatever the kernel sends later meets silence.
#[derive(Debug)]
pub struct Conn {
    wire: Arc<Wire>,
    local: SocketAddr,
    remote: SocketAddr,
    options: ConnOptions,
    initial_seq: u32,
    /// Next sequence number to send; `initial_seq` until a SYN was sent.
    next_seq: u32,
    /// Lowest sequence number the kernel has not acknowledged.
    unacked: u32,
    /// Next sequence number awaited; `None` until the kernel's SYN came.
    awaited: Option<u32>,
    /// The kernel's last timestamp, to be echoed.
    last_timestamp: u32,
}

impl Conn {
    pub(super) fn client(
        wire: Arc<Wire>,
        local: SocketAddr,
        remote: SocketAddr,
        options: ConnOptions,
    ) -> Self {
        // Differs from one connection to the next, as RFC 9293 wants of an ISN.
        let initial_seq = (monotonic_ns() >> 6) as u32;
        Self {
            wire,
            local,
            remote,
            options,
            initial_seq,
            next_seq: initial_seq,
            unacked: initial_seq,
            awaited: None,
            last_timestamp: 0,
        }
    }

    pub(super) fn server(wire: Arc<Wire>, syn: &Received, mut options: ConnOptions) -> Self {
        options.timestamps &= syn.segment.options.timestamps.is_some();
        let mut conn = Self::client(wire, syn.segment.dst, syn.segment.src, options);
        conn.absorb(&syn.segment);
        conn
    }

    /// The peer's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The kernel's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether the kernel's SYN (or SYN-ACK) has been received.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.awaited.is_some()
    }

    fn pair(&self) -> Pair {
        (self.local, self.remote)
    }

    /// Sends any segment: `seq` and `ack` as given, the connection's numbers left alone. For everything
    /// the other methods do not offer.
    ///
    /// # Errors
    /// What the TUN device says; options or data too long.
    pub fn send_raw(&self, flags: Flags, seq: u32, ack: u32, payload: &[u8]) -> io::Result<u64> {
        let opening = flags.contains(Flags::SYN);
        let timestamps = self.options.timestamps.then(|| Timestamps {
            // Milliseconds, as the kernel's own; only differences count.
            value: (monotonic_ns() / 1_000_000) as u32,
            echo: if flags.contains(Flags::ACK) { self.last_timestamp } else { 0 },
        });
        let options = TcpOptions {
            mss: self.options.mss.filter(|_| opening),
            sack_permitted: self.options.sack_permitted && opening,
            timestamps,
            window_scale: None,
            fastopen: self.options.fastopen.clone().filter(|_| opening),
        };
        self.wire.send(&Segment {
            src: self.local,
            dst: self.remote,
            seq,
            ack,
            flags,
            window: self.options.window,
            options,
            payload: payload.to_vec(),
        })
    }

    /// Sends from `seq` on, acknowledging all that was received; `next_seq` ends behind it.
    fn send_at(&mut self, seq: u32, flags: Flags, payload: &[u8]) -> io::Result<u64> {
        let ack = if flags.contains(Flags::ACK) { self.awaited.unwrap_or(0) } else { 0 };
        let sent_ns = self.send_raw(flags, seq, ack, payload)?;
        let control = u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
        self.next_seq = seq.wrapping_add(payload.len() as u32).wrapping_add(control);
        Ok(sent_ns)
    }

    /// Sends a SYN; a second call repeats the same one.
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn send_syn(&mut self) -> io::Result<u64> {
        self.send_at(self.initial_seq, Flags::SYN, &[])
    }

    /// Sends a SYN with data behind it (Fast Open, with a cookie in [`ConnOptions::fastopen`]).
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn send_syn_with_data(&mut self, data: &[u8]) -> io::Result<u64> {
        self.send_at(self.initial_seq, Flags::SYN, data)
    }

    /// Answers the kernel client's SYN; a second call repeats the same answer.
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn send_syn_ack(&mut self) -> io::Result<u64> {
        self.send_at(self.initial_seq, Flags::SYN_ACK, &[])
    }

    /// Acknowledges all that the test has received.
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn send_ack(&mut self) -> io::Result<u64> {
        self.send_at(self.next_seq, Flags::ACK, &[])
    }

    /// The same as [`Conn::send_ack`], named for reading well after an `expect`.
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn ack_received(&mut self) -> io::Result<u64> {
        self.send_ack()
    }

    /// Sends data (at most an MSS) and acknowledges what was received.
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn send_data(&mut self, data: &[u8]) -> io::Result<u64> {
        self.send_at(self.next_seq, Flags::ACK | Flags::PSH, data)
    }

    /// Sends a FIN and acknowledges what was received.
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn send_fin(&mut self) -> io::Result<u64> {
        self.send_at(self.next_seq, Flags::FIN_ACK, &[])
    }

    /// Sends a FIN that does not acknowledge `fin`, the kernel's: the two cross on the wire.
    pub(super) fn send_fin_crossing(&mut self, fin: &Segment) -> io::Result<u64> {
        let before_fin = fin.seq.wrapping_add(fin.payload.len() as u32);
        let sent_ns = self.send_raw(Flags::FIN_ACK, self.next_seq, before_fin, &[])?;
        self.next_seq = self.next_seq.wrapping_add(1);
        Ok(sent_ns)
    }

    /// Aborts: a RST at the exact sequence number the kernel awaits; in answer to an unanswered SYN, the
    /// `RST|ACK` of a closed port.
    ///
    /// # Errors
    /// What the TUN device says.
    pub fn send_rst(&mut self) -> io::Result<u64> {
        if self.next_seq == self.initial_seq {
            return self.send_raw(Flags::RST_ACK, 0, self.awaited.unwrap_or(0), &[]);
        }
        self.send_raw(Flags::RST, self.next_seq, 0, &[])
    }

    /// Answers the kernel's SYN as a router without a route does: ICMP host unreachable, which gives the attempt up.
    ///
    /// # Errors
    /// `InvalidInput` for IPv6; what the TUN device says.
    pub fn send_unreachable(&self) -> io::Result<u64> {
        let segment = Segment {
            src: self.remote,
            dst: self.local,
            seq: self.awaited.unwrap_or(0).wrapping_sub(1),
            ack: 0,
            flags: Flags::SYN,
            window: 0,
            options: TcpOptions::default(),
            payload: Vec::new(),
        };
        self.wire.send_bytes(&segment.unreachable(self.local)?)
    }

    /// The next segment, or `None` after `timeout`.
    pub fn recv(&mut self, timeout: Duration) -> Option<Received> {
        self.recv_until(monotonic_ns().saturating_add(as_ns(timeout)))
    }

    pub(super) fn recv_until(&mut self, deadline_ns: u64) -> Option<Received> {
        let received = self.wire.receive(self.pair(), deadline_ns)?;
        self.absorb(&received.segment);
        Some(received)
    }

    /// Waits for a segment with all of `flags`, taking in those before it.
    ///
    /// # Errors
    /// `TimedOut`, with the flags of what came instead; `ConnectionReset` when an unawaited RST comes.
    pub fn expect(&mut self, flags: Flags, timeout: Duration) -> io::Result<Received> {
        self.expect_that(&format!("{flags:?}"), timeout, |_, segment| segment.flags.contains(flags))
    }

    /// Waits for the kernel's SYN-ACK.
    ///
    /// # Errors
    /// As [`Conn::expect`].
    pub fn expect_syn_ack(&mut self, timeout: Duration) -> io::Result<Received> {
        self.expect(Flags::SYN_ACK, timeout)
    }

    /// Waits until the kernel has acknowledged all that was sent.
    ///
    /// # Errors
    /// As [`Conn::expect`].
    pub fn expect_all_acked(&mut self, timeout: Duration) -> io::Result<()> {
        if self.unacked == self.next_seq {
            return Ok(());
        }
        self.expect_that("an ACK of everything", timeout, |conn, _| conn.unacked == conn.next_seq).map(|_| ())
    }

    fn expect_that(
        &mut self,
        what: &str,
        timeout: Duration,
        is_it: impl Fn(&Self, &Segment) -> bool,
    ) -> io::Result<Received> {
        let deadline_ns = monotonic_ns().saturating_add(as_ns(timeout));
        let mut others = Vec::new();
        while let Some(received) = self.recv_until(deadline_ns) {
            let segment = &received.segment;
            if is_it(self, segment) {
                return Ok(received);
            }
            if segment.flags.contains(Flags::RST) {
                let text = format!("{} - {}: RST instead of {what}", self.local, self.remote);
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, text));
            }
            others.push(segment.flags);
        }
        let text = format!("{} - {}: no {what} in {timeout:?}, but {others:?}", self.local, self.remote);
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    /// Takes a segment's numbers in, as a receiver without reordering would.
    fn absorb(&mut self, segment: &Segment) {
        let before = |a: u32, b: u32| (b.wrapping_sub(a)).cast_signed() > 0;
        let end = segment.seq.wrapping_add(segment.sequence_len());
        let awaited =
            *self.awaited.get_or_insert(if segment.flags.contains(Flags::SYN) { end } else { segment.seq });
        if !before(awaited, segment.seq) {
            if let Some(timestamps) = segment.options.timestamps {
                self.last_timestamp = timestamps.value;
            }
            if before(awaited, end) {
                self.awaited = Some(end);
            }
        }
        let acked_more = before(self.unacked, segment.ack) && !before(self.next_seq, segment.ack);
        if segment.flags.contains(Flags::ACK) && acked_more {
            self.unacked = segment.ack;
            if segment.flags.contains(Flags::SYN) {
                // A SYN's data (Fast Open) counts as sent only if it was taken.
                self.next_seq = segment.ack;
            }
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.wire.unregister(self.pair());
    }
}

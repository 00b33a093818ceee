//! Client handshakes with a timetable.

use std::io;
use std::time::Duration;

use super::PATIENCE;
use super::conn::Conn;
use super::wire::Received;
use crate::clock::{SPIN_NS, as_ns, monotonic_ns, sleep_until, urgent};
use crate::packet::Flags;

/// When the client does what; all times count from the kernel's first SYN-ACK.
#[derive(Clone, Copy, Debug, Default)]
pub struct HandshakePlan {
    /// When it sends the final ACK. SYN-ACKs the kernel repeats meanwhile are ignored (and counted).
    pub ack_after: Duration,
    /// When it repeats its SYN, if it does; before `ack_after`.
    pub repeat_syn_after: Option<Duration>,
}

/// What happened, in `CLOCK_MONOTONIC` ns.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Just before the first SYN was handed to the kernel.
    pub syn_sent_ns: u64,
    /// When the first SYN-ACK was read: some tens of µs after the kernel sent it.
    pub syn_ack_ns: u64,
    /// Just before the final ACK was handed to the kernel.
    pub ack_sent_ns: u64,
    /// Just after that: the kernel has usually handled it by then.
    pub ack_done_ns: u64,
    /// When each further SYN-ACK was read, up to the final ACK.
    pub repeated_syn_ack_ns: Vec<u64>,
    /// The first SYN-ACK (its options show e.g. a Fast Open cookie).
    pub syn_ack: Received,
}

impl Handshake {
    /// From the first SYN-ACK to the final ACK, in ns: how long the kernel's request was half open.
    #[must_use]
    pub fn half_open_ns(&self) -> u64 {
        self.ack_sent_ns - self.syn_ack_ns
    }

    /// Between what lengths (ns, least and most) the kernel's half-open time must lie, however late threads
    /// were woken or a virtual CPU was taken away.
    #[must_use]
    pub fn half_open_bounds_ns(&self) -> (u64, u64) {
        (self.half_open_ns(), self.ack_done_ns - self.syn_sent_ns)
    }

    /// How many SYN-ACKs came after the first.
    #[must_use]
    pub fn retransmitted_syn_acks(&self) -> usize {
        self.repeated_syn_ack_ns.len()
    }
}

impl Conn {
    /// SYN, SYN-ACK, ACK at once.
    ///
    /// # Errors
    /// As [`Conn::handshake_with`].
    pub fn handshake(&mut self) -> io::Result<Handshake> {
        self.handshake_with(&HandshakePlan::default())
    }

    /// The final ACK comes exactly `delay` after the first SYN-ACK (off by well under 0.5 ms).
    ///
    /// # Errors
    /// As [`Conn::handshake_with`].
    pub fn handshake_with_delay(&mut self, delay: Duration) -> io::Result<Handshake> {
        self.handshake_with(&HandshakePlan { ack_after: delay, ..HandshakePlan::default() })
    }

    /// A handshake by `plan`. The first SYN-ACK is awaited for [`PATIENCE`].
    ///
    /// # Errors
    /// `TimedOut` without a SYN-ACK; `ConnectionReset` when the kernel refuses; what the TUN device says.
    pub fn handshake_with(&mut self, plan: &HandshakePlan) -> io::Result<Handshake> {
        let _urgent = urgent();
        let syn_sent_ns = self.send_syn()?;
        let syn_ack = self.expect_syn_ack(PATIENCE)?;
        let syn_ack_ns = syn_ack.time_ns;
        let mut repeated_syn_ack_ns = Vec::new();
        if let Some(after) = plan.repeat_syn_after {
            self.ignore_until(syn_ack_ns + as_ns(after), &mut repeated_syn_ack_ns)?;
            self.send_syn()?;
        }
        self.ignore_until(syn_ack_ns + as_ns(plan.ack_after), &mut repeated_syn_ack_ns)?;
        let ack_sent_ns = self.send_ack()?;
        let ack_done_ns = monotonic_ns();
        Ok(Handshake { syn_sent_ns, syn_ack_ns, ack_sent_ns, ack_done_ns, repeated_syn_ack_ns, syn_ack })
    }

    /// Takes in, but does not answer, what comes before the deadline; returns at the deadline.
    fn ignore_until(&mut self, deadline_ns: u64, syn_acks: &mut Vec<u64>) -> io::Result<()> {
        while let Some(received) = self.recv_until(deadline_ns.saturating_sub(SPIN_NS)) {
            if received.segment.flags.contains(Flags::RST) {
                let text = format!("{}: the kernel reset the half-open connection", self.remote());
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, text));
            }
            if received.segment.flags.contains(Flags::SYN_ACK) {
                syn_acks.push(received.time_ns);
            }
        }
        sleep_until(deadline_ns);
        Ok(())
    }

    /// Takes in, but does not answer, all that comes within `duration`; returns it.
    pub fn stay_silent(&mut self, duration: Duration) -> Vec<Received> {
        let deadline_ns = monotonic_ns().saturating_add(as_ns(duration));
        std::iter::from_fn(|| self.recv_until(deadline_ns)).collect()
    }
}

//! Many clients at once that do not answer: a bounded SYN flood.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use super::conn::{Conn, ConnOptions};
use super::{PATIENCE, Peer};
use crate::clock::{as_ns, monotonic_ns};
use crate::packet::Flags;

/// The most clients of one flood.
const MOST: usize = 1_000;

/// Clients that have each sent a SYN and now say nothing, unless told to.
#[derive(Debug)]
pub struct Flood {
    /// The clients, in the order of their SYNs.
    pub clients: Vec<Conn>,
    /// Just before the first SYN, and after the last was handed to the kernel, in `CLOCK_MONOTONIC` ns.
    pub sent_ns: (u64, u64),
}

/// `count` clients of the network 198.18.`third`.0/24, from 198.18.`third`.1 on.
///
/// # Panics
/// For more clients than such a network has.
pub fn clients_of(third: u8, count: u8) -> impl Iterator<Item = SocketAddr> {
    assert!(count < u8::MAX, "the last address is the network's broadcast");
    (1..=count).map(move |fourth| SocketAddr::from(([198, 18, third, fourth], 4_000)))
}

impl Peer {
    /// Sends a SYN from each of `clients` to the kernel's `server`.
    ///
    /// # Errors
    /// `InvalidInput` for more than 1,000 clients; what the TUN device says.
    pub fn flood(&self, server: SocketAddr, clients: impl Iterator<Item = SocketAddr>) -> io::Result<Flood> {
        let clients: Vec<_> = clients.take(MOST + 1).collect();
        if clients.len() > MOST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a flood has at most 1,000 clients"));
        }
        let from_ns = monotonic_ns();
        let clients = clients.into_iter().map(|client| {
            let mut conn = self.connect_from(client, server, ConnOptions::default());
            conn.send_syn().map(|_| conn)
        });
        let clients = clients.collect::<io::Result<_>>()?;
        Ok(Flood { clients, sent_ns: (from_ns, monotonic_ns()) })
    }
}

impl Flood {
    /// Gives the kernel `timeout` for its SYN-ACKs; whether each client got (at least) one.
    pub fn answered(&mut self, timeout: Duration) -> Vec<bool> {
        let deadline_ns = monotonic_ns().saturating_add(as_ns(timeout));
        let got_one = |client: &mut Conn| loop {
            match client.recv_until(deadline_ns) {
                Some(received) if received.segment.flags.contains(Flags::SYN_ACK) => return true,
                Some(_) => {}
                None => return false,
            }
        };
        self.clients.iter_mut().map(got_one).collect()
    }

    /// The clients with these indices send their final ACK.
    ///
    /// # Errors
    /// `TimedOut` if one of them is never answered; what the TUN device says.
    pub fn complete(&mut self, which: Range<usize>) -> io::Result<()> {
        self.each(which, Conn::send_ack)
    }

    /// The clients with these indices reset their half-open connections.
    ///
    /// # Errors
    /// As [`Flood::complete`].
    pub fn reset(&mut self, which: Range<usize>) -> io::Result<()> {
        self.each(which, Conn::send_rst)
    }

    fn each(&mut self, which: Range<usize>, send: fn(&mut Conn) -> io::Result<u64>) -> io::Result<()> {
        for client in &mut self.clients[which] {
            if !client.is_answered() {
                client.expect_syn_ack(PATIENCE)?;
            }
            send(client)?;
        }
        Ok(())
    }
}

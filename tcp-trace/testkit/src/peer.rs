//! The hand-made TCP peer: every address of a TUN device's prefixes, with exact control over each
//! segment and its moment.
//!
//! Nothing is answered by itself: a SYN to an address nobody listens on meets silence (a black hole),
//! and what the kernel sends is acknowledged only when the test says so.

mod closing;
mod conn;
mod flood;
mod handshake;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

pub use conn::{Conn, ConnOptions};
pub use flood::{Flood, clients_of};
pub use handshake::{Handshake, HandshakePlan};
pub use wire::Received;
use wire::Wire;

use crate::tun::Tun;

/// How long the shortcuts without a timeout argument wait: 5 s, well above any loopback delay.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The peer on one TUN device. Dropping it closes the device when its connections are gone as well.
#[derive(Debug)]
pub struct Peer {
    wire: Arc<Wire>,
    stop: Arc<OwnedFd>,
    reader: Option<JoinHandle<()>>,
}

impl Peer {
    /// Starts the thread that takes, times and sorts what the kernel sends.
    ///
    /// # Errors
    /// When no thread or eventfd can be made.
    pub fn new(tun: Tun) -> io::Result<Self> {
        let wire = Arc::new(Wire::new(tun));
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (its_wire, its_stop) = (Arc::clone(&wire), Arc::clone(&stop));
        let reader = std::thread::Builder::new()
            .name("tun-reader".into())
            .spawn(move || its_wire.read_until(&its_stop))?;
        Ok(Self { wire, stop, reader: Some(reader) })
    }

    /// A client `local` (an address of the TUN device's prefixes, not the kernel's own) of the kernel
    /// socket `remote`. Sends nothing yet.
    #[must_use]
    pub fn connect_from(&self, local: SocketAddr, remote: SocketAddr, options: ConnOptions) -> Conn {
        self.wire.register((local, remote));
        Conn::client(Arc::clone(&self.wire), local, remote, options)
    }

    /// Takes SYNs of kernel clients to `local`. Nothing is answered until the test does.
    #[must_use]
    pub fn listen(&self, local: SocketAddr) -> PeerListener {
        self.wire.listen(local);
        PeerListener { wire: Arc::clone(&self.wire), local }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Only fails at 2^64 - 1 earlier writes.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// An address on which the peer takes SYNs of kernel clients.
#[derive(Debug)]
pub struct PeerListener {
    wire: Arc<Wire>,
    local: SocketAddr,
}

impl PeerListener {
    /// Waits for a SYN and returns the connection it opens: answer with [`Conn::send_syn_ack`], refuse
    /// with [`Conn::send_rst`], cross it with [`Conn::send_syn`] (simultaneous open), or leave it
    /// unanswered (a black hole).
    ///
    /// # Errors
    /// `TimedOut` when no SYN comes.
    pub fn next_syn(&self, options: ConnOptions, timeout: Duration) -> io::Result<Conn> {
        let syn = self.wire.next_syn(self.local, timeout)?;
        Ok(Conn::server(Arc::clone(&self.wire), &syn, options))
    }

    /// Takes the next connection through its whole handshake.
    ///
    /// # Errors
    /// `TimedOut` when the SYN or the final ACK does not come; what the TUN device says.
    pub fn accept(&self, options: ConnOptions, timeout: Duration) -> io::Result<Conn> {
        let mut conn = self.next_syn(options, timeout)?;
        conn.send_syn_ack()?;
        conn.expect_all_acked(timeout)?;
        Ok(conn)
    }
}

impl Drop for PeerListener {
    fn drop(&mut self) {
        self.wire.stop_listening(self.local);
    }
}

//! The orders in which a connection can end, seen from the peer. Each waits at most `timeout` for
//! each segment of the kernel.

use std::io;
use std::time::Duration;

use super::conn::Conn;
use super::wire::Received;
use crate::packet::Flags;

impl Conn {
    /// The peer closes first, part one: FIN, awaits its ACK. The kernel socket is in CLOSE_WAIT after it,
    /// until its owner closes; go on with [`Conn::finish_close`].
    ///
    /// # Errors
    /// As [`Conn::expect`]; what the TUN device says.
    pub fn close_first(&mut self, timeout: Duration) -> io::Result<u64> {
        let sent_ns = self.send_fin()?;
        self.expect_all_acked(timeout)?;
        Ok(sent_ns)
    }

    /// The peer closes first, part two: awaits the kernel's FIN and acknowledges it (LAST_ACK to CLOSE).
    ///
    /// # Errors
    /// As [`Conn::expect`]; what the TUN device says.
    pub fn finish_close(&mut self, timeout: Duration) -> io::Result<Received> {
        let fin = self.expect(Flags::FIN, timeout)?;
        self.ack_received()?;
        Ok(fin)
    }

    /// The kernel closes first: awaits its FIN, acknowledges it (FIN_WAIT2), sends its own (TIME_WAIT) and
    /// awaits the last ACK.
    ///
    /// # Errors
    /// As [`Conn::expect`]; what the TUN device says.
    pub fn close_after_kernel(&mut self, timeout: Duration) -> io::Result<Received> {
        let fin = self.ack_fin_only(timeout)?;
        self.send_fin()?;
        self.expect_all_acked(timeout)?;
        Ok(fin)
    }

    /// The kernel closes first and the peer never does: awaits its FIN and only acknowledges it. The kernel
    /// stays in FIN_WAIT2 (an orphan for `tcp_fin_timeout` s).
    ///
    /// # Errors
    /// As [`Conn::expect`]; what the TUN device says.
    pub fn ack_fin_only(&mut self, timeout: Duration) -> io::Result<Received> {
        let fin = self.expect(Flags::FIN, timeout)?;
        self.ack_received()?;
        Ok(fin)
    }

    /// Both close at once: awaits the kernel's FIN and sends one that does not acknowledge it. The kernel is
    /// in CLOSING after it; [`Conn::ack_received`] then lets it go on to TIME_WAIT.
    ///
    /// # Errors
    /// As [`Conn::expect`]; what the TUN device says.
    pub fn close_simultaneously(&mut self, timeout: Duration) -> io::Result<Received> {
        let fin = self.expect(Flags::FIN, timeout)?;
        self.send_fin_crossing(&fin.segment)?;
        self.expect_all_acked(timeout)?;
        Ok(fin)
    }
}

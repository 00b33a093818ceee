//! What a router says of a segment that it cannot deliver.

use std::io;
use std::net::{IpAddr, SocketAddr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, PacketBuilder};

use super::{HOP_LIMIT, Segment};

/// An IPv4 header and the 8 bytes of TCP that RFC 792 has quoted.
const QUOTED: usize = 20 + 8;

impl Segment {
    /// The ICMP packet `from` somewhere on the way to this segment's sender: its receiver is unreachable.
    ///
    /// # Errors
    /// `InvalidInput` for IPv6.
    pub(crate) fn unreachable(&self, from: SocketAddr) -> io::Result<Vec<u8>> {
        let (IpAddr::V4(router), IpAddr::V4(sender)) = (from.ip(), self.src.ip()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "ICMPv6 is not made here"));
        };
        let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
        let mut packet = Vec::new();
        PacketBuilder::ipv4(router.octets(), sender.octets(), HOP_LIMIT)
            .icmpv4(kind)
            .write(&mut packet, &self.to_bytes()?[..QUOTED])
            .map_err(io::Error::other)?;
        Ok(packet)
    }
}

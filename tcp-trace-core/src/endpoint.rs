//! One end of a connection.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// An address and a port, in host order. Port 0 is one that is not chosen yet, or a peer that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// v4-mapped addresses are IPv4 here.
    pub address: IpAddr,
    /// 0 where there is none.
    pub port: u16,
}

/// What a socket and its peer speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, also over a dual-stack socket.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Endpoint {
    /// From the sixteen bytes that cross the kernel border (`tcp_trace_common::address`).
    #[inline(always)]
    #[must_use]
    pub fn from_wire(address: [u8; 16], port: u16) -> Self {
        let bits = u128::from_be_bytes(address);
        // `::ffff:a.b.c.d`.
        let address = match (bits >> 32, bits as u32) {
            (0xffff, v4) => IpAddr::V4(Ipv4Addr::from_bits(v4)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        Self { address, port }
    }

    /// Whether this end is known: it has a port.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.port != 0
    }

    /// The sixteen bytes of [`Self::from_wire`].
    #[must_use]
    pub fn wire_address(&self) -> [u8; 16] {
        match self.address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }
}

/// In one or three words, where the derived one would go byte by byte.
impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.address {
            IpAddr::V4(v4) => state.write_u64(u64::from(v4.to_bits()) << 16 | u64::from(self.port)),
            IpAddr::V6(v6) => {
                state.write_u128(v6.to_bits());
                state.write_u16(self.port);
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&SocketAddr::new(self.address, self.port).to_string())
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Endpoint", 2)?;
        let known = self.is_known() || !self.address.is_unspecified();
        fields.serialize_field("address", &known.then_some(self.address))?;
        fields.serialize_field("port", &(self.port != 0).then_some(self.port))?;
        fields.end()
    }
}

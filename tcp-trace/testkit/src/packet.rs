//! TCP segments in IPv4 or IPv6 packets, to bytes and back.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::BitOr;

use etherparse::{
    IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket, TcpHeader, TcpSlice,
    TransportSlice,
};

const HOP_LIMIT: u8 = 64;

/// TCP header flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The sender has no more data.
    pub const FIN: Self = Self(0x01);
    /// Opens a connection.
    pub const SYN: Self = Self(0x02);
    /// Aborts a connection.
    pub const RST: Self = Self(0x04);
    /// Deliver at once.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// `SYN | ACK`.
    pub const SYN_ACK: Self = Self(Self::SYN.0 | Self::ACK.0);
    /// `FIN | ACK`.
    pub const FIN_ACK: Self = Self(Self::FIN.0 | Self::ACK.0);
    /// `RST | ACK`.
    pub const RST_ACK: Self = Self(Self::RST.0 | Self::ACK.0);

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::SYN, "SYN"),
            (Self::FIN, "FIN"),
            (Self::RST, "RST"),
            (Self::PSH, "PSH"),
            (Self::ACK, "ACK"),
            (Self::URG, "URG"),
        ];
        let set: Vec<&str> =
            names.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name).collect();
        f.write_str(if set.is_empty() { "none" } else { "" })?;
        f.write_str(&set.join("|"))
    }
}

/// The two values of the timestamps option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// `TSval`: the sender's clock.
    pub value: u32,
    /// `TSecr`: the last `TSval` seen from the other side.
    pub echo: u32,
}

/// The TCP options this library writes and reads; others are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Largest segment the sender takes, in bytes (SYN segments only).
    pub mss: Option<u16>,
    /// Selective acknowledgments are welcome (SYN segments only).
    pub sack_permitted: bool,
    /// The timestamps option.
    pub timestamps: Option<Timestamps>,
    /// Left shift of the sender's later windows, in bits (SYN segments only).
    pub window_scale: Option<u8>,
    /// TCP Fast Open: an empty cookie asks for one.
    pub fastopen: Option<Vec<u8>>,
}

mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const TIMESTAMPS: u8 = 8;
    pub(super) const FASTOPEN: u8 = 34;
}

impl TcpOptions {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |kind: u8, value: &[u8]| {
            bytes.extend([kind, value.len() as u8 + 2]);
            bytes.extend_from_slice(value);
        };
        if let Some(mss) = self.mss {
            put(kind::MSS, &mss.to_be_bytes());
        }
        if self.sack_permitted {
            put(kind::SACK_PERMITTED, &[]);
        }
        if let Some(Timestamps { value, echo }) = self.timestamps {
            put(kind::TIMESTAMPS, &((u64::from(value) << 32) | u64::from(echo)).to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            put(kind::WINDOW_SCALE, &[shift]);
        }
        if let Some(cookie) = &self.fastopen {
            put(kind::FASTOPEN, cookie);
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while let [kind, rest @ ..] = bytes {
            match *kind {
                kind::END => break,
                kind::NOP => bytes = rest,
                kind => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length).checked_sub(2)?)?;
                    options.take(kind, value)?;
                    bytes = rest;
                }
            }
        }
        Some(options)
    }

    fn take(&mut self, kind: u8, value: &[u8]) -> Option<()> {
        match kind {
            kind::MSS => self.mss = Some(u16::from_be_bytes(value.try_into().ok()?)),
            kind::WINDOW_SCALE => self.window_scale = Some(*value.first()?),
            kind::SACK_PERMITTED => self.sack_permitted = true,
            kind::TIMESTAMPS => {
                let (value, echo) = value.split_at_checked(4)?;
                self.timestamps = Some(Timestamps {
                    value: u32::from_be_bytes(value.try_into().ok()?),
                    echo: u32::from_be_bytes(echo.try_into().ok()?),
                });
            }
            kind::FASTOPEN => self.fastopen = Some(value.to_vec()),
            _ => {}
        }
        Some(())
    }
}

/// Why bytes are no TCP segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Cut short, or a header contradicts itself.
    #[error("malformed packet: {0}")]
    Malformed(String),
    /// Well-formed IP that carries something else (ICMP, UDP, a fragment).
    #[error("not TCP")]
    NotTcp,
    /// The TCP checksum is wrong.
    #[error("TCP checksum is {found:#06x}, should be {expected:#06x}")]
    Checksum {
        /// What the header says.
        found: u16,
        /// What it should say.
        expected: u16,
    },
}

/// One TCP segment with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver; of the same IP version as `src`.
    pub dst: SocketAddr,
    /// Sequence number of the first byte (or of the SYN).
    pub seq: u32,
    /// The next byte awaited; counts only with [`Flags::ACK`].
    pub ack: u32,
    /// The flags.
    pub flags: Flags,
    /// Receive window, unscaled.
    pub window: u16,
    /// The options.
    pub options: TcpOptions,
    /// The data.
    pub payload: Vec<u8>,
}

impl Segment {
    /// Sequence numbers the segment uses up: data bytes, plus one each for SYN and FIN.
    #[must_use]
    pub fn sequence_len(&self) -> u32 {
        let flags = u32::from(self.flags.contains(Flags::SYN)) + u32::from(self.flags.contains(Flags::FIN));
        self.payload.len() as u32 + flags
    }

    /// The IP packet, checksums filled in.
    ///
    /// # Errors
    /// `InvalidInput` when the addresses are of two IP versions, or options or data are too long.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let mut tcp = self.tcp_header().map_err(invalid)?;
        let length = tcp.header_len() + self.payload.len();
        let length = u16::try_from(length).map_err(|error| invalid(error.to_string()))?;
        let mut bytes = Vec::with_capacity(usize::from(length) + Ipv6Header::LEN);
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let ip = Ipv4Header::new(length, HOP_LIMIT, IpNumber::TCP, src.octets(), dst.octets());
                let ip = ip.map_err(|error| invalid(error.to_string()))?;
                tcp.checksum =
                    tcp.calc_checksum_ipv4(&ip, &self.payload).map_err(|e| invalid(e.to_string()))?;
                ip.write(&mut bytes)?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let ip = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: length,
                    next_header: IpNumber::TCP,
                    hop_limit: HOP_LIMIT,
                    source: src.octets(),
                    destination: dst.octets(),
                };
                tcp.checksum =
                    tcp.calc_checksum_ipv6(&ip, &self.payload).map_err(|e| invalid(e.to_string()))?;
                ip.write(&mut bytes)?;
            }
            (src, dst) => return Err(invalid(format!("{src} and {dst} are of two IP versions"))),
        }
        tcp.write(&mut bytes)?;
        bytes.extend_from_slice(&self.payload);
        Ok(bytes)
    }

    fn tcp_header(&self) -> Result<TcpHeader, String> {
        let mut tcp = TcpHeader::new(self.src.port(), self.dst.port(), self.seq, self.window);
        tcp.acknowledgment_number = self.ack;
        tcp.fin = self.flags.contains(Flags::FIN);
        tcp.syn = self.flags.contains(Flags::SYN);
        tcp.rst = self.flags.contains(Flags::RST);
        tcp.psh = self.flags.contains(Flags::PSH);
        tcp.ack = self.flags.contains(Flags::ACK);
        tcp.urg = self.flags.contains(Flags::URG);
        tcp.set_options_raw(&self.options.encode()).map_err(|error| error.to_string())?;
        Ok(tcp)
    }

    /// Reads an IP packet; the TCP checksum is checked.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let malformed = |error: &dyn fmt::Display| ParseError::Malformed(error.to_string());
        let sliced = SlicedPacket::from_ip(packet).map_err(|error| malformed(&error))?;
        let (Some(net), Some(TransportSlice::Tcp(tcp))) = (sliced.net, sliced.transport) else {
            return Err(ParseError::NotTcp);
        };
        let (src, dst, expected): (IpAddr, IpAddr, _) = match net {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                let sum = tcp.calc_checksum_ipv4(header.source(), header.destination());
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    sum.map_err(|e| malformed(&e))?,
                )
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let sum = tcp.calc_checksum_ipv6(header.source(), header.destination());
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    sum.map_err(|e| malformed(&e))?,
                )
            }
            NetSlice::Arp(_) => return Err(ParseError::NotTcp),
        };
        if tcp.checksum() != expected {
            return Err(ParseError::Checksum { found: tcp.checksum(), expected });
        }
        let options = TcpOptions::decode(tcp.options()).ok_or_else(|| malformed(&"TCP options"))?;
        Ok(Self {
            src: SocketAddr::new(src, tcp.source_port()),
            dst: SocketAddr::new(dst, tcp.destination_port()),
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: flags_of(&tcp),
            window: tcp.window_size(),
            options,
            payload: tcp.payload().to_vec(),
        })
    }
}

fn flags_of(tcp: &TcpSlice<'_>) -> Flags {
    let set = [
        (tcp.fin(), Flags::FIN),
        (tcp.syn(), Flags::SYN),
        (tcp.rst(), Flags::RST),
        (tcp.psh(), Flags::PSH),
        (tcp.ack(), Flags::ACK),
        (tcp.urg(), Flags::URG),
    ];
    set.into_iter().filter(|(on, _)| *on).fold(Flags::NONE, |all, (_, flag)| all | flag)
}

mod icmp;
#[cfg(test)]
mod tests;

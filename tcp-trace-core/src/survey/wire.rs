//! Rows ⇄ bytes of a record: little-endian, fixed size, as recordings store them.

use std::num::NonZeroU64;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian as le};

use super::{Holder, RequestRow, SocketRow, TcpInfo, Timer};
use crate::{endpoint::Endpoint, state::TcpState, time::Timestamp};

/// A [`SocketRow`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct SocketWire {
    cookie: le::U64,
    cgroup_id: le::U64,
    bytes_acked: le::U64,
    bytes_received: le::U64,
    local_addr: [u8; 16],
    peer_addr: [u8; 16],
    local_port: le::U16,
    peer_port: le::U16,
    family: le::U16,
    state: u8,
    timer: u8,
    netns: le::U32,
    inode: le::U32,
    uid: le::U32,
    receive_queue: le::U32,
    send_queue: le::U32,
    expires_ms: le::U32,
    last_data_sent_ms: le::U32,
    last_data_received_ms: le::U32,
    last_ack_received_ms: le::U32,
    srtt_us: le::U32,
    total_retrans: le::U32,
    segments_in: le::U32,
    data_segments_in: le::U32,
    data_segments_out: le::U32,
    retransmits: u8,
    has_info: u8,
    has_cgroup: u8,
    reserved: u8,
}

/// A [`Holder`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct HolderWire {
    inode: le::U32,
    pid: le::U32,
    fd: le::U32,
}

/// A [`RequestRow`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RequestWire {
    cookie: le::U64,
    queued_ns: le::U64,
    local_addr: [u8; 16],
    peer_addr: [u8; 16],
    local_port: le::U16,
    peer_port: le::U16,
    family: le::U16,
    reserved: le::U16,
}

/// Rows of sockets, and when they had been read, as the bytes of a `SOCKETS` record.
#[must_use]
pub fn encode_sockets(time: Timestamp, rows: &[SocketRow]) -> Vec<u8> {
    let mut bytes = time.0.to_le_bytes().to_vec();
    bytes.extend(concatenated(rows.iter().map(socket_wire)));
    bytes
}

/// The inverse of [`encode_sockets`]; `None` if the bytes cannot have come from there.
#[must_use]
pub fn decode_sockets(bytes: &[u8]) -> Option<(Timestamp, Vec<SocketRow>)> {
    let (time, rows) = bytes.split_first_chunk()?;
    let rows: Option<Vec<_>> = <[SocketWire]>::ref_from_bytes(rows).ok()?.iter().map(socket_row).collect();
    Some((Timestamp(u64::from_le_bytes(*time)), rows?))
}

/// Holders as the bytes of a `HOLDERS` record.
#[must_use]
pub fn encode_holders(holders: &[Holder]) -> Vec<u8> {
    let wire = |h: &Holder| HolderWire { inode: h.inode.into(), pid: h.pid.into(), fd: h.fd.into() };
    concatenated(holders.iter().map(wire))
}

/// The inverse of [`encode_holders`]; `None` if the bytes cannot have come from there.
#[must_use]
pub fn decode_holders(bytes: &[u8]) -> Option<Vec<Holder>> {
    let holder = |w: &HolderWire| Holder { inode: w.inode.get(), pid: w.pid.get(), fd: w.fd.get() };
    Some(<[HolderWire]>::ref_from_bytes(bytes).ok()?.iter().map(holder).collect())
}

/// Requests as the bytes of a `REQUESTS` record.
#[must_use]
pub fn encode_requests(rows: &[RequestRow]) -> Vec<u8> {
    let wire = |row: &RequestRow| RequestWire {
        cookie: row.cookie.get().into(),
        queued_ns: row.queued.0.into(),
        local_addr: row.local.wire_address(),
        peer_addr: row.peer.wire_address(),
        local_port: row.local.port.into(),
        peer_port: row.peer.port.into(),
        family: row.family.into(),
        reserved: le::U16::ZERO,
    };
    concatenated(rows.iter().map(wire))
}

/// The inverse of [`encode_requests`]; `None` if the bytes cannot have come from there.
#[must_use]
pub fn decode_requests(bytes: &[u8]) -> Option<Vec<RequestRow>> {
    let row = |wire: &RequestWire| {
        Some(RequestRow {
            cookie: NonZeroU64::new(wire.cookie.get())?,
            queued: Timestamp(wire.queued_ns.get()),
            local: Endpoint::from_wire(wire.local_addr, wire.local_port.get()),
            peer: Endpoint::from_wire(wire.peer_addr, wire.peer_port.get()),
            family: wire.family.get(),
        })
    };
    <[RequestWire]>::ref_from_bytes(bytes).ok()?.iter().map(row).collect()
}

fn concatenated<T: IntoBytes + Immutable>(rows: impl ExactSizeIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * size_of::<T>());
    for row in rows {
        bytes.extend_from_slice(row.as_bytes());
    }
    bytes
}

fn socket_wire(row: &SocketRow) -> SocketWire {
    let mut wire = SocketWire {
        cookie: row.cookie.get().into(),
        cgroup_id: row.cgroup_id.unwrap_or(0).into(),
        has_cgroup: row.cgroup_id.is_some().into(),
        local_addr: row.local.wire_address(),
        peer_addr: row.peer.wire_address(),
        local_port: row.local.port.into(),
        peer_port: row.peer.port.into(),
        family: row.family.into(),
        state: row.state.number(),
        timer: row.timer.number(),
        netns: row.netns.into(),
        inode: row.inode.unwrap_or(0).into(),
        uid: row.uid.into(),
        receive_queue: row.receive_queue.into(),
        send_queue: row.send_queue.into(),
        expires_ms: row.expires_ms.into(),
        retransmits: row.retransmits,
        has_info: row.info.is_some().into(),
        ..SocketWire::default()
    };
    if let Some(info) = &row.info {
        wire.last_data_sent_ms = info.last_data_sent_ms.into();
        wire.last_data_received_ms = info.last_data_received_ms.into();
        wire.last_ack_received_ms = info.last_ack_received_ms.into();
        wire.srtt_us = info.srtt_us.into();
        wire.total_retrans = info.total_retrans.into();
        wire.bytes_acked = info.bytes_acked.into();
        wire.bytes_received = info.bytes_received.into();
        wire.segments_in = info.segments_in.into();
        wire.data_segments_in = info.data_segments_in.into();
        wire.data_segments_out = info.data_segments_out.into();
    }
    wire
}

fn socket_row(wire: &SocketWire) -> Option<SocketRow> {
    Some(SocketRow {
        netns: wire.netns.get(),
        cookie: NonZeroU64::new(wire.cookie.get())?,
        state: TcpState::from_number(wire.state),
        local: Endpoint::from_wire(wire.local_addr, wire.local_port.get()),
        peer: Endpoint::from_wire(wire.peer_addr, wire.peer_port.get()),
        family: wire.family.get(),
        inode: Some(wire.inode.get()).filter(|inode| *inode != 0),
        cgroup_id: (wire.has_cgroup != 0).then(|| wire.cgroup_id.get()),
        uid: wire.uid.get(),
        receive_queue: wire.receive_queue.get(),
        send_queue: wire.send_queue.get(),
        timer: Timer::from_number(wire.timer),
        retransmits: wire.retransmits,
        expires_ms: wire.expires_ms.get(),
        info: (wire.has_info != 0).then(|| TcpInfo {
            last_data_sent_ms: wire.last_data_sent_ms.get(),
            last_data_received_ms: wire.last_data_received_ms.get(),
            last_ack_received_ms: wire.last_ack_received_ms.get(),
            srtt_us: wire.srtt_us.get(),
            total_retrans: wire.total_retrans.get(),
            bytes_acked: wire.bytes_acked.get(),
            bytes_received: wire.bytes_received.get(),
            segments_in: wire.segments_in.get(),
            data_segments_in: wire.data_segments_in.get(),
            data_segments_out: wire.data_segments_out.get(),
        }),
    })
}

impl Timer {
    /// From the kernel's number.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Off,
            1 => Self::Retransmit,
            2 => Self::KeepAlive,
            3 => Self::TimeWait,
            4 => Self::ZeroWindow,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Retransmit => 1,
            Self::KeepAlive => 2,
            Self::TimeWait => 3,
            Self::ZeroWindow => 4,
            Self::Other(number) => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(info: Option<TcpInfo>) -> SocketRow {
        SocketRow {
            netns: 4_026_531_840,
            cookie: NonZeroU64::new(77).unwrap(),
            state: TcpState::CloseWait,
            local: Endpoint { address: "198.18.0.1".parse().unwrap(), port: 80 },
            peer: Endpoint { address: "2001:db8::7".parse().unwrap(), port: 4000 },
            family: 10,
            inode: Some(12),
            cgroup_id: Some(0),
            uid: 1000,
            receive_queue: 1,
            send_queue: 2,
            timer: Timer::KeepAlive,
            retransmits: 3,
            expires_ms: 4,
            info,
        }
    }

    #[test]
    fn rows_go_there_and_back() {
        let info = TcpInfo {
            last_data_sent_ms: 1,
            last_data_received_ms: 2,
            last_ack_received_ms: 3,
            srtt_us: 4,
            total_retrans: 5,
            bytes_acked: 6,
            bytes_received: u64::MAX,
            segments_in: 7,
            data_segments_in: 8,
            data_segments_out: 9,
        };
        let bare = SocketRow { inode: None, cgroup_id: None, timer: Timer::Other(9), ..row(None) };
        let rows = vec![row(Some(info)), bare];
        assert_eq!(decode_sockets(&encode_sockets(Timestamp(8), &rows)), Some((Timestamp(8), rows)));
        let holders = vec![Holder { inode: 1, pid: 2, fd: 3 }, Holder { inode: 4, pid: 5, fd: 6 }];
        assert_eq!(decode_holders(&encode_holders(&holders)), Some(holders));
        let request = RequestRow {
            cookie: NonZeroU64::new(5).unwrap(),
            queued: Timestamp(9),
            local: row(None).local,
            peer: row(None).peer,
            family: 2,
        };
        assert_eq!(decode_requests(&encode_requests(&[request])), Some(vec![request]));
    }

    #[test]
    fn other_bytes_are_no_rows() {
        assert_eq!(decode_sockets(&[1; 7]), None);
        assert_eq!(decode_sockets(&[0; 8 + size_of::<SocketWire>()]), None, "a cookie is never 0");
        assert_eq!(decode_holders(&[1; 13]), None);
        assert_eq!(decode_requests(&[0; size_of::<RequestWire>() - 1]), None);
        assert_eq!(decode_sockets(&[0; 8]), Some((Timestamp(0), Vec::new())));
    }
}

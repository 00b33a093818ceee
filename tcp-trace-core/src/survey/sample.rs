//! Rows for tests.

use std::num::NonZeroU64;

use super::{SocketRow, TcpInfo, Timer};
use crate::{endpoint::Endpoint, state::TcpState};

/// Nothing has happened.
pub(crate) const INFO: TcpInfo = TcpInfo {
    last_data_sent_ms: 0,
    last_data_received_ms: 0,
    last_ack_received_ms: 0,
    srtt_us: 0,
    total_retrans: 0,
    bytes_acked: 0,
    bytes_received: 0,
    segments_in: 0,
    data_segments_in: 0,
    data_segments_out: 0,
};

/// A socket in this state, with a descriptor and without anything else.
pub(crate) fn row(state: TcpState) -> SocketRow {
    SocketRow {
        netns: 1,
        cookie: NonZeroU64::MIN,
        state,
        local: Endpoint { address: "198.18.0.1".parse().unwrap(), port: 80 },
        peer: Endpoint { address: "198.18.7.1".parse().unwrap(), port: 4000 },
        family: 2,
        inode: Some(1),
        cgroup_id: None,
        uid: 0,
        receive_queue: 0,
        send_queue: 0,
        timer: Timer::Off,
        retransmits: 0,
        expires_ms: 0,
        info: None,
    }
}

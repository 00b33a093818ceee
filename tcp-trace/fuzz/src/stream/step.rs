//! What happens in a stream, made of bytes. There are few cookies, addresses, ports and processes, so that they meet.

use arbitrary::{Result, Unstructured};
use tcp_trace_common::{
    address::{AF_INET, AF_INET6},
    aggregate::AggregateRow,
    event::{RequestChange, SocketUse, StateChange, flags, kind as event_kind},
    state,
};
use tcp_trace_core::{
    endpoint::Endpoint,
    filter::FilterSpec,
    mode::{Mode, ModeChange, Reason},
    process::ProcessId,
    record::kind,
    stack::{Stack, StackFacts, StackKind, Trace},
    state::TcpState,
    survey::{
        Facts, Holder, ListenerFacts, NamespaceFacts, ProcessFacts, RequestRow, SocketCounters, SocketRow,
        SurveyBegin, SurveyEnd, TcpInfo, Timer, encode_holders, encode_requests, encode_sockets,
    },
    time::Timestamp,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::BASE;
use crate::records::KINDS;

/// What becomes of a transition.
pub(super) enum Fate {
    Delivered,
    Lost,
    Filtered,
    Unaggregated,
    Withheld,
}

/// One thing that happens.
pub(super) enum Step {
    Event(StateChange, Fate),
    Shown(StateChange),
    Row(AggregateRow),
    Miss,
    Record(u16, Vec<u8>),
    Reconfigure(bool, bool),
    Report,
}

impl Step {
    pub(super) fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u.arbitrary::<u8>()? % 32 {
            0..=11 => Self::Event(event(u)?, Fate::Delivered),
            12 => Self::Event(event(u)?, Fate::Lost),
            13 => Self::Event(event(u)?, Fate::Filtered),
            14 => Self::Event(event(u)?, Fate::Unaggregated),
            15 if u.ratio(1, 8)? => Self::Event(event(u)?, Fate::Withheld),
            15 => Self::Miss,
            16 | 17 => {
                let event = event(u)?;
                Self::Shown(StateChange { flags: event.flags | flags::AGGREGATED, ..event })
            }
            18 => Self::Row(row(u)?),
            19 => Self::Record(kind::EVENT, socket_use(u)?.as_bytes().to_vec()),
            20 => Self::Record(kind::EVENT, request_change(u)?.as_bytes().to_vec()),
            21 => Self::Record(
                kind::SURVEY_BEGIN,
                json(&SurveyBegin { time: time(u)?, scope: "all".to_owned() }),
            ),
            22 | 23 => Self::Record(kind::SOCKETS, encode_sockets(time(u)?, &[socket(u)?])),
            24 => Self::Record(kind::HOLDERS, encode_holders(&[holder(u)?])),
            25 => Self::Record(kind::REQUESTS, encode_requests(&[request(u)?])),
            26 => Self::Record(kind::FACTS, json(&facts(u)?)),
            27 => Self::Record(kind::SURVEY_END, json(&survey_end(u)?)),
            28 => Self::Record(kind::MODE, json(&mode(u)?)),
            29 => Self::Record(kind::STACKS, json(&stacks(u)?)),
            30 if u.ratio(1, 4)? => Self::any(u)?,
            30 => Self::Reconfigure(u.arbitrary()?, u.arbitrary()?),
            _ => Self::Report,
        })
    }

    /// A record of any bytes; those that only the tracker's own counting may write are left out.
    fn any(u: &mut Unstructured<'_>) -> Result<Self> {
        let kind = *u.choose(&KINDS[4..13])?;
        let length = u.int_in_range(0..=200)?;
        Ok(Self::Record(kind, u.bytes(length.min(u.len()))?.to_vec()))
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// Mostly in the order of the run; now and then the clock has made a step, or is at its end.
fn time(u: &mut Unstructured<'_>) -> Result<Timestamp> {
    let byte: u8 = u.arbitrary()?;
    Ok(Timestamp(match byte {
        0..=249 => BASE + u64::from(byte) * 7,
        250 => 0,
        251 => u64::MAX,
        252 => BASE + 3_000_000_000,
        253 => BASE + 90_000_000_000,
        _ => u.arbitrary()?,
    }))
}

/// Half of them what kernels make, in the order of a life.
fn transition(u: &mut Unstructured<'_>) -> Result<(u8, u8)> {
    const REAL: [(u8, u8); 16] = [
        (7, 10),
        (10, 3),
        (3, 1),
        (7, 2),
        (2, 1),
        (1, 8),
        (1, 4),
        (8, 9),
        (9, 7),
        (4, 5),
        (5, 7),
        (4, 11),
        (11, 7),
        (2, 7),
        (10, 7),
        (5, 5),
    ];
    let byte: u8 = u.arbitrary()?;
    if byte < 240 {
        return Ok(REAL[usize::from(byte) % REAL.len()]);
    }
    Ok((u.int_in_range(0..=13)?, u.arbitrary()?))
}

fn endpoint(u: &mut Unstructured<'_>) -> Result<Endpoint> {
    const ADDRESSES: [[u8; 16]; 5] = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, 0, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        [0; 16],
        [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    let byte: u8 = u.arbitrary()?;
    Ok(Endpoint::from_wire(ADDRESSES[usize::from(byte >> 3) % ADDRESSES.len()], u16::from(byte & 7)))
}

fn event(u: &mut Unstructured<'_>) -> Result<StateChange> {
    let (old, new) = transition(u)?;
    let who: u8 = u.arbitrary()?;
    let (local, peer) = (endpoint(u)?, endpoint(u)?);
    let bits: u16 = u.arbitrary()?;
    let extreme = bits == u16::MAX;
    let small = |shift: u16| if extreme { u32::MAX } else { u32::from(bits >> shift & 3) };
    Ok(StateChange {
        kind: event_kind::STATE_CHANGE,
        old,
        new,
        flags: u32::from(bits) & !flags::AGGREGATED,
        time_ns: time(u)?.0,
        cookie: u64::from(who & 15),
        skaddr: u64::from(who >> 4 & 7),
        cgroup_id: u64::from(small(1)),
        process_start_ns: u64::from(small(2)) * 10_000_000,
        request_ns: if extreme { u64::MAX } else { BASE + u64::from(bits) },
        local_addr: local.wire_address(),
        peer_addr: peer.wire_address(),
        local_port: local.port,
        peer_port: peer.port,
        family: if bits & 16 == 0 { AF_INET } else { AF_INET6 },
        sk_err: [0, 104, 110, 111][usize::from(bits >> 9 & 3)],
        netns: small(3),
        tgid: u32::from(who >> 5) + 1,
        tid: 1,
        srtt_us: small(4),
        total_retrans: small(5),
        total_rto_time_ms: small(6),
        comm: if extreme { [0xff; 16] } else { *b"worker\x1b\n\0\0\0\0\0\0\0\0" },
        total_rto: bits >> 10 & 3,
        unread: small(7),
        bytes_received: if extreme { u64::MAX } else { u64::from(bits) },
        bytes_acked: u64::from(small(8)),
        ..StateChange::new_zeroed()
    })
}

fn row(u: &mut Unstructured<'_>) -> Result<AggregateRow> {
    let mut row = AggregateRow::new_zeroed();
    (row.key.old, row.key.new) = transition(u)?;
    let bits: u16 = u.arbitrary()?;
    row.key.bucket = u.int_in_range(0..=80)?;
    row.key.what = ((bits >> 12) as u8 % 9) | (bits & 0xc0) as u8;
    row.key.tgid = u32::from(bits & 3);
    row.key.process_start_ns = u64::from(bits >> 2 & 1) * 10_000_000;
    row.key.netns = u32::from(bits >> 3 & 3);
    row.key.cgroup_id = u64::from(bits >> 5 & 1);
    row.key.listener_port = bits >> 8 & 7;
    row.key.error = [0, 110, 111, u16::MAX][usize::from(bits >> 10 & 3)];
    row.count = if bits == u16::MAX { u64::from(u32::MAX) } else { u64::from(bits & 15) };
    Ok(row)
}

fn socket_use(u: &mut Unstructured<'_>) -> Result<SocketUse> {
    let who: u8 = u.arbitrary()?;
    Ok(SocketUse {
        kind: event_kind::SOCKET_USE,
        how: u16::from(who >> 6),
        time_ns: time(u)?.0,
        cookie: u64::from(who & 15),
        tgid: u32::from(who >> 4 & 3) + 1,
        tid: 1,
        process_start_ns: 10_000_000,
        comm: *b"reader\0\0\0\0\0\0\0\0\0\0",
        ..SocketUse::new_zeroed()
    })
}

fn request_change(u: &mut Unstructured<'_>) -> Result<RequestChange> {
    let (who, local, peer) = (u.arbitrary::<u8>()?, endpoint(u)?, endpoint(u)?);
    Ok(RequestChange {
        kind: event_kind::REQUEST_CHANGE,
        what: u16::from(who >> 6),
        netns: u32::from(who >> 4 & 3),
        time_ns: time(u)?.0,
        cookie: u64::from(who & 15),
        sent_ns: if who & 16 == 0 { 0 } else { BASE },
        local_addr: local.wire_address(),
        peer_addr: peer.wire_address(),
        local_port: local.port,
        peer_port: peer.port,
        family: if who & 32 == 0 { AF_INET } else { AF_INET6 },
        timeouts: u16::from(who & 3),
        accept_queue: u32::from(who >> 2),
        accept_limit: u32::from(who & 7),
        acked: u32::from(who & 1),
        ..RequestChange::new_zeroed()
    })
}

fn cookie(byte: u8) -> std::num::NonZeroU64 {
    std::num::NonZeroU64::MIN.saturating_add(u64::from(byte & 15))
}

fn socket(u: &mut Unstructured<'_>) -> Result<SocketRow> {
    let who: u8 = u.arbitrary()?;
    let bits: u16 = u.arbitrary()?;
    let extreme = bits == u16::MAX;
    let number = |value: u16| if extreme { u32::MAX } else { u32::from(value) };
    let info = TcpInfo {
        last_data_sent_ms: number(bits & 7),
        last_data_received_ms: number(bits & 3),
        last_ack_received_ms: number(bits & 15),
        srtt_us: number(bits & 1),
        total_retrans: number(bits & 1),
        bytes_acked: 1,
        bytes_received: if extreme { u64::MAX } else { 1 },
        segments_in: number(bits & 3),
        data_segments_in: number(bits & 1),
        data_segments_out: 0,
    };
    Ok(SocketRow {
        netns: u32::from(who >> 6),
        cookie: cookie(who),
        state: TcpState::from_number(u.int_in_range(0..=13)?),
        local: endpoint(u)?,
        peer: endpoint(u)?,
        family: if bits & 16 == 0 { AF_INET } else { AF_INET6 },
        inode: (bits & 32 != 0).then(|| u32::from(who & 15) + 1),
        cgroup_id: (bits & 64 != 0).then_some(1),
        uid: 0,
        receive_queue: number(bits >> 8 & 3),
        send_queue: number(bits >> 10 & 3),
        timer: Timer::from_number((bits >> 12) as u8 & 7),
        retransmits: (bits >> 13) as u8,
        expires_ms: number(bits & 0xff),
        info: (bits & 128 != 0).then_some(info),
    })
}

fn holder(u: &mut Unstructured<'_>) -> Result<Holder> {
    let byte: u8 = u.arbitrary()?;
    Ok(Holder {
        inode: u32::from(byte & 15) + 1,
        pid: u32::from(byte >> 4 & 3) + 1,
        fd: u32::from(byte >> 6),
    })
}

fn request(u: &mut Unstructured<'_>) -> Result<RequestRow> {
    let byte: u8 = u.arbitrary()?;
    Ok(RequestRow {
        cookie: cookie(byte),
        queued: time(u)?,
        local: endpoint(u)?,
        peer: endpoint(u)?,
        family: 2,
    })
}

fn facts(u: &mut Unstructured<'_>) -> Result<Facts> {
    let bits: u16 = u.arbitrary()?;
    let process = ProcessFacts {
        id: ProcessId::new(u32::from(bits & 3) + 1, (bits & 4 != 0).then_some(10_000_000)),
        comm: "worker".to_owned(),
        exe: None,
        cmdline: Vec::new(),
        uid: 0,
        user: None,
        nofile: (bits & 8 != 0).then_some(u64::from(bits >> 12)),
        fds: (bits & 16 != 0).then_some(u64::from(bits >> 10)),
        netns: None,
        cgroup: None,
        container: None,
    };
    let counters = SocketCounters { passive_opens: u64::from(bits >> 8), ..SocketCounters::default() };
    let namespace = NamespaceFacts {
        inum: u32::from(bits >> 5 & 3),
        name: None,
        port_range: Some((bits, u16::from(u.arbitrary::<u8>()?))),
        syncookies: Some(1),
        synack_retries: (bits & 1 != 0).then_some((bits >> 8) as u8),
        somaxconn: None,
        time_wait_reuse: None,
        counters: (bits & 128 != 0).then_some(counters),
    };
    let listener = ListenerFacts { cookie: cookie(bits as u8), drops: u32::from(bits >> 6) };
    Ok(Facts {
        processes: vec![process],
        cgroups: vec![(1, "/docker/x".to_owned(), None)],
        namespaces: vec![namespace],
        listeners: vec![listener],
    })
}

fn survey_end(u: &mut Unstructured<'_>) -> Result<SurveyEnd> {
    let bits: u8 = u.arbitrary()?;
    let all: Vec<u8> = (state::ESTABLISHED..=13).collect();
    Ok(SurveyEnd {
        time: time(u)?,
        states: if bits & 1 == 0 { all } else { vec![4, 5, 6, 8, 9, 10, 11, 12] },
        namespaces: (0..4).filter(|inum| bits >> inum & 2 != 0).collect(),
        holders: bits & 32 != 0,
        holders_complete: bits & 64 != 0,
        problems: Vec::new(),
    })
}

fn mode(u: &mut Unstructured<'_>) -> Result<ModeChange> {
    let mode = if u.arbitrary()? { Mode::Aggregate } else { Mode::Stream };
    Ok(ModeChange { time: time(u)?, mode, reason: Reason::Asked })
}

fn stacks(u: &mut Unstructured<'_>) -> Result<StackFacts> {
    let byte: u8 = u.arbitrary()?;
    let number = u32::from(byte >> 6);
    let trace = Trace { frames: Vec::new(), cut_off: None, interpreter: None };
    Ok(StackFacts {
        until: time(u)?,
        stacks: vec![Stack { number, trace }],
        opened: vec![(cookie(byte), time(u)?, StackKind::Accepted, number)],
        lost: u64::from(byte),
        omitted: 0,
    })
}

/// What a reader asks for beyond the recording's own filter.
pub(super) fn filter(u: &mut Unstructured<'_>) -> Result<FilterSpec> {
    let bits: u16 = u.arbitrary()?;
    let has = |bit: u16| bits & bit != 0;
    Ok(FilterSpec {
        pid: has(1).then(|| u32::from(bits >> 8 & 3) + 1),
        netns: has(2).then(|| u32::from(bits >> 10 & 3)),
        cgroup_ids: if has(4) { vec![1] } else { Vec::new() },
        ip_version: has(8).then(|| if has(16) { 4 } else { 6 }),
        local_ports: if has(32) { vec![bits >> 12 & 7] } else { Vec::new() },
        peer_ports: if has(64) { vec![bits >> 13] } else { Vec::new() },
    })
}

//! Transitions and finished connections.

use std::net::IpAddr;

use tcp_trace_core::{
    endpoint::{Endpoint, Family},
    process::{Owner, OwnerSource},
    report::{Closer, Ending, Obituary, Role, StateChange},
};

use super::super::{
    attributes::{Attributes, seconds},
    names,
};

pub(super) fn transition(change: &StateChange) -> Attributes {
    let mut attributes = Attributes::default();
    let ends = (&change.local, &change.peer);
    socket(&mut attributes, change.family, ends, change.cookie, change.netns, change.cgroup_id);
    attributes.text(names::STATE, change.new.otel_name());
    attributes.text(names::OLD_STATE, change.old.otel_name());
    attributes.seconds(names::IN_STATE, change.duration_ns);
    owner(&mut attributes, change.owner);
    attributes
}

pub(super) fn closed(obituary: &Obituary) -> Attributes {
    let mut attributes = Attributes::default();
    let ends = (&obituary.local, &obituary.peer);
    socket(&mut attributes, obituary.family, ends, obituary.cookie, obituary.netns, obituary.cgroup_id);
    let Obituary { local, peer, role, .. } = obituary;
    match role {
        Some(Role::Client) => sides(&mut attributes, local, peer),
        Some(Role::Server) => sides(&mut attributes, peer, local),
        None => {}
    }
    owner(&mut attributes, obituary.owner);
    attributes.maybe_count("tcp.opener.pid", obituary.opened_by.map(|owner| owner.process.pid));
    let opened_at = obituary.opened_at.as_ref();
    attributes.maybe_text("tcp.connection.opened_at", opened_at.map(|opened| opened.text(STACK)));
    attributes.maybe_text("tcp.connection.role", role.map(Role::name));
    attributes.maybe_text("tcp.connection.closer", obituary.closer.map(Closer::name));
    attributes.maybe_text("tcp.connection.ending", obituary.ending.map(Ending::name));
    attributes.maybe_text(names::ERROR, obituary.ending.filter(|ending| is_error(*ending)).map(Ending::name));
    attributes.seconds("tcp.connection.duration", obituary.duration_ns);
    attributes.seconds("tcp.connect.duration", obituary.connect_ns);
    attributes.seconds("tcp.half_open.duration", obituary.half_open_ns);
    attributes.maybe_text("tcp.half_open.source", obituary.half_open_source);
    for (state, ns) in &obituary.states {
        attributes.real(format!("tcp.time_in_state.{}", state.otel_name()), seconds(*ns));
    }
    attributes.maybe_count("tcp.bytes.sent", obituary.bytes_sent);
    attributes.maybe_count("tcp.bytes.received", obituary.bytes_received);
    attributes.maybe_count("tcp.bytes.unread", obituary.unread_bytes);
    attributes.maybe_count("tcp.retransmits", obituary.retransmits);
    attributes.seconds("tcp.rtt.smoothed", obituary.srtt_us.map(|us| u64::from(us) * 1000));
    attributes.flag("tcp.connection.complete", obituary.complete);
    attributes
}

/// Functions of a stack that are told.
const STACK: usize = 8;

fn is_error(ending: Ending) -> bool {
    !matches!(ending, Ending::Closed | Ending::TimeWait | Ending::Orphaned)
}

fn sides(attributes: &mut Attributes, client: &Endpoint, server: &Endpoint) {
    attributes.endpoint(names::CLIENT, client);
    attributes.endpoint(names::SERVER, server);
}

fn socket(
    attributes: &mut Attributes,
    family: Family,
    (local, peer): (&Endpoint, &Endpoint),
    cookie: Option<u64>,
    netns: Option<u32>,
    cgroup_id: Option<u64>,
) {
    attributes.text(names::TRANSPORT, "tcp");
    let kind = match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    attributes.text(names::NETWORK_TYPE, kind);
    attributes.endpoint(names::LOCAL, local);
    attributes.endpoint(names::PEER, peer);
    // An identifier: as a text it survives whoever has no 64-bit integers.
    attributes.maybe_text(names::COOKIE, cookie.map(|cookie| cookie.to_string()));
    attributes.maybe_count(names::NETNS, netns);
    attributes.maybe_count(names::CGROUP_ID, cgroup_id);
}

pub(super) fn network_type(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

fn owner(attributes: &mut Attributes, owner: Option<Owner>) {
    attributes.maybe_count(names::PID, owner.map(|owner| owner.process.pid));
    attributes.maybe_text(names::COMM, owner.and_then(|owner| owner.comm).map(|comm| comm.to_string()));
    attributes.text(names::OWNER_SOURCE, source(owner.map_or(OwnerSource::Unknown, |owner| owner.source)));
}

fn source(source: OwnerSource) -> &'static str {
    match source {
        OwnerSource::Unknown => "unknown",
        OwnerSource::Listen => "listen",
        OwnerSource::Fd => "fd",
        OwnerSource::Connect => "connect",
        OwnerSource::Accept => "accept",
        OwnerSource::Task => "task",
    }
}

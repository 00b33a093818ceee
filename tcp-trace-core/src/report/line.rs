//! State changes as JSON Lines, fast: the very bytes that `serde_json` makes of them, at a fifth of the cost.
//!
//! What repeats from line to line is kept: the text of the second, and of the containers. The order and the names of
//! the fields are those of `StateChange`'s `Serialize`, against which `tests` holds every line.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use super::{StateChange, change::EVENT_NAME};
use crate::{
    endpoint::{Endpoint, Family},
    process::{Comm, Owner, OwnerSource},
    state::TcpState,
    survey::ContainerFacts,
    time::WallTime,
};

/// Containers whose text is kept.
const CONTAINERS: usize = 16;

/// Writes state changes.
#[derive(Debug, Default)]
pub struct LineWriter {
    clock: Clock,
    containers: [Option<Rendered>; CONTAINERS],
}

/// A container and its JSON. Holding it keeps its address from being used for another one.
#[derive(Debug)]
struct Rendered {
    container: Arc<ContainerFacts>,
    json: Vec<u8>,
}

/// Formats wall-clock times as `WallTime` serialises.
#[derive(Debug, Default)]
struct Clock {
    second: u64,
    /// `2026-11-22T12:32:50.`; empty before the first time.
    text: Vec<u8>,
}

impl LineWriter {
    /// Appends a state change and a newline.
    pub fn write(&mut self, out: &mut Vec<u8>, change: &StateChange) {
        let StateChange {
            at: _,
            time,
            old,
            new,
            duration_ns,
            local,
            peer,
            family,
            cookie,
            skaddr: _,
            netns,
            cgroup_id,
            owner,
            container,
        } = change;
        out.extend_from_slice(b"{\"time\":\"");
        self.clock.write(out, *time);
        out.extend_from_slice(b"\",\"event\":\"");
        out.extend_from_slice(EVENT_NAME.as_bytes());
        out.extend_from_slice(b"\",\"old_state\":\"");
        state(out, *old);
        out.extend_from_slice(b"\",\"new_state\":\"");
        state(out, *new);
        out.extend_from_slice(b"\",\"duration_ns\":");
        number(out, *duration_ns);
        out.extend_from_slice(b",\"local\":");
        endpoint(out, local);
        out.extend_from_slice(b",\"peer\":");
        endpoint(out, peer);
        out.extend_from_slice(match family {
            Family::Ipv4 => b",\"family\":\"ipv4\",\"cookie\":",
            Family::Ipv6 => b",\"family\":\"ipv6\",\"cookie\":",
        });
        number(out, *cookie);
        out.extend_from_slice(b",\"netns\":");
        number(out, netns.map(u64::from));
        out.extend_from_slice(b",\"process\":");
        process(out, *owner);
        out.extend_from_slice(b",\"container\":");
        self.container(out, container.as_ref());
        out.extend_from_slice(b",\"cgroup_id\":");
        number(out, *cgroup_id);
        out.extend_from_slice(b"}\n");
    }

    fn container(&mut self, out: &mut Vec<u8>, container: Option<&Arc<ContainerFacts>>) {
        let Some(container) = container else { return out.extend_from_slice(b"null") };
        let address = Arc::as_ptr(container) as usize;
        let Some(slot) = self.containers.get_mut((address / size_of::<ContainerFacts>()) % CONTAINERS) else {
            return;
        };
        let known = slot.take().filter(|known| Arc::ptr_eq(&known.container, container));
        let rendered = known.unwrap_or_else(|| {
            let mut json = Vec::new();
            escaped(&mut json, container.as_ref());
            Rendered { container: Arc::clone(container), json }
        });
        out.extend_from_slice(&rendered.json);
        *slot = Some(rendered);
    }
}

impl Clock {
    fn write(&mut self, out: &mut Vec<u8>, time: WallTime) {
        let (second, mut ns) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
        if self.second != second || self.text.is_empty() {
            self.text.clear();
            // Writing to a vector does not fail.
            let _ = write!(self.text, "{:.9}", WallTime(second * 1_000_000_000).timestamp());
            self.text.truncate(self.text.len().saturating_sub("000000000Z".len()));
            self.second = second;
        }
        out.extend_from_slice(&self.text);
        let mut digits = *b"000000000Z";
        for digit in digits.iter_mut().take(9).rev() {
            *digit = b'0' + (ns % 10) as u8;
            ns /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

fn state(out: &mut Vec<u8>, state: TcpState) {
    match state.name() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => _ = write!(out, "{state}"),
    }
}

fn number(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        Some(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

fn endpoint(out: &mut Vec<u8>, end: &Endpoint) {
    out.extend_from_slice(b"{\"address\":");
    if end.is_known() || !end.address.is_unspecified() {
        out.push(b'"');
        match end.address {
            IpAddr::V4(v4) => {
                for (place, octet) in v4.octets().into_iter().enumerate() {
                    if place > 0 {
                        out.push(b'.');
                    }
                    out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            IpAddr::V6(v6) => ipv6(out, v6),
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(b"null");
    }
    out.extend_from_slice(b",\"port\":");
    number(out, (end.port != 0).then_some(end.port.into()));
    out.push(b'}');
}

/// RFC 5952, as `Ipv6Addr` displays.
fn ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let groups = address.segments();
    if matches!(groups, [0, 0, 0, 0, 0, 0xffff, _, _]) {
        // With a dotted quad; `Endpoint` makes IPv4 of it.
        let _ = write!(out, "{address}");
        return;
    }
    let (start, length) = longest_zeros(groups);
    for (place, group) in groups.into_iter().enumerate() {
        if place >= start && place < start + length {
            if place == start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if place > 0 && place != start + length {
            out.push(b':');
        }
        hexadecimal(out, group);
    }
}

/// Where the longest run of groups that are 0 begins, and its length; no run is shorter than two.
fn longest_zeros(groups: [u16; 8]) -> (usize, usize) {
    let (mut longest, mut run) = ((usize::MAX - 8, 0), 0);
    for (place, group) in groups.into_iter().enumerate() {
        run = if group == 0 { run + 1 } else { 0 };
        if run > 1 && run > longest.1 {
            longest = (place + 1 - run, run);
        }
    }
    longest
}

fn hexadecimal(out: &mut Vec<u8>, group: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut begun = false;
    for shift in [12, 8, 4, 0] {
        let digit = usize::from(group >> shift & 0xf);
        begun |= digit != 0 || shift == 0;
        if begun {
            out.extend(DIGITS.get(digit));
        }
    }
}

fn process(out: &mut Vec<u8>, owner: Option<Owner>) {
    let source = owner.map_or(OwnerSource::Unknown, |owner| owner.source);
    out.extend_from_slice(b"{\"pid\":");
    number(out, owner.map(|owner| owner.process.pid.into()));
    out.extend_from_slice(b",\"comm\":");
    match owner.and_then(|owner| owner.comm) {
        Some(comm) => name(out, &comm),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"owner_source\":\"");
    out.extend_from_slice(match source {
        OwnerSource::Unknown => b"unknown",
        OwnerSource::Listen => b"listen",
        OwnerSource::Fd => b"fd",
        OwnerSource::Connect => b"connect",
        OwnerSource::Accept => b"accept",
        OwnerSource::Task => b"task",
    });
    out.extend_from_slice(b"\"}");
}

fn name(out: &mut Vec<u8>, comm: &Comm) {
    let bytes = comm.as_bytes();
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        escaped(out, comm);
    }
}

/// What serde makes of it. Neither writing to a vector nor these types can fail.
fn escaped(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    if serde_json::to_writer(&mut *out, value).is_err() {
        debug_assert!(false, "strings and numbers always serialise");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{process::ProcessId, survey::Runtime, time::Timestamp};

    fn address() -> impl Strategy<Value = IpAddr> {
        let groups = prop_oneof![3 => Just(0_u16), 1 => 0_u16..0x20, 2 => any::<u16>()];
        let v6 = proptest::array::uniform8(groups).prop_map(|groups| Ipv6Addr::from(groups).into());
        let mapped = any::<[u8; 4]>().prop_map(|v4| std::net::Ipv4Addr::from(v4).to_ipv6_mapped().into());
        prop_oneof![4 => v6, 4 => any::<[u8; 4]>().prop_map(IpAddr::from), 1 => mapped]
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        let port = prop_oneof![Just(0), any::<u16>()];
        (address(), port).prop_map(|(address, port)| Endpoint { address, port })
    }

    fn owner() -> impl Strategy<Value = Owner> {
        let source = proptest::sample::select(vec![
            OwnerSource::Unknown,
            OwnerSource::Listen,
            OwnerSource::Fd,
            OwnerSource::Connect,
            OwnerSource::Accept,
            OwnerSource::Task,
        ]);
        let plain = "[ -~]{0,15}".prop_map(|text| Comm::from_text(&text));
        let comm = prop_oneof![plain, any::<[u8; 16]>().prop_map(Comm::new)];
        (any::<u32>(), comm, source).prop_map(|(pid, comm, source)| Owner {
            process: ProcessId { pid, start_ns: None },
            comm,
            source,
        })
    }

    fn container() -> impl Strategy<Value = Arc<ContainerFacts>> {
        (any::<String>(), any::<Option<String>>()).prop_map(|(id, name)| {
            Arc::new(ContainerFacts {
                id,
                name,
                runtime: Runtime::Docker,
                image: None,
                pod: None,
                namespace: None,
                pod_uid: None,
                qos: None,
            })
        })
    }

    prop_compose! {
        fn change()(
            (time, second) in (any::<u64>(), prop_oneof![Just(1_763_814_770), 0..253_402_300_799_u64]),
            whole in any::<bool>(),
            (old, new) in (0_u8..16, any::<u8>()),
            (local, peer, v4) in (endpoint(), endpoint(), any::<bool>()),
            (duration_ns, cookie, netns, cgroup_id) in any::<(Option<u64>, Option<u64>, Option<u32>, Option<u64>)>(),
            owner in proptest::option::of(owner()),
            container in proptest::option::of(container()),
        ) -> StateChange {
            StateChange {
                at: Timestamp(0),
                time: WallTime(if whole { time } else { (second % 18_000_000_000) * 1_000_000_000 + time % 1_000 }),
                old: TcpState::from_number(old),
                new: TcpState::from_number(new),
                duration_ns, local, peer,
                family: if v4 { Family::Ipv4 } else { Family::Ipv6 },
                cookie, skaddr: 0, netns, cgroup_id, owner, container,
            }
        }
    }

    proptest! {
        #[test]
        fn lines_are_what_serde_makes_of_them(changes in proptest::collection::vec(change(), 1..40)) {
            let (mut writer, mut lines) = (LineWriter::default(), Vec::new());
            for change in changes.iter().chain(&changes) {
                writer.write(&mut lines, change);
            }
            let expected: String = changes
                .iter()
                .chain(&changes)
                .map(|change| serde_json::to_string(change).unwrap() + "\n")
                .collect();
            prop_assert_eq!(String::from_utf8(lines).unwrap(), expected);
        }
    }
}

//! State changes as JSON Lines, fast: the very bytes that `json` makes of them, at a fifth of the cost.
//!
//! What repeats from line to line is kept: the text of the second, and of the containers. The order and the names of
//! the fields are those of `StateChange`'s `Serialize`, against which `tests` holds every line.

use std::sync::Arc;

use super::{
    StateChange,
    change::EVENT_NAME,
    text::{Clock, endpoint, escaped, number, process, state},
};
use crate::{endpoint::Family, survey::ContainerFacts, time::WallTime};

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

impl LineWriter {
    /// Appends a state change and a newline.
    pub fn write(&mut self, out: &mut Vec<u8>, change: &StateChange) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(out, change.time);
        out.extend_from_slice(b"\",\"event\":\"");
        out.extend_from_slice(EVENT_NAME.as_bytes());
        out.extend_from_slice(b"\",");
        self.rest(out, change);
    }

    /// A time, without quotation marks.
    pub(crate) fn time(&mut self, out: &mut Vec<u8>, time: WallTime) {
        self.clock.write(out, time);
    }

    /// What comes after `event`, with the end of the object and of the line.
    pub(crate) fn rest(&mut self, out: &mut Vec<u8>, change: &StateChange) {
        let StateChange {
            at: _,
            time: _,
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
        out.extend_from_slice(b"\"old_state\":\"");
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

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        endpoint::Endpoint,
        process::{Comm, Owner, OwnerSource, ProcessId},
        state::TcpState,
        survey::Runtime,
        time::Timestamp,
    };

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
        pub(crate) fn change()(
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
                .map(|change| {
                    let mut line = Vec::new();
                    crate::json::to_writer(&mut line, change).unwrap();
                    String::from_utf8(line).unwrap() + "\n"
                })
                .collect();
            prop_assert_eq!(String::from_utf8(lines).unwrap(), expected);
        }
    }
}

//! One state change, as `stream` shows it.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    endpoint::{Endpoint, Family},
    process::{Comm, Owner, OwnerSource},
    state::TcpState,
    survey::ContainerFacts,
    time::{Timestamp, WallTime},
};

/// The value of `event` in JSON.
pub const EVENT_NAME: &str = "tcp.state_change";

/// One state change of one connection, with what is known of the connection from earlier events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Kernel time.
    pub at: Timestamp,
    /// Wall-clock time.
    pub time: WallTime,
    /// State left.
    pub old: TcpState,
    /// State entered.
    pub new: TcpState,
    /// Time spent in the old state; `None` where its entry was not seen. For a passively opened
    /// connection's SYN_RECV this is the half-open duration, not the child socket's microseconds.
    pub duration_ns: Option<u64>,
    /// Local end.
    pub local: Endpoint,
    /// Peer.
    pub peer: Endpoint,
    /// What the two ends speak.
    pub family: Family,
    /// Socket cookie.
    pub cookie: Option<u64>,
    /// Address of the kernel's socket.
    pub skaddr: u64,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Cgroup of the socket's creator.
    pub cgroup_id: Option<u64>,
    /// Whom the socket belongs to; `None` where that is not known.
    pub owner: Option<Owner>,
    /// The container of its owner, or of the cgroup that it was created in, as far as somebody has looked by now.
    pub container: Option<Arc<ContainerFacts>>,
}

/// The process of a JSON event.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Process {
    /// Process id.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<Comm>,
    /// How it is known.
    pub owner_source: OwnerSource,
}

impl From<Option<Owner>> for Process {
    fn from(owner: Option<Owner>) -> Self {
        match owner {
            Some(Owner { process, comm, source }) => {
                Self { pid: Some(process.pid), comm, owner_source: source }
            }
            None => Self { pid: None, comm: None, owner_source: OwnerSource::Unknown },
        }
    }
}

impl StateChange {
    /// What comes after `time` and `event`.
    pub(crate) fn rest<S: SerializeStruct>(&self, fields: &mut S) -> Result<(), S::Error> {
        let Self {
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
        } = self;
        fields.serialize_field("old_state", old)?;
        fields.serialize_field("new_state", new)?;
        fields.serialize_field("duration_ns", duration_ns)?;
        fields.serialize_field("local", local)?;
        fields.serialize_field("peer", peer)?;
        fields.serialize_field("family", family)?;
        fields.serialize_field("cookie", cookie)?;
        fields.serialize_field("netns", netns)?;
        fields.serialize_field("process", &Process::from(*owner))?;
        fields.serialize_field("container", &container.as_deref())?;
        fields.serialize_field("cgroup_id", cgroup_id)
    }
}

impl Serialize for StateChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("StateChange", 13)?;
        fields.serialize_field("time", &self.time)?;
        fields.serialize_field("event", EVENT_NAME)?;
        self.rest(&mut fields)?;
        fields.end()
    }
}

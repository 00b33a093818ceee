//! The journal, by its native protocol: one datagram an entry (systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`).

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    net::IpAddr,
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr},
};
use serde::Deserialize;
use tcp_trace_core::{
    endpoint::Endpoint,
    log::{Document, LogWriter, Origin},
    process::{Comm, Owner, printable},
};

use crate::{agent::export::Failure, shown::shown};

/// How long the journal may keep a datagram waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// `[sinks.NAME.journald]`: entries of systemd's journal, with fields.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The journal's socket; `"/run/systemd/journal/socket"` by default.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// `SYSLOG_IDENTIFIER`; `"tcp-trace"` by default.
    #[serde(default = "default_identifier")]
    pub identifier: String,
    /// Whether each entry has the whole document as JSON in `TCP_TRACE_JSON` as well; true by default.
    #[serde(default = "default_json")]
    pub json: bool,
}

fn default_socket() -> PathBuf {
    "/run/systemd/journal/socket".into()
}

fn default_identifier() -> String {
    "tcp-trace".to_owned()
}

fn default_json() -> bool {
    true
}

/// `MESSAGE_ID` of each kind of document: made up once, so that entries of a kind are found by it.
const MESSAGE_IDS: [(&str, &str); 6] = [
    ("tcp.state_change", "4999951842344bc0bf36ce3bc1d987ad"),
    ("tcp.connection_closed", "af44d711256f4d6badf1a84027064329"),
    ("tcp.finding", "c2a08b8665e04dfba8ef6606f4a0aed0"),
    ("tcp.report", "4d78281931724c46909b913d43eb39f3"),
    ("tcp.loss", "0a155abf457242ad9510d6c3ff8fb492"),
    ("tcp.degradation", "52efce58929c49c0a5c4cd71375bd198"),
];

/// Sends entries to the journal.
#[derive(Debug)]
pub struct Journald {
    config: Config,
    origin: Origin,
    writer: LogWriter,
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// Whether the journal asks `/proc` for `OBJECT_COMM` itself, as it does for senders that are root.
    is_root: bool,
    /// The entry on its way.
    entry: Vec<u8>,
}

impl Journald {
    /// Sends nothing yet; a journal that is not there is found out by the first entry.
    ///
    /// # Errors
    ///
    /// If there can be no such socket, or the identifier is none.
    pub fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self> {
        let socket = UnixDatagram::unbound().context("a socket for the journal")?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let address = SocketAddrUnix::new(&config.socket)
            .with_context(|| format!("`socket`: {} can be no socket", shown(&config.socket)))?;
        Ok(Self {
            config: config.clone(),
            origin: origin.clone(),
            writer: LogWriter::new(origin),
            socket,
            address,
            is_root: rustix::process::geteuid().is_root(),
            entry: Vec::new(),
        })
    }

    /// Sends an entry for each of them.
    ///
    /// # Errors
    ///
    /// If the journal is not there, or takes nothing for five seconds.
    pub fn send(&mut self, batch: &[Document]) -> Result<(), Failure> {
        for (done, document) in batch.iter().enumerate() {
            self.compose(document);
            self.post().map_err(|error| Failure { done, ..Failure::retry(self.said(&error)) })?;
        }
        Ok(())
    }

    /// Nothing is kept back.
    ///
    /// # Errors
    ///
    /// None.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn compose(&mut self, document: &Document) {
        let mut entry = Entry(std::mem::take(&mut self.entry));
        entry.0.clear();
        entry.add("MESSAGE", &document.message());
        entry.add("PRIORITY", &document.severity().syslog().to_string());
        entry.add("SYSLOG_IDENTIFIER", &self.config.identifier);
        let id = MESSAGE_IDS.iter().find(|(event, _)| *event == document.event());
        id.into_iter().for_each(|(_, id)| entry.add("MESSAGE_ID", id));
        entry.add("TCP_TRACE_EVENT", document.event());
        entry.add("TCP_TRACE_SEVERITY", document.severity().name());
        entry.add("TCP_TRACE_TIME", &format!("{:.9}", document.time().timestamp()));
        entry.origin(&self.origin);
        entry.object(document, self.is_root);
        for (name, value) in document.fields() {
            entry.add(&format!("TCP_TRACE_{}", name.to_ascii_uppercase()), &value);
        }
        if self.config.json {
            let mut line = Vec::new();
            self.writer.write(&mut line, document);
            line.pop();
            entry.bytes("TCP_TRACE_JSON", &line);
        }
        self.entry = entry.0;
    }

    fn post(&self) -> io::Result<()> {
        match self.datagram(&[IoSlice::new(&self.entry)], &mut SendAncillaryBuffer::default()) {
            // Larger than a datagram of this system may be: the journal takes it from a file in memory.
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.post_file(),
            sent => Ok(sent?),
        }
    }

    fn post_file(&self) -> io::Result<()> {
        let memory = memfd_create("tcp-trace-entry", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(memory);
        file.write_all(&self.entry)?;
        // The journal maps it only if nobody can change it any more.
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        let descriptors = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        Ok(self.datagram(&[], &mut control)?)
    }

    fn datagram(
        &self,
        parts: &[IoSlice<'_>],
        control: &mut SendAncillaryBuffer<'_, '_, '_>,
    ) -> rustix::io::Result<()> {
        loop {
            match sendmsg_addr(&self.socket, &self.address, parts, control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop),
            }
        }
    }

    fn said(&self, error: &io::Error) -> String {
        let path = shown(&self.config.socket);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("the journal does not listen at {path}: {error}; is systemd-journald running?")
            }
            io::ErrorKind::WouldBlock => {
                format!("the journal at {path} has taken nothing for {} s", PATIENCE.as_secs())
            }
            _ => format!("the journal at {path}: {error}"),
        }
    }
}

/// An entry as the protocol has it.
struct Entry(Vec<u8>);

impl Entry {
    fn add(&mut self, name: &str, value: &str) {
        self.bytes(name, value.as_bytes());
    }

    /// `NAME=value`, or with its length where a newline is in it: nothing that others have chosen can begin a field.
    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn origin(&mut self, Origin { host, cluster, labels }: &Origin) {
        // A recording may come from anywhere, and the name of its host with it.
        self.add("TCP_TRACE_HOST", &printable(host));
        if let Some(cluster) = cluster {
            self.add("TCP_TRACE_CLUSTER", &printable(cluster));
        }
        for (name, value) in labels {
            self.add(&label(name), &printable(value));
        }
    }

    /// The fields of bcc's `tcpstates -Y`, by their names and in their units.
    fn object(&mut self, document: &Document, is_root: bool) {
        let (local, peer, owner, states) = match document {
            Document::Transition(c) => (c.local, c.peer, c.owner, Some((c.old, c.new, c.duration_ns))),
            Document::Closed(c) => (c.local, c.peer, c.owner, None),
            _ => return,
        };
        if let Some(Owner { process, comm, .. }) = owner {
            self.add("OBJECT_PID", &process.pid.to_string());
            if let Some(comm) = comm.filter(|_| !is_root) {
                self.add("OBJECT_COMM", &Comm::to_string(&comm));
            }
        }
        self.end(
            local,
            ["OBJECT_IPV4_SOURCE_ADDRESS", "OBJECT_IPV6_SOURCE_ADDRESS", "OBJECT_TCP_SOURCE_PORT"],
        );
        self.end(
            peer,
            [
                "OBJECT_IPV4_DESTINATION_ADDRESS",
                "OBJECT_IPV6_DESTINATION_ADDRESS",
                "OBJECT_TCP_DESTINATION_PORT",
            ],
        );
        let Some((old, new, duration)) = states else { return };
        self.add("OBJECT_TCP_OLD_STATE", &old.to_string());
        self.add("OBJECT_TCP_NEW_STATE", &new.to_string());
        if let Some(ns) = duration {
            self.add("OBJECT_TCP_SPAN_TIME", &(ns / 1_000).to_string());
        }
    }

    fn end(&mut self, end: Endpoint, [ipv4, ipv6, port]: [&str; 3]) {
        if end.is_known() {
            let name = if matches!(end.address, IpAddr::V4(_)) { ipv4 } else { ipv6 };
            self.add(name, &end.address.to_string());
            self.add(port, &end.port.to_string());
        }
    }
}

/// `TCP_TRACE_LABEL_DEPLOY`: the journal takes capital letters, digits and underscores, 64 at most (`journal_field_valid`).
fn label(name: &str) -> String {
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "TCP_TRACE_LABEL_".chars().chain(letters).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_chosen_cannot_begin_a_field() {
        let mut entry = Entry(Vec::new());
        entry.add("MESSAGE", "fine");
        entry.add("TCP_TRACE_COMM", "a\nPRIORITY=0");
        assert_eq!(entry.0, b"MESSAGE=fine\nTCP_TRACE_COMM\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n");
    }

    #[test]
    fn labels_become_names_of_fields() {
        assert_eq!(label("deploy"), "TCP_TRACE_LABEL_DEPLOY");
        assert_eq!(label("team.näme=x\n"), "TCP_TRACE_LABEL_TEAM_N_ME_X_");
        assert_eq!(label(&"x".repeat(100)).len(), 64);
    }

    #[test]
    fn every_kind_has_an_id_of_its_own() {
        let mut ids = MESSAGE_IDS.map(|(_, id)| id);
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]) && ids.iter().all(|id| id.len() == 32));
    }
}

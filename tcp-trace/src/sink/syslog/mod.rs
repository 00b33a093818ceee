//! Syslog as RFC 5424 has it, over a UNIX socket, UDP (RFC 5426) or TCP with octet counting (RFC 6587, 3.4.1).

mod message;
mod transport;

use message::Composer;
use serde::{Deserialize, Deserializer, de::Error as _};
use tcp_trace_core::log::{Document, Origin};
use transport::Transport;

use crate::agent::{export::Failure, values::Size};

/// `[sinks.NAME.syslog]`: messages of RFC 5424.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to: `"unix:/dev/log"` (the default), `"udp:HOST:PORT"`, `"tcp:HOST:PORT"`; an IPv6 address in brackets.
    #[serde(default)]
    pub address: Address,
    /// The facility, by its name in `syslog.conf`; `"daemon"` by default.
    #[serde(default)]
    pub facility: Facility,
    /// APP-NAME; `"tcp-trace"` by default.
    #[serde(default = "default_app_name")]
    pub app_name: String,
    /// What stands after the structured data: `"text"` (the default), the line for people, or `"json"`, the whole document.
    #[serde(default)]
    pub format: Format,
    /// Size of a message at most; `"8K"` by default, which is what rsyslog takes unless told otherwise. JSON that is larger
    /// makes way for the line for people.
    #[serde(default = "default_max_size")]
    pub max_size: Size,
    /// Private enterprise number in the id of the structured data, `tcptrace@NUMBER`; 32473 by default, which is set aside for
    /// examples (RFC 5612). Whoever has one of their own can put it here.
    #[serde(default = "default_enterprise")]
    pub enterprise: u32,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(std::path::PathBuf),
    /// A host and a port, for datagrams.
    Udp(String),
    /// A host and a port, for a stream.
    Tcp(String),
}

/// What a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The line for people.
    #[default]
    Text,
    /// The document.
    Json,
}

/// A facility's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

/// What is sent over a connection at once.
const CHUNK: usize = 64 * 1024;

/// Facilities that a program like this one may have (RFC 5424, table 1).
const FACILITIES: [(&str, u8); 11] = [
    ("user", 1),
    ("daemon", 3),
    ("syslog", 5),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

fn default_app_name() -> String {
    "tcp-trace".to_owned()
}

fn default_max_size() -> Size {
    Size(8 * 1024)
}

fn default_enterprise() -> u32 {
    32_473
}

impl Default for Address {
    fn default() -> Self {
        Self::Unix("/dev/log".into())
    }
}

impl Default for Facility {
    fn default() -> Self {
        Self(3)
    }
}

impl<'de> Deserialize<'de> for Facility {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, number)| Self(*number));
        known.ok_or_else(|| {
            let names = FACILITIES.map(|(name, _)| name).join(", ");
            D::Error::custom(format!("`{text}` is no facility; give one of {names}"))
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let has_port = |end: &str| {
            end.rsplit_once(':').is_some_and(|(host, port)| {
                let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
                !host.is_empty() && !bare_v6 && port.parse::<u16>().is_ok_and(|port| port != 0)
            })
        };
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("udp", end)) if has_port(end) => Ok(Self::Udp(end.to_owned())),
            Some(("tcp", end)) if has_port(end) => Ok(Self::Tcp(end.to_owned())),
            _ => Err(D::Error::custom(format!(
                "`{text}` is no address; give unix:/PATH, udp:HOST:PORT or tcp:HOST:PORT, such as \"unix:/dev/log\" or \
                 \"tcp:[2001:db8::1]:601\""
            ))),
        }
    }
}

/// Sends messages.
#[derive(Debug)]
pub struct Syslog {
    composer: Composer,
    transport: Transport,
    message: Vec<u8>,
    /// Messages on their way.
    frames: Frames,
}

/// Messages one behind the other, as they travel.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Syslog {
    /// Connects to nobody yet; whether somebody listens is found out by the first message.
    ///
    /// # Errors
    ///
    /// If a value of the configuration cannot stand in a message.
    pub fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self> {
        let composer = Composer::new(config, origin)?;
        let transport = Transport::new(&config.address);
        Ok(Self { composer, transport, message: Vec::new(), frames: Frames::default() })
    }

    /// Sends a message for each of them.
    ///
    /// # Errors
    ///
    /// If nobody takes them. Of those that a connection has taken some may be lost when it breaks: syslog has no
    /// acknowledgements.
    pub fn send(&mut self, batch: &[Document]) -> Result<(), Failure> {
        let mut done = 0;
        while let Some(documents) = batch.get(done..).filter(|rest| !rest.is_empty()) {
            self.fill(documents);
            let sent = self.transport.send(&self.frames);
            sent.map_err(|(sent, why)| Failure { done: done + sent, ..Failure::retry(why) })?;
            done += self.frames.ends.len();
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

    /// A chunk of messages.
    fn fill(&mut self, documents: &[Document]) {
        let Frames { bytes, ends } = &mut self.frames;
        bytes.clear();
        ends.clear();
        for document in documents {
            self.message.clear();
            self.composer.compose(&mut self.message, document);
            self.transport.frame(bytes, &self.message);
            ends.push(bytes.len());
            if bytes.len() >= CHUNK {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! A message: `<30>1 TIME HOST APP-NAME PROCID MSGID [tcptrace@32473 …] MSG`.

use std::io::Write as _;

use anyhow::ensure;
use tcp_trace_core::{
    log::{Document, LogWriter, Origin},
    process::printable,
};

use super::{Config, Format};

/// Room that a message has at least; RFC 5424 wants every receiver to take 480 bytes.
const SMALLEST: usize = 480;
/// The most characters of HOSTNAME and APP-NAME (RFC 5424, 6.2.4 and 6.2.5).
const HOSTNAME: usize = 255;
const APP_NAME: usize = 48;

/// Makes messages.
#[derive(Debug)]
pub(super) struct Composer {
    facility: u8,
    format: Format,
    max_size: usize,
    /// ` HOST APP-NAME PROCID `.
    sender: String,
    /// `[tcptrace@32473 cluster="…" label.deploy="…"`.
    data: String,
    writer: LogWriter,
    line: Vec<u8>,
}

impl Composer {
    pub(super) fn new(config: &Config, origin: &Origin) -> anyhow::Result<Self> {
        let Config { address: _, facility, app_name, format, max_size, enterprise } = config;
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(
            is_name(app_name) && app_name.len() <= APP_NAME,
            "`app_name`: `{app_name}` must have 1 to {APP_NAME} printable ASCII characters and no blank"
        );
        let max_size = usize::try_from(max_size.0).unwrap_or(usize::MAX);
        ensure!(max_size >= SMALLEST, "`max_size`: give {SMALLEST} bytes at least");
        let sender = format!(" {} {app_name} {} ", hostname(&origin.host), std::process::id());
        let mut data = format!("[tcptrace@{enterprise}");
        if let Some(cluster) = &origin.cluster {
            parameter(&mut data, "cluster", &printable(cluster));
        }
        for (name, value) in &origin.labels {
            parameter(&mut data, &label(name), &printable(value));
        }
        Ok(Self {
            facility: facility.0,
            format: *format,
            max_size,
            sender,
            data,
            writer: LogWriter::new(origin),
            line: Vec::new(),
        })
    }

    /// Appends a message.
    pub(super) fn compose(&mut self, out: &mut Vec<u8>, document: &Document) {
        let start = out.len();
        let priority = self.facility * 8 + document.severity().syslog();
        // A receiver may refuse more than six digits (RFC 5424, 6.2.3).
        let time = format!("{:.6}", document.time().timestamp());
        // Writing to a vector does not fail.
        let _ = write!(out, "<{priority}>1 {time}{}{} ", self.sender, document.event());
        let room = self.max_size.saturating_sub(out.len() - start);
        match self.format {
            Format::Json => {
                self.line.clear();
                self.writer.write(&mut self.line, document);
                self.line.pop();
                let data = format!("{}] ", self.data);
                if data.len() + self.line.len() <= room {
                    out.extend_from_slice(data.as_bytes());
                    out.extend_from_slice(&self.line);
                } else {
                    self.text(out, document, room);
                }
            }
            Format::Text => self.text(out, document, room),
        }
    }

    /// The fields, as far as there is room for them beside the text, then the text. Whatever did not fit, `cut` says so.
    fn text(&self, out: &mut Vec<u8>, document: &Document, room: usize) {
        const CUT: &str = " cut=\"true\"";
        let text = document.message();
        let mut data = self.data.clone();
        // Half of the room is the text's, if it needs that much.
        let most = room.saturating_sub(text.len().min(room / 2) + CUT.len() + 2);
        let mut cut = self.format == Format::Json;
        for (name, value) in document.fields() {
            let length = data.len();
            parameter(&mut data, name, &value);
            if data.len() > most {
                data.truncate(length);
                cut = true;
            }
        }
        let left = room.saturating_sub(data.len() + CUT.len() + 2);
        let said = text.get(..text.floor_char_boundary(left)).unwrap_or_default();
        if cut || said.len() < text.len() {
            data += CUT;
        }
        data += "] ";
        out.extend_from_slice(data.as_bytes());
        out.extend_from_slice(said.as_bytes());
    }
}

/// HOSTNAME, or `-` where it cannot be one.
fn hostname(host: &str) -> &str {
    let good = !host.is_empty() && host.len() <= HOSTNAME && host.bytes().all(|byte| byte.is_ascii_graphic());
    if good { host } else { "-" }
}

/// ` name="value"`, with the value escaped (RFC 5424, 6.3.3).
fn parameter(data: &mut String, name: &str, value: &str) {
    data.push(' ');
    data.push_str(name);
    data.push_str("=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            data.push('\\');
        }
        // A stream of messages may be split at newlines by whoever reads it.
        data.push(if c.is_control() { ' ' } else { c });
    }
    data.push('"');
}

/// A name of 32 characters at most, without those that end one (RFC 5424, 6.3.3).
fn label(name: &str) -> String {
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
    "label.".chars().chain(name.chars().map(|c| if good(c) { c } else { '_' })).take(32).collect()
}

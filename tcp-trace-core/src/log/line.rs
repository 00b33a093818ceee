//! Documents as JSON, one a line: `docs/schema/log.schema.json`.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{DegradationNotice, Document, FindingChange, LossNotice, Origin, ReportDigest, SCHEMA, message};
use crate::{
    process::Owner,
    report::{
        EVENT_NAME, LineWriter, StateChange,
        text::{escaped, plain},
    },
};

/// A document and where it comes from; serialises as one line of JSON has it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Where it comes from.
    pub origin: &'a Origin,
    /// The document.
    pub document: &'a Document,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { origin: Origin { host, cluster, labels }, document } = self;
        let mut fields = serializer.serialize_struct("Line", 34)?;
        fields.serialize_field("schema", SCHEMA)?;
        fields.serialize_field("time", &document.time())?;
        fields.serialize_field("event", document.event())?;
        fields.serialize_field("severity", &document.severity())?;
        fields.serialize_field("message", &document.message())?;
        fields.serialize_field("host", host)?;
        fields.serialize_field("cluster", cluster)?;
        fields.serialize_field("labels", labels)?;
        match document {
            Document::Transition(change) => change.rest(&mut fields)?,
            Document::Closed(obituary) => obituary.rest(&mut fields)?,
            Document::Finding(change) => finding(change, &mut fields)?,
            Document::Report(digest) => report(digest, &mut fields)?,
            Document::Loss(LossNotice { window, loss }) => {
                fields.serialize_field("window", window)?;
                fields.serialize_field("loss", loss)?;
            }
            Document::Degradation(DegradationNotice { time: _, degradation, over }) => {
                fields.serialize_field("over", over)?;
                fields.serialize_field("degradation", degradation)?;
            }
        }
        fields.end()
    }
}

fn finding<S: SerializeStruct>(change: &FindingChange, fields: &mut S) -> Result<(), S::Error> {
    let FindingChange { time: _, step, before, opened, finding } = change;
    fields.serialize_field("step", step)?;
    fields.serialize_field("before", before)?;
    fields.serialize_field("opened", opened)?;
    fields.serialize_field("key", &finding.key())?;
    fields.serialize_field("finding", finding)
}

fn report<S: SerializeStruct>(digest: &ReportDigest, fields: &mut S) -> Result<(), S::Error> {
    let ReportDigest {
        window,
        loss,
        modes,
        transitions,
        live,
        time_wait,
        half_open,
        lingering,
        findings,
        open,
        close_wait,
        listeners,
        destinations,
        ports,
        processes,
        degradations,
        limits,
    } = digest;
    fields.serialize_field("window", window)?;
    fields.serialize_field("loss", loss)?;
    fields.serialize_field("modes", modes)?;
    fields.serialize_field("transitions", transitions)?;
    fields.serialize_field("live", live)?;
    fields.serialize_field("time_wait", time_wait)?;
    fields.serialize_field("half_open", half_open)?;
    fields.serialize_field("lingering", lingering)?;
    fields.serialize_field("findings", findings)?;
    fields.serialize_field("open", open)?;
    fields.serialize_field("close_wait", close_wait)?;
    fields.serialize_field("listeners", listeners)?;
    fields.serialize_field("destinations", destinations)?;
    fields.serialize_field("ports", ports)?;
    fields.serialize_field("processes", processes)?;
    fields.serialize_field("degradations", degradations)?;
    fields.serialize_field("limits", limits)
}

/// Writes documents as lines: the bytes of [`Line`]. Transitions, of which there may be very many, are written by hand.
#[derive(Debug)]
pub struct LogWriter {
    origin: Origin,
    /// `"host":…,"cluster":…,"labels":{…},` as it follows the message of every transition.
    rendered: Vec<u8>,
    changes: LineWriter,
    /// A message on its way through the escaping.
    message: Vec<u8>,
}

impl LogWriter {
    /// A writer of what comes from `origin`.
    #[must_use]
    pub fn new(origin: &Origin) -> Self {
        let mut rendered = Vec::new();
        escaped(&mut rendered, origin);
        // Without the brace at its beginning, and a comma for the one at its end.
        rendered.remove(0);
        rendered.pop();
        rendered.push(b',');
        Self { origin: origin.clone(), rendered, changes: LineWriter::default(), message: Vec::new() }
    }

    /// Appends a document and a newline.
    pub fn write(&mut self, out: &mut Vec<u8>, document: &Document) {
        match document {
            Document::Transition(change) => self.transition(out, change),
            _ => {
                escaped(out, &Line { origin: &self.origin, document });
                out.push(b'\n');
            }
        }
    }

    fn transition(&mut self, out: &mut Vec<u8>, change: &StateChange) {
        out.extend_from_slice(b"{\"schema\":\"");
        out.extend_from_slice(SCHEMA.as_bytes());
        out.extend_from_slice(b"\",\"time\":\"");
        self.changes.time(out, change.time);
        out.extend_from_slice(b"\",\"event\":\"");
        out.extend_from_slice(EVENT_NAME.as_bytes());
        out.extend_from_slice(b"\",\"severity\":\"info\",\"message\":");
        self.message(out, change);
        out.push(b',');
        out.extend_from_slice(&self.rendered);
        self.changes.rest(out, change);
    }

    /// The message as a string of JSON. Only a name can make it one that has to be escaped.
    fn message(&mut self, out: &mut Vec<u8>, change: &StateChange) {
        let comm = change.owner.and_then(|Owner { comm, .. }| comm);
        if comm.is_none_or(|comm| plain(&comm).is_some()) {
            out.push(b'"');
            message::transition(out, change);
            out.push(b'"');
        } else {
            self.message.clear();
            message::transition(&mut self.message, change);
            escaped(out, &String::from_utf8_lossy(&self.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::change_of_any_kind;

    proptest! {
        #[test]
        fn transitions_are_written_as_they_serialise(
            changes in proptest::collection::vec(change_of_any_kind(), 1..40),
            (host, cluster) in any::<(String, Option<String>)>(),
            labels in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3),
        ) {
            let origin = Origin { host, cluster, labels };
            let (mut writer, mut lines, mut expected) = (LogWriter::new(&origin), Vec::new(), Vec::new());
            for change in changes {
                let document = Document::Transition(change);
                writer.write(&mut lines, &document);
                crate::json::to_writer(&mut expected, &Line { origin: &origin, document: &document }).unwrap();
                expected.push(b'\n');
            }
            prop_assert_eq!(String::from_utf8(lines).unwrap(), String::from_utf8(expected).unwrap());
        }
    }
}

//! Where connections were opened.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::stack::{StackKind, Trace};

/// Where a connection was opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpenedAt {
    /// In which call.
    pub kind: StackKind,
    /// By which functions.
    pub trace: Arc<Trace>,
}

/// A place where connections were opened, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackCount {
    /// How many.
    pub count: u64,
    /// The place; `None` of those whose stack is not known.
    pub opened_at: Option<OpenedAt>,
}

impl OpenedAt {
    /// `accepted at handle_upload server.c:88 ← worker_main server.c:120`, with at most `max` functions.
    #[must_use]
    pub fn text(&self, max: usize) -> String {
        format!("{} {}", self.kind.phrase(), self.trace.text(max))
    }

    fn fields<S: SerializeStruct>(&self, fields: &mut S) -> Result<(), S::Error> {
        let Trace { frames, cut_off, interpreter } = &*self.trace;
        fields.serialize_field("kind", &self.kind)?;
        fields.serialize_field("frames", frames)?;
        fields.serialize_field("cut_off", cut_off)?;
        fields.serialize_field("interpreter", interpreter)
    }
}

impl Serialize for OpenedAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("OpenedAt", 4)?;
        self.fields(&mut fields)?;
        fields.end()
    }
}

impl Serialize for StackCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("StackCount", 5)?;
        fields.serialize_field("count", &self.count)?;
        if let Some(opened_at) = &self.opened_at {
            opened_at.fields(&mut fields)?;
        } else {
            for unknown in ["kind", "frames", "cut_off", "interpreter"] {
                fields.serialize_field(unknown, &None::<()>)?;
            }
        }
        fields.end()
    }
}

//! Records on their way, many at a time, in the very bytes that a recording stores.

use tcp_trace_core::record::Record;

/// Length (4 bytes), kind (2), zero (2), all little-endian.
const FRAME_HEADER: usize = 8;

/// Framed records.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u32,
}

/// A batch whose frames do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record at byte {0} of its block runs past the block's end")]
pub struct FrameError(pub usize);

impl Batch {
    /// Adds a record. One that is longer than 4 GiB cannot be and is dropped.
    pub fn push(&mut self, kind: u16, payload: &[u8]) {
        let Ok(length) = u32::try_from(payload.len()) else { return };
        let header = u64::from(length) | u64::from(kind) << 32;
        self.bytes.reserve(FRAME_HEADER + payload.len());
        self.bytes.extend_from_slice(&header.to_le_bytes());
        self.bytes.extend_from_slice(payload);
        self.records += 1;
    }

    /// An empty batch, in memory that another one has had.
    #[must_use]
    pub fn reusing(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes, records: 0 }
    }

    /// A batch from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>, records: u32) -> Self {
        Self { bytes, records }
    }

    /// The framed bytes, to be used for something else.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The framed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.records
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The records in order. An error is the last item.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, FrameError>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= self.bytes.len() {
                return None;
            }
            let Some((record, next)) = self.record(at) else {
                let error = FrameError(at);
                at = self.bytes.len();
                return Some(Err(error));
            };
            at = next;
            Some(Ok(record))
        })
    }

    fn record(&self, at: usize) -> Option<(Record<'_>, usize)> {
        let (header, rest) = self.bytes.get(at..)?.split_at_checked(FRAME_HEADER)?;
        let length = u32::from_le_bytes(*header.first_chunk()?) as usize;
        let kind = u16::from_le_bytes(*header.get(4..)?.first_chunk()?);
        let bytes = rest.get(..length)?;
        Some((Record { kind, bytes }, at + FRAME_HEADER + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_order() {
        let mut batch = Batch::default();
        batch.push(1, b"one");
        batch.push(2, b"");
        batch.push(3, b"three is longer");
        let kinds: Vec<_> =
            batch.records().map(|record| record.unwrap()).map(|r| (r.kind, r.bytes)).collect();
        assert_eq!(kinds, [(1, &b"one"[..]), (2, b""), (3, b"three is longer")]);
    }

    #[test]
    fn a_frame_past_the_end_is_the_last_item() {
        let mut batch = Batch::default();
        batch.push(1, b"first");
        batch.push(2, b"second");
        let cut = batch.as_bytes().len() - 4;
        let batch = Batch::from_bytes(batch.as_bytes()[..cut].to_vec(), 2);
        let records: Vec<_> = batch.records().collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[1], Err(FrameError(13)));
    }
}

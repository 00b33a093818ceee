//! Recordings: a session and its records, in a file.
//!
//! ```text
//! "TCPTRACE" version:u32 wire:u32 header_length:u32 header_crc:u32 header (JSON, the session)
//! then blocks: length:u32 records:u32 crc:u32 payload (framed records, see `source::Batch`)
//! ```
//!
//! All integers are little-endian; each CRC-32 is of the bytes it stands for. A recording that was not cut
//! off ends with a record of kind `END`. `docs/recording-format.md` is this for readers in other languages.

mod reader;
mod writer;

pub use reader::{Reader, RecordingError};
pub use writer::Writer;

use crate::new_file::What;

const MAGIC: [u8; 8] = *b"TCPTRACE";
/// Version of the container; the version of the records in it is `tcp_trace_common::WIRE_VERSION`.
const VERSION: u32 = 1;
/// What a file has to be that is replaced by one.
pub(crate) const FILE: What = What { name: "recording", beginning: &MAGIC };
/// No writer makes a longer header or block; a reader asked for more memory than this is being lied to.
const MAX_PART: u32 = 64 * 1024 * 1024;

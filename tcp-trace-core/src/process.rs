//! Processes: what identifies one, what it is called, and how sure we are that a socket is its.

use std::{borrow::Cow, cmp::Ordering, fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize, Serializer};
use zerocopy::{Immutable, IntoBytes, transmute};

/// Identifies a process for good: the kernel reuses pids, but not together with a start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// What users call the pid (the kernel's tgid).
    pub pid: u32,
    /// Start in nanoseconds since boot, to the hundredth of a second; `None` where the attach kind does not
    /// give it.
    pub start_ns: Option<u64>,
}

impl ProcessId {
    /// `/proc/PID/stat` tells a process's start in hundredths of a second (`USER_HZ`), the kernel programs in
    /// nanoseconds. Cut to what both know, the same process is equal to itself.
    const TICK_NS: u64 = 10_000_000;

    /// A process that started so many nanoseconds after boot.
    #[must_use]
    pub fn new(pid: u32, start_ns: Option<u64>) -> Self {
        Self { pid, start_ns: start_ns.map(|ns| ns - ns % Self::TICK_NS) }
    }
}

/// A process's name as the kernel keeps it: up to fifteen bytes, set by the process itself to whatever it
/// likes. Data from an adversary: [`fmt::Display`] escapes everything that could disturb a terminal.
///
/// No name begins with a NUL, so that an `Option` of one takes no more than the sixteen bytes. In two words, as they are
/// in memory: every event carries a name from one place to the next, and what was written as a byte and fifteen more
/// makes a processor wait that reads it as sixteen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, IntoBytes, Immutable)]
#[repr(C)]
pub struct Comm {
    first: NonZeroU64,
    rest: u64,
}

impl Comm {
    /// From the kernel's NUL-padded field; `None` when it is empty.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        let [first, rest]: [u64; 2] = transmute!(bytes);
        (bytes[0] != 0).then_some(Self { first: NonZeroU64::new(first)?, rest })
    }

    /// From a text such as `/proc/PID/comm`; `None` when it is empty. Longer names are cut as the kernel cuts them.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        for (byte, from) in bytes.iter_mut().zip(text.bytes().take(15)) {
            *byte = from;
        }
        Self::new(bytes)
    }

    /// The bytes before the first NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self).split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// As the bytes are.
impl Ord for Comm {
    fn cmp(&self, other: &Self) -> Ordering {
        let words = |comm: &Self| [comm.first.get().to_be(), comm.rest.to_be()];
        words(self).cmp(&words(other))
    }
}

impl PartialOrd for Comm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&String::from_utf8_lossy(self.as_bytes())))
    }
}

/// A text from elsewhere with everything escaped that could disturb a terminal.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_unsafe(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// The same of a text of several lines, which stay lines.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

/// Control characters, those that turn the direction of text or are invisible, and those that XML does not have.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Comm({self})")
    }
}

impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// How it is known that a socket belongs to a process, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerSource {
    /// It is not known.
    Unknown,
    /// Inferred: the process called `listen()` on the listener that the connection came in on. A worker may
    /// have accepted it since.
    Listen,
    /// Found by a look at the descriptors of all processes.
    Fd,
    /// The process called `connect()`.
    Connect,
    /// The process called `accept()` and got it, or was the first to read from it.
    Accept,
    /// The process was inside a system call on this very socket.
    Task,
}

impl OwnerSource {
    /// The name in JSON and elsewhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Listen => "listen",
            Self::Fd => "fd",
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Task => "task",
        }
    }
}

/// Whom a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process.
    pub process: ProcessId,
    /// Its name, where known.
    pub comm: Option<Comm>,
    /// How it is known.
    pub source: OwnerSource,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(text: &[u8]) -> Comm {
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text);
        Comm::new(bytes).unwrap()
    }

    #[test]
    fn names_are_in_the_order_of_their_bytes() {
        let names: [&[u8]; 6] = [b"a", b"a0", b"abcdefgh", b"abcdefghi", b"abcdefgz", b"b"];
        assert!(names.map(comm).is_sorted());
        assert_eq!(comm(b"b").max(comm(b"abcdefghijklmno")), comm(b"b"));
    }

    #[test]
    fn no_name_begins_with_a_nul() {
        assert_eq!(Comm::new(*b"\0bcdefghijklmno\0"), None);
        assert_eq!(size_of::<Option<Comm>>(), 16);
    }

    #[test]
    fn names_are_shown_as_they_are_when_harmless() {
        assert_eq!(comm(b"nginx: worker").to_string(), "nginx: worker");
        assert_eq!(comm("größe".as_bytes()).to_string(), "größe");
    }

    #[test]
    fn what_disturbs_a_terminal_is_escaped() {
        assert_eq!(comm(b"a\x1b[31mb\n").to_string(), "a\\u{1b}[31mb\\u{a}");
        assert_eq!(comm("a\u{202e}b".as_bytes()).to_string(), "a\\u{202e}b");
        assert_eq!(comm(b"a\xffb").to_string(), "a\u{fffd}b");
        assert_eq!(comm("\u{61c}\u{ffff}\u{e0041}".as_bytes()).to_string(), "\\u{61c}\\u{ffff}\\u{e0041}");
        assert_eq!(printable("a\nb"), "a\\u{a}b");
        assert_eq!(printable_lines("a\n\r\u{9b}b\n"), "a\n\\u{d}\\u{9b}b\n");
    }
}

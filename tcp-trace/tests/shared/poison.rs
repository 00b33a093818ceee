//! The committed recording with every name in it replaced by one: what a host would have told whose processes, containers, users,
//! namespaces, files and functions are all called that.

use std::{collections::BTreeMap, mem::offset_of, path::Path};

use serde_json::{Value, json};
use tcp_trace::{
    recording::Writer,
    source::{Batch, Replay},
};
use tcp_trace_common::event::{self, SocketUse, StateChange};
use tcp_trace_core::record::kind;

/// What every name begins with, by which it is recognised.
pub(crate) const MARK: &str = "zz";

/// Names that want to be more than names.
pub(crate) const HOSTILE: &[(&str, &[u8])] = &[
    ("terminal", b"\x1b]0;t\x07\x1b[31m\x1b[2J\r"),
    ("lines", b"\nx\r\n0 lost\x0b\x0c"),
    ("quotes", b"\"'`\\<&>,;={}[]|%s"),
    ("markup", b"</script><script>alert(1)</script><!-- ]]> &lt;"),
    ("exposition", b"\"} 1\nevil{x=\"y\\"),
    ("syslog", b"]\\\" <30>1 - - - - - -"),
    ("csv", b",\",=1+1,,"),
    ("nul", b"a\0b"),
    ("bidi", "\u{202e}\u{2066}\u{61c}x\u{2069}".as_bytes()),
    ("invisible", "\u{200b}\u{feff}\u{ad}\u{e0041}\u{2028}".as_bytes()),
    ("c1", "\u{9b}31m\u{85}\u{7f}".as_bytes()),
    ("nonsense", b"\xff\xfe\xc0\x80\xed\xa0\x80"),
    ("not in XML", "\u{ffff}\u{fffe}\u{fffd}".as_bytes()),
    ("wide", "\u{1f469}\u{200d}\u{1f4bb}\u{4e16}\u{301}\u{301}".as_bytes()),
    ("braces", b"{{7*7}}${x}%n{0}"),
];

/// A name of many thousand characters.
pub(crate) fn endless() -> Vec<u8> {
    b"long ".repeat(4_000)
}

/// As a text; what is no UTF-8 is replaced, as the program does it when it reads `/proc`.
pub(crate) fn text(name: &[u8]) -> String {
    MARK.to_owned() + &String::from_utf8_lossy(name)
}

/// As the kernel keeps it: fifteen bytes, up to the first NUL.
pub(crate) fn comm(name: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let name = name.split(|byte| *byte == 0).next().unwrap();
    for (byte, from) in bytes.iter_mut().take(15).zip(MARK.bytes().chain(name.iter().copied())) {
        *byte = from;
    }
    bytes
}

/// The texts of a document that others have chosen; what the program itself has chosen from a list stays.
pub(crate) fn poison(value: &mut Value, name: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| poison(item, name)),
        Value::Object(fields) => {
            let ours = ["runtime", "qos", "attach", "scope"];
            fields
                .iter_mut()
                .filter(|(key, _)| !ours.contains(&key.as_str()))
                .for_each(|(_, value)| poison(value, name));
        }
        Value::String(text) => *text = name.to_owned(),
        _ => {}
    }
}

/// The recording, with `name` in the place of every name.
pub(crate) fn poisoned(recording: &Path, name: &[u8]) -> Vec<u8> {
    let text = text(name);
    let (mut replay, mut session) = Replay::open(recording).unwrap();
    session.host.name.clone_from(&text);
    session.host.kernel.clone_from(&text);
    session.programs.push("stack_state".to_owned());
    for degradation in &mut session.degradations {
        (degradation.reason, degradation.remedy) = (text.clone(), Some(text.clone()));
    }
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &session).unwrap();
    let mut opened = BTreeMap::new();
    while let Some(batch) = replay.next_batch().unwrap() {
        let mut changed = Batch::default();
        for record in batch.records().map(Result::unwrap) {
            let mut payload = record.bytes.to_vec();
            match record.kind {
                kind::EVENT => rename(&mut payload, name, &mut opened),
                kind::FACTS | kind::SURVEY_END | kind::DEGRADATION => {
                    let mut value = serde_json::from_slice(&payload).unwrap();
                    poison(&mut value, &text);
                    payload = serde_json::to_vec(&value).unwrap();
                }
                kind::COUNTERS if !opened.is_empty() => {
                    changed.push(kind::STACKS, &stacks(&text, &std::mem::take(&mut opened)));
                }
                _ => {}
            }
            changed.push(record.kind, &payload);
        }
        writer.batch(&changed).unwrap();
    }
    bytes
}

/// Puts the name into an event of the kernel's that has one; notes when the socket was first seen.
fn rename(payload: &mut [u8], name: &[u8], opened: &mut BTreeMap<u64, u64>) {
    let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
    let at = match u16::from_le_bytes([payload[0], payload[1]]) {
        event::kind::STATE_CHANGE => {
            let time = word(offset_of!(StateChange, time_ns));
            opened.entry(word(offset_of!(StateChange, cookie))).or_insert(time);
            offset_of!(StateChange, comm)
        }
        event::kind::SOCKET_USE => offset_of!(SocketUse, comm),
        _ => return,
    };
    let field = &mut payload[at..at + 16];
    if field[0] != 0 {
        field.copy_from_slice(&comm(name));
    }
}

/// All of them opened in one place, whose functions and files have that name.
fn stacks(name: &str, opened: &BTreeMap<u64, u64>) -> Vec<u8> {
    let until = opened.values().max().map_or(0, |time| time + 1);
    let opened: Vec<_> = opened.iter().map(|(cookie, time)| json!([cookie, time, "accepted", 0])).collect();
    let frame =
        json!({"function": name, "module": name, "offset": 1, "file": name, "line": 7, "inlined": false});
    let stack = json!({"number": 0, "frames": [frame, frame], "cut_off": name, "interpreter": name});
    let facts = json!({"until": until, "stacks": [stack], "opened": opened, "lost": 0, "omitted": 0});
    serde_json::to_vec(&facts).unwrap()
}

/// Whether a character does something to who looks at it, or is not to be seen.
pub(crate) fn disturbs(c: char) -> bool {
    let [zero_width, marks, turns, isolates] =
        ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{fff9}'..='\u{fffb}'];
    c != '\n' && c.is_control()
        || [zero_width, marks, turns, isolates].iter().any(|range| range.contains(&c))
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[track_caller]
pub(crate) fn assert_harmless(what: &str, text: &str) {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| disturbs(*c)) {
        let from = text.floor_char_boundary(at.saturating_sub(200));
        panic!("{what}: U+{:04X} in {:?}", u32::from(c), &text[from..text.ceil_char_boundary(at + 50)]);
    }
}

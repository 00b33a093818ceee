//! User stacks: where a program opened a connection, symbolised when it happened. Texts in them are data from an
//! adversary.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What was found out about stacks since the last record of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFacts {
    /// Every connection opened before this has its stack here or in an earlier record, if it has one at all.
    pub until: Timestamp,
    /// Stacks that were not seen before.
    pub stacks: Vec<Stack>,
    /// Which connection was opened where, in the order of time.
    pub opened: Vec<Opening>,
    /// Stacks that found no room in the kernel's buffer, since the start.
    pub lost: u64,
    /// Stacks that found no room among those that are known, since the start.
    pub omitted: u64,
}

/// A connection was opened: cookie, when, in which call, number of the stack.
pub type Opening = (NonZeroU64, Timestamp, StackKind, u32);

/// A user stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Its number.
    pub number: u32,
    /// What is known of it.
    #[serde(flatten)]
    pub trace: Trace,
}

/// The functions that a task was in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Trace {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Why the outermost frame is not the program's beginning; `None` if it is.
    pub cut_off: Option<String>,
    /// The interpreter or virtual machine whose own functions these are, rather than those of the program it runs.
    pub interpreter: Option<String>,
}

/// A function in a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Its name, demangled; `None` where no symbol covers the place.
    pub function: Option<String>,
    /// The file that it was loaded from, as the process names it; `None` of memory that no file is behind.
    pub module: Option<String>,
    /// Where in that file's address space; the address itself where no file is behind it.
    pub offset: u64,
    /// Its source file, where there is debug information.
    pub file: Option<String>,
    /// The line in that.
    pub line: Option<u32>,
    /// It was inlined into the next one.
    pub inlined: bool,
}

/// In which call a stack was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackKind {
    /// `connect()`.
    Connected,
    /// `accept()`.
    Accepted,
    /// The first read of data from an accepted connection.
    FirstRead,
}

impl StackKind {
    /// As in "412 sockets, all *accepted at* …".
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Connected => "connected at",
            Self::Accepted => "accepted at",
            Self::FirstRead => "first read at",
        }
    }
}

impl Frame {
    /// The last part of the module's path.
    #[must_use]
    pub fn module_name(&self) -> Option<&str> {
        self.module.as_deref().map(base_name)
    }

    /// Whether this is the machinery by which programs call the kernel: the C library, and what Rust and Go have in its
    /// place. Nobody looks for his mistake there.
    #[must_use]
    pub fn is_plumbing(&self) -> bool {
        const LIBRARIES: [&str; 5] = ["libc.so", "libc-", "libpthread", "ld-musl-", "[vdso]"];
        const FUNCTIONS: [&str; 9] =
            ["std::", "<std::", "core::", "<core::", "alloc::", "syscall.", "internal/", "runtime.", "net.("];
        let module = self.module_name().unwrap_or_default();
        let function = self.function.as_deref().unwrap_or_default();
        LIBRARIES.iter().any(|name| module.starts_with(name))
            || FUNCTIONS.iter().any(|name| function.starts_with(name))
            || ["accept", "accept4", "connect", "read", "recv", "__libc_start_main"].contains(&function)
    }

    /// `handle_upload server.c:88`, or as much of it as is known.
    #[must_use]
    pub fn text(&self) -> String {
        let place = match (&self.file, self.line) {
            (Some(file), Some(line)) => format!(" {}:{line}", base_name(file)),
            (Some(file), None) => format!(" {}", base_name(file)),
            _ => String::new(),
        };
        match (&self.function, self.module_name()) {
            (Some(function), _) if !place.is_empty() => format!("{function}{place}"),
            (Some(function), Some(module)) => format!("{function} ({module})"),
            (Some(function), None) => function.clone(),
            (None, Some(module)) => format!("{module}+{:#x}", self.offset),
            (None, None) => format!("{:#x}", self.offset),
        }
    }
}

impl Trace {
    /// `handle_upload server.c:88 ← worker_main server.c:120`: the innermost `max` functions of the program itself.
    #[must_use]
    pub fn text(&self, max: usize) -> String {
        let skipped = self.frames.iter().position(|frame| !frame.is_plumbing()).unwrap_or(0);
        let shown: Vec<_> = self.frames.iter().skip(skipped).filter(|frame| !frame.is_plumbing()).collect();
        // A program of nothing but plumbing is shown as it is.
        let shown = if shown.is_empty() { self.frames.iter().collect() } else { shown };
        let mut text = shown.iter().take(max).map(|frame| frame.text()).collect::<Vec<_>>().join(" ← ");
        if shown.len() > max {
            text += " ← …";
        }
        text
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: &str, place: Option<(&str, u32)>) -> Frame {
        Frame {
            function: (!function.is_empty()).then(|| function.to_owned()),
            module: Some(module.to_owned()),
            offset: 0x1234,
            file: place.map(|(file, _)| file.to_owned()),
            line: place.map(|(_, line)| line),
            inlined: false,
        }
    }

    #[test]
    fn a_stack_reads_from_the_programs_own_innermost_function() {
        let trace = Trace {
            frames: vec![
                frame("accept", "/lib/x86_64-linux-gnu/libc.so.6", None),
                frame("std::net::tcp::TcpListener::accept", "/srv/app", Some(("net/tcp.rs", 3))),
                frame("handle_upload", "/srv/app", Some(("/src/server.c", 88))),
                frame("worker_main", "/srv/app", None),
                frame("", "/srv/plugin.so", None),
                frame("", "/lib/x86_64-linux-gnu/libc.so.6", None),
            ],
            cut_off: None,
            interpreter: None,
        };
        assert_eq!(trace.text(8), "handle_upload server.c:88 ← worker_main (app) ← plugin.so+0x1234");
        assert_eq!(trace.text(1), "handle_upload server.c:88 ← …");
    }

    #[test]
    fn a_stack_of_nothing_but_plumbing_is_shown_as_it_is() {
        let frames = vec![frame("accept", "/lib/libc.so.6", None)];
        assert_eq!(Trace { frames, cut_off: None, interpreter: None }.text(3), "accept (libc.so.6)");
    }

    #[test]
    fn facts_survive_a_recording() {
        let trace = Trace {
            frames: vec![frame("f", "/m", Some(("a.c", 1)))],
            cut_off: Some("why".to_owned()),
            interpreter: Some("CPython".to_owned()),
        };
        let facts = StackFacts {
            until: Timestamp(9),
            stacks: vec![Stack { number: 3, trace }],
            opened: vec![(NonZeroU64::MIN, Timestamp(8), StackKind::FirstRead, 3)],
            lost: 1,
            omitted: 2,
        };
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<StackFacts>(&text).unwrap(), facts);
    }
}

//! From a dump to functions with names. What is known of processes and files is kept, as long as it is not too much.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tcp_trace_common::stack::{COPY, StackDump};
use tcp_trace_core::{
    process::ProcessId,
    stack::{Frame, Trace},
};

use super::{
    module::Module,
    process::Memory,
    symbols::Symbols,
    unwind::{Code, End, Place, Walked, walk},
};

/// Processes whose memory map is kept.
const PROCESSES: usize = 1024;
/// Files that are kept open.
const MODULES: usize = 256;
/// Stacks, and places in files, of which the functions are kept.
const KNOWN: usize = 16_384;
/// A memory map is read again when an address is not in it, but not oftener.
const FRESH: Duration = Duration::from_millis(200);

/// A file, by device and inode.
type FileId = (u64, u64);

/// Turns dumps into traces.
#[derive(Debug)]
pub(super) struct Tracer {
    processes: FxHashMap<ProcessId, Process>,
    modules: FxHashMap<FileId, Option<Module>>,
    symbols: Symbols,
    /// By file and address in it.
    functions: FxHashMap<(FileId, u64), Vec<Frame>>,
    /// Of the addresses that a process was at.
    traces: FxHashMap<(ProcessId, Walked), Trace>,
}

/// A stack that was looked at.
#[derive(Debug)]
pub(super) enum Looked {
    /// Nothing is left to be found out.
    Told(Trace),
    /// Its functions have no names yet.
    Walked { key: (ProcessId, Walked), places: Vec<Located> },
}

/// An address.
#[derive(Debug)]
pub(super) struct Located {
    /// `None` where no file is behind it, or none that could be read.
    file: Option<FileId>,
    /// Without a name.
    frame: Frame,
}

#[derive(Debug)]
struct Process {
    /// `None` if it was gone.
    memory: Option<Memory>,
    read: Instant,
}

impl Tracer {
    pub(super) fn new() -> Self {
        Self {
            processes: FxHashMap::default(),
            modules: FxHashMap::default(),
            symbols: Symbols::new(),
            functions: FxHashMap::default(),
            traces: FxHashMap::default(),
        }
    }

    /// What can only be had as long as the process is there: quick, so that few are gone by then.
    pub(super) fn look(&mut self, process: ProcessId, dump: &StackDump) -> Looked {
        let mut walked = self.walk(process, dump);
        // It may have loaded a library since, or another program.
        if matches!(walked, None | Some(Walked { end: End::NotCode, .. })) && self.refresh(process) {
            walked = self.walk(process, dump);
        }
        let Some(walked) = walked else {
            return untold("the process was gone, or could not be looked at, before its stack was");
        };
        if walked.addresses.is_empty() {
            return untold("the process had no such code any more when its stack was looked at");
        }
        let key = (process, walked);
        if let Some(known) = self.traces.get(&key) {
            return Looked::Told(known.clone());
        }
        let places = key.1.addresses.iter().map(|address| self.locate(process, *address)).collect();
        Looked::Walked { key, places }
    }

    /// Names the functions.
    pub(super) fn name(&mut self, looked: Looked) -> Trace {
        let (key, places) = match looked {
            Looked::Told(trace) => return trace,
            Looked::Walked { key, places } => (key, places),
        };
        if let Some(known) = self.traces.get(&key) {
            return known.clone();
        }
        let mut frames = Vec::new();
        for (index, place) in places.into_iter().enumerate() {
            frames.extend(self.functions(place, index == 0));
        }
        let interpreter = frames.iter().find_map(interpreter).map(str::to_owned);
        let trace = Trace { cut_off: cut_off(key.1.end, frames.last()), frames, interpreter };
        if self.traces.len() >= KNOWN {
            self.traces.clear();
        }
        self.traces.insert(key, trace.clone());
        trace
    }

    /// `None` if the process cannot be looked at.
    fn walk(&mut self, process: ProcessId, dump: &StackDump) -> Option<Walked> {
        if self.processes.len() >= PROCESSES && !self.processes.contains_key(&process) {
            self.processes.clear();
        }
        if self.modules.len() >= MODULES {
            self.modules.clear();
            self.functions.clear();
            self.symbols = Symbols::new();
        }
        let read = || Process { memory: Memory::of(process), read: Instant::now() };
        let known = self.processes.entry(process).or_insert_with(read);
        let memory = known.memory.as_ref()?;
        Some(walk(dump, &mut Looking { pid: process.pid, memory, modules: &mut self.modules }))
    }

    /// Reads a process's memory map again, unless that was done just now. Returns whether it was.
    fn refresh(&mut self, process: ProcessId) -> bool {
        let Some(known) = self.processes.get_mut(&process) else { return false };
        if known.read.elapsed() < FRESH {
            return false;
        }
        known.read = Instant::now();
        let Some(memory) = Memory::of(process) else { return false };
        known.memory = Some(memory);
        true
    }

    /// Which file an address is in, and where.
    fn locate(&self, process: ProcessId, address: u64) -> Located {
        let nowhere = Located { file: None, frame: Frame { offset: address, ..Frame::default() } };
        let memory = self.processes.get(&process).and_then(|known| known.memory.as_ref());
        let Some(mapping) = memory.and_then(|memory| memory.at(address)) else { return nowhere };
        let module = Some(mapping.path.clone()).filter(|path| !path.is_empty());
        let known = mapping.file.and_then(|file| Some((file, self.modules.get(&file)?.as_ref()?)));
        let within = mapping.in_file(address);
        match known.and_then(|(file, module)| Some((file, module.address(within)?))) {
            Some((file, offset)) => {
                Located { file: Some(file), frame: Frame { module, offset, ..Frame::default() } }
            }
            None => Located { file: None, frame: Frame { module, ..nowhere.frame } },
        }
    }

    /// The functions at a place, innermost first.
    fn functions(&mut self, place: Located, innermost: bool) -> Vec<Frame> {
        let Located { file, frame } = place;
        let Some(file) = file else { return vec![frame] };
        let Some(Some(module)) = self.modules.get(&file) else { return vec![frame] };
        if self.functions.len() >= KNOWN {
            self.functions.clear();
        }
        let Self { functions, symbols, .. } = self;
        // A return address is behind its call, and may be that of the next function.
        let found = || symbols.functions(&module.path(), frame.offset.saturating_sub(u64::from(!innermost)));
        let found = functions.entry((file, frame.offset)).or_insert_with(found);
        if found.is_empty() {
            return vec![frame];
        }
        let Frame { module, offset, .. } = frame;
        let placed = |frame: &Frame| Frame { module: module.clone(), offset, ..frame.clone() };
        found.iter().map(placed).collect()
    }
}

/// A process's code, while it is walked.
struct Looking<'a> {
    pid: u32,
    memory: &'a Memory,
    modules: &'a mut FxHashMap<FileId, Option<Module>>,
}

impl Code for Looking<'_> {
    fn place(&mut self, address: u64, innermost: bool) -> Option<Place> {
        let mapping = self.memory.at(address)?;
        let unknown = Place { row: None, plausible: true };
        let Some(file) = mapping.file else { return Some(unknown) };
        let opened = self.modules.entry(file).or_insert_with(|| {
            let module = Module::open(mapping, self.pid);
            module.inspect_err(|error| log::info!("{}: {error:#}", mapping.path)).ok()
        });
        let Some(module) = opened else { return Some(unknown) };
        let offset = mapping.in_file(address);
        let plausible =
            if innermost { module.is_after_syscall(offset) } else { module.is_after_call(offset) };
        let at = module.address(offset)?;
        let row = module.row(if innermost { at } else { at.saturating_sub(1) });
        Some(Place { row, plausible: plausible != Some(false) })
    }
}

/// Of a stack of which nothing can be told.
fn untold(why: &str) -> Looked {
    Looked::Told(Trace { frames: Vec::new(), cut_off: Some(why.to_owned()), interpreter: None })
}

/// Why a stack ends before the program's beginning.
fn cut_off(end: End, last: Option<&Frame>) -> Option<String> {
    let name = last.map_or_else(|| "?".to_owned(), Frame::text);
    match end {
        End::Whole => None,
        // The C library calls `main` and what threads begin with from functions of its own that keep none.
        End::NoFramePointer { last: true } if last.is_some_and(is_c_library) => None,
        End::NoFramePointer { .. } => Some(format!(
            "built without frame pointers: {name} keeps none, and what called it is not among the {COPY} bytes of stack \
             that are copied"
        )),
        End::NotCode => Some(format!("what should be the caller of {name} is no return address")),
        End::Deep => Some("too deep to be followed to its end".to_owned()),
        End::NoRegisters => Some(
            "followed by frame pointers alone: who called its innermost function is missing, and so may be others that were \
             built without them"
                .to_owned(),
        ),
    }
}

fn is_c_library(frame: &Frame) -> bool {
    let name = frame.module_name().unwrap_or_default();
    ["libc.so", "libc-", "libpthread", "ld-musl-"].iter().any(|library| name.starts_with(library))
}

/// The interpreter or virtual machine that a frame belongs to.
fn interpreter(frame: &Frame) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 12] = [
        ("libpython", "CPython"),
        ("python", "CPython"),
        ("libnode", "Node.js"),
        ("node", "Node.js"),
        ("libjvm", "Java"),
        ("libruby", "Ruby"),
        ("ruby", "Ruby"),
        ("libphp", "PHP"),
        ("php", "PHP"),
        ("libperl", "Perl"),
        ("perl", "Perl"),
        ("libcoreclr", ".NET"),
    ];
    let name = frame.module_name()?;
    // `python3.11`, `libjvm.so`, `node`: not `python-helper`.
    let is = |prefix: &str| {
        let rest = name.strip_prefix(prefix)?;
        rest.chars().all(|c| c.is_ascii_digit() || c == '.' || rest.starts_with(".so")).then_some(())
    };
    let known = KNOWN.into_iter().find(|(prefix, _)| {
        is(prefix).is_some()
            || (prefix.starts_with("lib") && name.starts_with(prefix) && name.contains(".so"))
    });
    known.map(|(_, language)| language)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_module(module: &str) -> Frame {
        Frame { module: Some(module.to_owned()), ..Frame::default() }
    }

    #[test]
    fn interpreters_are_known_by_their_files() {
        let of = |module: &str| interpreter(&in_module(module));
        assert_eq!(of("/usr/bin/python3.11"), Some("CPython"));
        assert_eq!(of("/usr/lib/libpython3.11.so.1.0"), Some("CPython"));
        assert_eq!(of("/opt/node/bin/node"), Some("Node.js"));
        assert_eq!(of("/usr/lib/jvm/lib/server/libjvm.so"), Some("Java"));
        assert_eq!(of("/srv/python-helper"), None);
        assert_eq!(of("/srv/nodelet"), None);
        assert_eq!(of("/usr/lib/libc.so.6"), None);
    }

    #[test]
    fn a_stack_that_ends_in_the_c_library_is_whole() {
        let libc = in_module("/usr/lib/libc.so.6");
        assert_eq!(cut_off(End::NoFramePointer { last: true }, Some(&libc)), None);
        assert!(cut_off(End::NoFramePointer { last: false }, Some(&libc)).is_some(), "a callback of it");
        let own = in_module("/srv/app");
        let why = cut_off(End::NoFramePointer { last: true }, Some(&own)).unwrap();
        assert!(why.starts_with("built without frame pointers: app+0x0 keeps none"), "{why}");
    }
}

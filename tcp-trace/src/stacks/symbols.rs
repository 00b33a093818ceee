//! From an address in a file to functions, by its symbols and debug information.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use blazesym::symbolize::{
    CodeInfo, Input, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use tcp_trace_core::stack::Frame;

/// Bytes of a name that are kept: those of templates have no end.
const NAME: usize = 512;

/// Names functions. What it has read of a file it keeps, until it is dropped.
#[derive(Debug)]
pub(super) struct Symbols(RefCell<Symbolizer>);

fn symbolizer() -> Symbolizer {
    Symbolizer::builder().enable_auto_reload(false).build()
}

impl Symbols {
    pub(super) fn new() -> Self {
        Self(RefCell::new(symbolizer()))
    }

    /// The functions at an address of a file's own address space, innermost first: more than one where some were inlined.
    /// None where no symbol covers it.
    pub(super) fn functions(&self, path: &Path, address: u64) -> Vec<Frame> {
        // Executables are other people's, and not every reader of debug information expects the worst of it: blazesym 0.2.7
        // panics where a line names a file that its unit does not have.
        let look = AssertUnwindSafe(|| functions(&self.0.borrow(), path, address));
        catch_unwind(look).unwrap_or_else(|_panic| {
            // What it had half read is dropped with it.
            self.0.replace(symbolizer());
            log::warn!("{}: its debug information contradicts itself", path.display());
            Vec::new()
        })
    }
}

fn functions(symbolizer: &Symbolizer, path: &Path, address: u64) -> Vec<Frame> {
    let source = Source::Elf(Elf::new(path));
    let symbol = match symbolizer.symbolize_single(&source, Input::VirtOffset(address)) {
        Ok(Symbolized::Sym(symbol)) => symbol,
        Ok(Symbolized::Unknown(_)) => return Vec::new(),
        Err(error) => {
            log::info!("{}: {error:#}", path.display());
            return Vec::new();
        }
    };
    let mut frames = vec![frame(&symbol.name, symbol.code_info.as_deref(), false)];
    let inlined = symbol.inlined.iter();
    frames.extend(inlined.map(|inlined| frame(&inlined.name, inlined.code_info.as_ref(), true)));
    frames.reverse();
    frames
}

fn frame(name: &str, place: Option<&CodeInfo<'_>>, inlined: bool) -> Frame {
    Frame {
        function: Some(short(name)),
        file: place.map(|place| short(&place.to_path().to_string_lossy())),
        line: place.and_then(|place| place.line),
        inlined,
        ..Frame::default()
    }
}

fn short(text: &str) -> String {
    text.chars().take(NAME).collect()
}

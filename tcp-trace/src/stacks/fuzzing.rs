//! Doors for the fuzz targets (`tcp-trace/fuzz`): executable files, memory maps and stacks are whatever the processes that
//! are traced have made of them.

use std::fs::File;

use tcp_trace_common::stack::StackDump;
use tcp_trace_core::stack::Frame;

use super::{
    module::{Cfa, Module, Row},
    process::Memory,
    symbols::Symbols,
    unwind::{Code, Place, walk},
};

/// Reads an executable file, and looks for the rows of its unwind tables at these addresses. Returns how many there were.
///
/// # Errors
///
/// If it is none.
pub fn executable(file: File, addresses: &[u64]) -> anyhow::Result<usize> {
    let mut module = Module::read(file)?;
    let mut rows = 0;
    for address in addresses {
        let at = module.address(*address);
        let _ = (module.is_after_call(*address), module.is_after_syscall(*address));
        rows += usize::from(module.row(at.unwrap_or(*address)).is_some());
    }
    Ok(rows)
}

/// The functions at an address of a file, as its own symbols and debug information have them.
#[must_use]
pub fn functions(path: &std::path::Path, address: u64) -> Vec<Frame> {
    Symbols::new().functions(path, address)
}

/// Start and end of the mapping that an address is in, by a `/proc/PID/maps`.
#[must_use]
pub fn mapping(maps: &str, address: u64) -> Option<(u64, u64)> {
    Memory::parse(maps).at(address).map(|mapping| (mapping.start, mapping.end))
}

/// Follows a stack through code that is what its addresses say. Returns how many frames there were.
#[must_use]
pub fn frames(dump: &StackDump) -> usize {
    walk(dump, &mut Imagined).addresses.len()
}

/// Code of which each address tells its own row, so that any bytes are a program.
struct Imagined;

impl Code for Imagined {
    fn place(&mut self, address: u64, _innermost: bool) -> Option<Place> {
        let offset = i64::from((address >> 8) as i8) * 8;
        let row = |cfa, bp_at| Some(Row { cfa, return_at: Some(-8), bp_at });
        let row = match address & 7 {
            0 => None,
            1 => row(Cfa::Sp(offset), None),
            2 => row(Cfa::Bp(16), Some(-16)),
            3 => row(Cfa::Bp(offset), Some(offset)),
            4 => row(Cfa::Sp(i64::MIN), Some(i64::MAX)),
            5 => Some(Row { cfa: Cfa::Bp(i64::MAX), return_at: Some(i64::MAX), bp_at: None }),
            6 => Some(Row { cfa: Cfa::Sp(8), return_at: None, bp_at: None }),
            _ => return None,
        };
        Some(Place { row, plausible: true })
    }
}

//! The programs' loads from kernel structs: the running kernel's offsets take the places of placeholders.
//!
//! What CO-RE relocations do for programs in C; rustc emits none.

use anyhow::{Context as _, anyhow};
use object::{Object as _, ObjectSection as _, SectionKind};
use tcp_trace_common::config::{MISSING, Offsets, placeholder};
use zerocopy::IntoBytes as _;

/// Bytes of an instruction; one that loads a constant of 64 bits is two of them (`struct bpf_insn`,
/// `include/uapi/linux/bpf.h`).
const INSTRUCTION: usize = 8;
const LOAD_CONSTANT: u8 = 0x18;
/// Class and mode of a load from memory, and the bits that tell.
const LOAD: u8 = 0x61;
const CLASS_AND_MODE: u8 = 0xe7;

/// A copy of the object, aligned as its reader wants it.
pub(super) struct Filled {
    words: Vec<u64>,
    length: usize,
}

impl Filled {
    /// Copies `object` and fills the offsets in. A placeholder of a member that this kernel does not have stays: no branch
    /// that is taken leads there, and the verifier would refuse it.
    ///
    /// # Errors
    ///
    /// If it is no object file, or an offset is larger than an instruction can hold.
    pub(super) fn new(object: &[u8], offsets: &Offsets) -> anyhow::Result<Self> {
        let mut filled =
            Self { words: vec![0; object.len().div_ceil(size_of::<u64>())], length: object.len() };
        filled.words.as_mut_bytes()[..object.len()].copy_from_slice(object);
        let file = object::File::parse(object).context("reading the eBPF object")?;
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let Some((start, length)) = section.file_range() else { continue };
            let range = usize::try_from(start)?..usize::try_from(start + length)?;
            let code = filled.words.as_mut_bytes().get_mut(range);
            fill(code.ok_or_else(|| anyhow!("the eBPF object is cut off"))?, offsets)?;
        }
        Ok(filled)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }
}

/// Fills the offsets into the instructions of a section.
fn fill(code: &mut [u8], offsets: &Offsets) -> anyhow::Result<()> {
    let offsets: &[u32] = zerocopy::transmute_ref!(offsets);
    let mut instructions = code.chunks_exact_mut(INSTRUCTION);
    while let Some(instruction) = instructions.next() {
        let [operation, _, low, high, ..] = instruction else { break };
        if *operation == LOAD_CONSTANT {
            instructions.next();
        }
        let found = placeholder::field(i16::from_le_bytes([*low, *high]));
        let Some((field, within)) = found.filter(|_| *operation & CLASS_AND_MODE == LOAD) else { continue };
        match offsets.get(field) {
            None | Some(&MISSING) => {}
            Some(offset) => {
                let offset = i16::try_from(offset + within).with_context(|| {
                    format!("a member is {offset} bytes from the beginning of its struct")
                })?;
                [*low, *high] = offset.to_le_bytes();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    /// An instruction: operation, registers, offset; its constant is 0.
    fn instruction(operation: u8, offset: i16) -> [u8; INSTRUCTION] {
        let [low, high] = offset.to_le_bytes();
        [operation, 0x21, low, high, 0, 0, 0, 0]
    }

    #[test]
    fn only_placeholders_of_loads_are_filled() {
        let at = placeholder::of(offset_of!(Offsets, skc_daddr));
        let missing = placeholder::of(offset_of!(Offsets, total_rto));
        let offsets = Offsets { skc_daddr: 1234, ..Offsets::NONE };
        let (load, store) = (0x79, 0x7b);
        let before = [
            instruction(load, at),
            instruction(load, at + 8),
            instruction(0x61, 16),
            instruction(store, at),
            instruction(load, missing),
            instruction(LOAD_CONSTANT, 0),
            // The second half of a constant, which only looks like a load.
            instruction(load, at),
            instruction(0x71, at),
        ];
        let mut code = before.concat();
        fill(&mut code, &offsets).unwrap();
        let mut expected = before;
        expected[0] = instruction(load, 1234);
        expected[1] = instruction(load, 1242);
        expected[7] = instruction(0x71, 1234);
        assert_eq!(code, expected.concat());
    }

    #[test]
    fn an_offset_that_fits_no_instruction_is_an_error() {
        let at = placeholder::of(offset_of!(Offsets, skc_daddr));
        let offsets = Offsets { skc_daddr: 40_000, ..Offsets::NONE };
        assert!(fill(&mut instruction(0x79, at), &offsets).is_err());
    }

    #[test]
    fn every_placeholder_of_the_object_has_a_field() {
        let object = super::super::loading::OBJECT;
        if object.is_empty() {
            return;
        }
        let size = size_of::<Offsets>() / size_of::<u32>();
        let known: Vec<u32> = (0..size as u32).map(|field| 100 + field).collect();
        let words: [u32; size_of::<Offsets>() / 4] = known.try_into().unwrap();
        let filled = Filled::new(object, &zerocopy::transmute!(words)).unwrap();
        assert_ne!(filled.as_bytes(), object);
        assert_eq!(Filled::new(object, &Offsets::NONE).unwrap().as_bytes(), object);
    }
}

//! From a dump to return addresses.
//!
//! The kernel follows frame pointers, which is right as long as every function keeps one. Which ones do, their unwind tables
//! tell (`.eh_frame`): so each frame is taken by its table from the piece of stack that was copied, and behind that from the
//! kernel's chain, as long as that can be trusted. Where neither goes on, the stack is cut off, and that is said.

use tcp_trace_common::stack::StackDump;

use super::module::{Cfa, Row};

/// Frames of a stack, inlined functions not counted.
pub(super) const DEPTH: usize = 64;

/// What there is at an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// How to find the caller; `None` without a table.
    pub(super) row: Option<Row>,
    /// Whether the instruction before it is a call or, of the innermost function, a system call.
    pub(super) plausible: bool,
}

/// Knows the process's code.
pub(super) trait Code {
    /// What is there; `None` if it is nothing that can be executed.
    fn place(&mut self, address: u64, innermost: bool) -> Option<Place>;
}

/// Why a stack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// It is whole.
    Whole,
    /// The last function keeps no frame pointer, and the copy ends within its frame. `last` if frame pointers lead no
    /// further anyway.
    NoFramePointer { last: bool },
    /// What comes next is no return address.
    NotCode,
    /// It is deeper than anybody wants to know.
    Deep,
    /// The registers are not known, so that who has called the innermost function is not.
    NoRegisters,
}

/// A stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Walked {
    /// Return addresses, innermost first; the first is where the kernel was entered.
    pub(super) addresses: Vec<u64>,
    pub(super) end: End,
}

/// Follows a stack.
pub(super) fn walk(dump: &StackDump, code: &mut impl Code) -> Walked {
    let chain = dump.frames.split(|address| *address == 0).next().unwrap_or_default();
    // Where the registers are guessed, this tells whether they are right.
    if dump.ip == 0 || chain.first() != Some(&dump.ip) {
        return by_chain(chain, code);
    }
    let copied = dump.stack.get(..dump.copied as usize).unwrap_or_default();
    let stack = Stack { from: dump.sp, copied, chain };
    let mut at = At { address: dump.ip, sp: Some(dump.sp), bp: Some(dump.bp), link: Some(0) };
    let mut addresses = Vec::new();
    let end = loop {
        if addresses.len() == DEPTH {
            break End::Deep;
        }
        let place = code.place(at.address, addresses.is_empty());
        let Some(Place { row, .. }) = place.filter(|place| place.plausible) else { break End::NotCode };
        addresses.push(at.address);
        let next = match row {
            Some(row) => stack.caller(at, row),
            None => stack.caller_by_frame_pointer(at),
        };
        match next {
            Ok(next) if next.address == 0 => break End::Whole,
            Ok(next) => at = next,
            Err(end) => break end,
        }
    };
    Walked { addresses, end }
}

/// What frame pointers alone say.
fn by_chain(chain: &[u64], code: &mut impl Code) -> Walked {
    let mut addresses = Vec::new();
    for address in chain {
        if !code.place(*address, addresses.is_empty()).is_some_and(|place| place.plausible) {
            break;
        }
        addresses.push(*address);
    }
    Walked { addresses, end: End::NoRegisters }
}

/// A frame.
#[derive(Clone, Copy, Debug)]
struct At {
    address: u64,
    sp: Option<u64>,
    bp: Option<u64>,
    /// Which frame of the kernel's chain the frame pointer leads on from, if it is one of them.
    link: Option<usize>,
}

struct Stack<'a> {
    from: u64,
    copied: &'a [u8],
    chain: &'a [u64],
}

impl Stack<'_> {
    /// A word of the stack; `None` if it was not copied.
    fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.from)?).ok()?;
        self.copied.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
    }

    /// The caller, by the function's table.
    fn caller(&self, at: At, row: Row) -> Result<At, End> {
        let Row { cfa, return_at, bp_at } = row;
        let Some(return_at) = return_at else { return Err(End::Whole) };
        let frame = match cfa {
            Cfa::Sp(offset) => at.sp.and_then(|sp| sp.checked_add_signed(offset)),
            Cfa::Bp(offset) => at.bp.and_then(|bp| bp.checked_add_signed(offset)),
        };
        let keeps_pointer = cfa == Cfa::Bp(16) && bp_at == Some(-16) && return_at == -8;
        let address = frame.and_then(|frame| self.word(frame.checked_add_signed(return_at)?));
        if let (Some(frame), Some(address)) = (frame, address) {
            let (bp, link) = match bp_at {
                None => (at.bp, at.link),
                Some(offset) => {
                    let bp = frame.checked_add_signed(offset).and_then(|place| self.word(place));
                    (bp, at.link.filter(|_| keeps_pointer).map(|link| link + 1))
                }
            };
            return Ok(At { address, sp: Some(frame), bp, link });
        }
        match at.link {
            Some(link) if keeps_pointer => self.follow(link, frame),
            link => Err(End::NoFramePointer { last: link.is_some_and(|link| self.chain.len() <= link + 1) }),
        }
    }

    /// The caller, by the frame pointer: of a function without a table.
    fn caller_by_frame_pointer(&self, at: At) -> Result<At, End> {
        let words = at.bp.and_then(|bp| Some((self.word(bp)?, self.word(bp.checked_add(8)?)?)));
        if let (Some((bp, address)), Some(frame)) = (words, at.bp) {
            let link = at.link.map(|link| link + 1);
            return Ok(At { address, sp: frame.checked_add(16), bp: Some(bp), link });
        }
        match at.link {
            Some(link) => self.follow(link, at.bp.and_then(|bp| bp.checked_add(16))),
            None => Err(End::NoFramePointer { last: false }),
        }
    }

    /// Goes on by the kernel's chain.
    fn follow(&self, link: usize, frame: Option<u64>) -> Result<At, End> {
        let address = *self.chain.get(link + 1).ok_or(End::Whole)?;
        Ok(At { address, sp: frame, bp: None, link: Some(link + 1) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tcp_trace_common::stack::{COPY, FRAMES, how};
    use zerocopy::FromZeros as _;

    use super::*;

    struct Known(HashMap<u64, Option<Row>>);

    impl Code for Known {
        fn place(&mut self, address: u64, _innermost: bool) -> Option<Place> {
            self.0.get(&address).map(|row| Place { row: *row, plausible: true })
        }
    }

    const WITHOUT: fn(i64) -> Option<Row> =
        |size| Some(Row { cfa: Cfa::Sp(size), return_at: Some(-8), bp_at: None });
    const WITH: Option<Row> = Some(Row { cfa: Cfa::Bp(16), return_at: Some(-8), bp_at: Some(-16) });
    const LAST: Option<Row> = Some(Row { cfa: Cfa::Sp(8), return_at: None, bp_at: None });
    const SP: u64 = 0x7000;

    fn dump(words: &[(u64, u64)], bp: u64, copied: usize, chain: &[u64]) -> StackDump {
        let mut dump = StackDump::new_zeroed();
        (dump.how, dump.ip, dump.sp, dump.bp) = (how::ACCEPT, 1, SP, bp);
        dump.copied = u32::try_from(copied.min(COPY)).unwrap();
        for (at, word) in words {
            let at = usize::try_from(at - SP).unwrap();
            dump.stack[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        dump.frames[..chain.len().min(FRAMES)].copy_from_slice(chain);
        dump
    }

    fn walk_with(dump: &StackDump, code: &[(u64, Option<Row>)]) -> (Vec<u64>, End) {
        let Walked { addresses, end } = walk(dump, &mut Known(code.iter().copied().collect()));
        (addresses, end)
    }

    /// The C library's function keeps no frame pointer, so that the kernel's chain lacks who has called it: 2.
    #[test]
    fn the_caller_of_a_function_without_frame_pointer_is_found() {
        let stack = [(SP, 2), (SP + 0x40, SP + 0x80), (SP + 0x48, 3)];
        let dump = dump(&stack, SP + 0x40, COPY, &[1, 3, 4]);
        let code = [(1, WITHOUT(8)), (2, WITH), (3, LAST)];
        assert_eq!(walk_with(&dump, &code), (vec![1, 2, 3], End::Whole));
    }

    #[test]
    fn behind_the_copy_the_chain_leads_on_as_long_as_functions_keep_frame_pointers() {
        // 2 has a frame larger than the copy.
        let dump = dump(&[(SP, 2)], SP + 0x4000, 256, &[1, 3, 4]);
        let code = [(1, WITHOUT(8)), (2, WITH), (3, WITH), (4, LAST)];
        assert_eq!(walk_with(&dump, &code), (vec![1, 2, 3, 4], End::Whole));
        let code = [(1, WITHOUT(8)), (2, WITH), (3, WITHOUT(0x20)), (4, LAST)];
        let cut = End::NoFramePointer { last: false };
        assert_eq!(walk_with(&dump, &code), (vec![1, 2, 3], cut));
    }

    #[test]
    fn a_chain_that_functions_without_frame_pointers_made_is_not_believed() {
        // What 2 has in that register is no frame pointer, although the kernel finds something behind it.
        let dump = dump(&[(SP, 2)], SP + 0x4000, 256, &[1, 9, 9]);
        let code = [(1, WITHOUT(8)), (2, WITHOUT(0x5000)), (9, LAST)];
        assert_eq!(walk_with(&dump, &code), (vec![1, 2], End::NoFramePointer { last: false }));
    }

    #[test]
    fn without_frame_pointers_the_copy_is_enough_for_small_frames() {
        let stack = [(SP, 2), (SP + 0x18, 3), (SP + 0x40, 4)];
        let dump = dump(&stack, 0, COPY, &[1]);
        let code = [(1, WITHOUT(8)), (2, WITHOUT(0x18)), (3, WITHOUT(0x28)), (4, LAST)];
        assert_eq!(walk_with(&dump, &code), (vec![1, 2, 3, 4], End::Whole));
    }

    #[test]
    fn what_is_no_return_address_is_not_told() {
        let dump = dump(&[(SP, 77)], 0, COPY, &[1]);
        assert_eq!(walk_with(&dump, &[(1, WITHOUT(8))]), (vec![1], End::NotCode));
    }

    #[test]
    fn without_registers_the_chain_is_all_there_is() {
        let mut dump = dump(&[], 0, 0, &[1, 3, 4]);
        dump.ip = 0;
        let code = [(1, WITHOUT(8)), (3, WITH), (4, LAST)];
        assert_eq!(walk_with(&dump, &code), (vec![1, 3, 4], End::NoRegisters));
    }

    #[test]
    fn a_frame_that_leads_to_itself_comes_to_an_end() {
        let dump = dump(&[(SP, SP), (SP + 8, 2)], SP, COPY, &[1]);
        let (addresses, end) = walk_with(&dump, &[(1, None), (2, None)]);
        assert_eq!((addresses.len(), end), (DEPTH, End::Deep));
    }
}

//! Executable files: how a function's frame is laid out (`.eh_frame`), and what bytes stand before an address.

use std::{
    fs::File,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::PathBuf,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection as _, X86_64,
};
use object::{
    Endianness,
    elf::{FileHeader64, PT_GNU_EH_FRAME, PT_LOAD},
    read::elf::{FileHeader as _, ProgramHeader as _},
};
use rustc_hash::FxHashMap;

use super::process::Mapping;

/// Program headers stand at the beginning.
const HEADERS: usize = 16 * 1024;
/// The largest unwind tables that are read: those of browsers are some 20 MiB.
const TABLES: u64 = 64 << 20;
/// Places of one file whose rows are remembered.
const ROWS: usize = 16_384;

/// An executable file that a process has mapped. It stays open, so that it can be read when the process is gone.
#[derive(Debug)]
pub(super) struct Module {
    file: File,
    loads: Vec<Load>,
    unwind: Option<Unwind>,
    rows: FxHashMap<u64, Option<Row>>,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug)]
struct Load {
    offset: u64,
    address: u64,
    length: u64,
}

/// `.eh_frame` and the table by which it is searched.
#[derive(Debug)]
struct Unwind {
    header: Vec<u8>,
    header_at: u64,
    frames: Vec<u8>,
    frames_at: u64,
}

/// How to find the caller from one place of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Where the caller's frame begins.
    pub(super) cfa: Cfa,
    /// Where the return address is, from there; `None` in the outermost function.
    pub(super) return_at: Option<i64>,
    /// Where the caller's frame pointer is, from there; `None` where it is still in its register.
    pub(super) bp_at: Option<i64>,
}

/// Where the caller's frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cfa {
    /// So far from the stack pointer.
    Sp(i64),
    /// So far from the frame pointer.
    Bp(i64),
}

impl Module {
    /// Opens the file of a mapping, if it is still the one that was mapped.
    pub(super) fn open(mapping: &Mapping, pid: u32) -> anyhow::Result<Self> {
        let names = mapping.names(pid);
        let mut last = anyhow!("no file");
        for name in &names {
            match File::open(name).with_context(|| name.display().to_string()) {
                Ok(file) if is_same(&file, mapping) => return Self::read(file),
                Ok(_) => last = anyhow!("{}: it has been replaced", name.display()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads what is needed to unwind through it.
    pub(super) fn read(file: File) -> anyhow::Result<Self> {
        let mut headers = vec![0; HEADERS];
        let length = file.read_at(&mut headers, 0)?;
        headers.truncate(length);
        let elf = FileHeader64::<Endianness>::parse(headers.as_slice())
            .map_err(|error| anyhow!("not a 64-bit ELF file: {error}"))?;
        let endian = elf.endian()?;
        let programs = elf.program_headers(endian, headers.as_slice())?;
        let loads = programs.iter().filter(|program| program.p_type(endian) == PT_LOAD).map(|program| Load {
            offset: program.p_offset(endian),
            address: program.p_vaddr(endian),
            length: program.p_filesz(endian),
        });
        let loads: Vec<_> = loads.collect();
        let table = programs.iter().find(|program| program.p_type(endian) == PT_GNU_EH_FRAME);
        let table = table.map(|program| (program.p_vaddr(endian), program.p_filesz(endian)));
        let mut module = Self { file, loads, unwind: None, rows: FxHashMap::default() };
        if let Some((at, length)) = table
            && cfg!(target_arch = "x86_64")
        {
            module.unwind = module.unwind(at, length).inspect_err(|error| log::info!("{error:#}")).ok();
        }
        Ok(module)
    }

    /// A name by which this process can open the file anew.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// The address, in the file's own address space, of what is at so many bytes from its beginning.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        let place = |load: &Load| {
            let within = offset.checked_sub(load.offset).filter(|within| *within < load.length)?;
            load.address.checked_add(within)
        };
        self.loads.iter().find_map(place)
    }

    /// Whether the bytes before this place in the file are a call, which returns to it; `None` if they cannot be read.
    pub(super) fn is_after_call(&self, offset: u64) -> Option<bool> {
        let mut bytes = [0; 7];
        self.file.read_exact_at(&mut bytes, offset.checked_sub(7)?).ok()?;
        Some(is_call(bytes))
    }

    /// Whether the bytes before this place in the file are a system call.
    pub(super) fn is_after_syscall(&self, offset: u64) -> Option<bool> {
        let mut bytes = [0; 2];
        self.file.read_exact_at(&mut bytes, offset.checked_sub(2)?).ok()?;
        Some(matches!(bytes, [0x0f, 0x05 | 0x34] | [0xcd, 0x80]))
    }

    /// How to unwind from an address of the file's own address space.
    pub(super) fn row(&mut self, address: u64) -> Option<Row> {
        if let Some(row) = self.rows.get(&address) {
            return *row;
        }
        let row = self.unwind.as_ref().and_then(|unwind| unwind.row(address));
        if self.rows.len() >= ROWS {
            self.rows.clear();
        }
        self.rows.insert(address, row);
        row
    }

    fn unwind(&self, header_at: u64, length: u64) -> anyhow::Result<Unwind> {
        let (header, _) = self.loaded(header_at, Some(length))?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header_at);
        let parsed = EhFrameHdr::new(&header, LittleEndian).parse(&bases, 8)?;
        let gimli::Pointer::Direct(frames_at) = parsed.eh_frame_ptr() else { bail!("an indirect .eh_frame") };
        // To the end of what is loaded there: an entry of length 0 ends the section before that.
        let (frames, _) = self.loaded(frames_at, None)?;
        Ok(Unwind { header, header_at, frames, frames_at })
    }

    /// What is loaded at an address: so many bytes, or to the end of the part.
    fn loaded(&self, address: u64, length: Option<u64>) -> anyhow::Result<(Vec<u8>, u64)> {
        let place = |load: &Load| {
            let within = address.checked_sub(load.address).filter(|within| *within < load.length)?;
            Some((*load, within))
        };
        let (load, within) = self
            .loads
            .iter()
            .find_map(place)
            .ok_or_else(|| anyhow!("{address:#x} is in no part of the file that is loaded"))?;
        let rest = load.length - within;
        let length = length.unwrap_or(rest).min(rest);
        ensure!(length <= TABLES, "unwind tables of {length} bytes");
        let mut bytes = vec![0; usize::try_from(length)?];
        self.file.read_exact_at(&mut bytes, load.offset.wrapping_add(within))?;
        Ok((bytes, address))
    }
}

/// Whether it is the very file that was mapped. The kernel shows other device numbers in maps than `stat` does on some
/// file systems (btrfs, overlayfs); then the inode has to do.
fn is_same(file: &File, mapping: &Mapping) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    metadata.is_file() && mapping.file.is_some_and(|(_, inode)| inode == metadata.ino())
}

/// Whether bytes end with a call: `e8` and 4 bytes, or `ff /2` in any of its lengths.
fn is_call(bytes: [u8; 7]) -> bool {
    let [a, b, c, _, d, e, f] = bytes;
    let indirect = |opcode: u8, operand: u8| opcode == 0xff && operand >> 3 & 7 == 2;
    c == 0xe8 || indirect(e, f) || indirect(d, e) || indirect(bytes[3], d) || indirect(b, c) || indirect(a, b)
}

impl Unwind {
    fn row(&self, address: u64) -> Option<Row> {
        let Self { header, header_at, frames, frames_at } = self;
        let bases = BaseAddresses::default().set_eh_frame_hdr(*header_at).set_eh_frame(*frames_at);
        let parsed = EhFrameHdr::new(header, LittleEndian).parse(&bases, 8).ok()?;
        let frames = EhFrame::new(frames, LittleEndian);
        let mut context = UnwindContext::new();
        let row = parsed.table()?.unwind_info_for_address(
            &frames,
            &bases,
            &mut context,
            address,
            EhFrame::cie_from_offset,
        );
        let row = row.ok()?;
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } if *register == X86_64::RSP => Cfa::Sp(*offset),
            CfaRule::RegisterAndOffset { register, offset } if *register == X86_64::RBP => Cfa::Bp(*offset),
            _ => return None,
        };
        let at = |register: Register| match row.register(register) {
            Some(RegisterRule::Offset(offset)) => Some(Some(offset)),
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Some(None),
            Some(_) => None,
        };
        Some(Row { cfa, return_at: at(X86_64::RA)?, bp_at: at(X86_64::RBP)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a file whose headers lie, nothing is at an address that only lies behind the end of all addresses.
    #[test]
    fn a_part_at_the_end_of_all_addresses_holds_what_is_in_it() {
        let file = File::open("/dev/null").unwrap();
        let loads = vec![Load { offset: u64::MAX - 1, address: u64::MAX - 1, length: 16 }];
        let module = Module { file, loads, unwind: None, rows: FxHashMap::default() };
        assert_eq!(module.address(u64::MAX), Some(u64::MAX));
        assert_eq!(module.address(3), None);
        assert!(module.loaded(3, None).is_err());
    }

    #[test]
    fn calls_are_told_from_other_bytes() {
        assert!(is_call([0x90, 0x90, 0xe8, 1, 2, 3, 4]), "call rel32");
        assert!(is_call([0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0]), "call *%rax");
        assert!(is_call([0x90, 0xff, 0x15, 1, 2, 3, 4]), "call *rel(%rip)");
        assert!(is_call([0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18]), "call *24(%rax)");
        assert!(!is_call([0x90, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x05]), "syscall");
        assert!(!is_call([0x90; 7]));
    }
}

//! A lean BTF reader: from raw `/sys/kernel/btf/vmlinux` to the offset and size of a struct member.
//!
//! Member paths are resolved as C does it: through anonymous structs and unions, typedefs and qualifiers.
//! The types are walked once without being built into anything, which takes milliseconds for a kernel's
//! hundred thousand of them. The format is frozen ABI (`include/uapi/linux/btf.h`); the bytes are still
//! treated as hostile, because a BTF file may come from anywhere.

use std::fmt;

/// Where a member lies in its outermost struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the struct.
    pub offset: u32,
    /// Bytes it takes.
    pub size: u32,
    /// Of a bit field: its first bit, counted from the start of the struct, and how many it has.
    pub bits: Option<(u32, u32)>,
}

/// Why BTF could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfError {
    /// Not BTF, or of the other byte order.
    BadMagic,
    /// A section or type runs past the end at this offset.
    Truncated(usize),
    /// A type kind that did not exist when this was written, at this offset.
    UnknownKind(u32, usize),
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic => write!(f, "not BTF of this machine's byte order"),
            Self::Truncated(at) => write!(f, "BTF ends in the middle of something at byte {at}"),
            Self::UnknownKind(kind, at) => write!(f, "unknown BTF type kind {kind} at byte {at}"),
        }
    }
}

impl std::error::Error for BtfError {}

/// A type's kind (`enum btf_kind`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

const MAGIC: u32 = 0xeb9f;
/// Deeper than any chain of typedefs or nested anonymous structs in a kernel; ends cycles in broken input.
const MAX_DEPTH: u32 = 32;

/// Members that are looked at for one that is wanted: many times those of the largest struct of a kernel. Anonymous structs
/// of broken input may lead to each other in more ways than anybody can follow.
const MAX_MEMBERS: u32 = 1 << 16;

/// The type section of a BTF blob, indexed.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Start of type id n at index n - 1 (id 0 is `void`).
    starts: Vec<u32>,
}

/// The fixed head of every type.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    size_or_type: u32,
    /// Where what follows the head begins.
    body: usize,
}

/// A member of a struct: its first bit, its width in bits if it is a bit field (else 0), its type.
#[derive(Clone, Copy)]
struct Place {
    bit: u32,
    width: u32,
    type_id: u32,
}

impl Type {
    fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn vlen(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// In a struct with this flag the top byte of a member's offset is a bitfield size.
    fn kind_flag(self) -> bool {
        self.info >> 31 != 0
    }
}

impl<'a> Btf<'a> {
    /// Reads the header and walks all types once.
    ///
    /// # Errors
    ///
    /// If this is not BTF, is cut short, or holds a kind of type that is not known.
    pub fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        if word(data, 0)? & 0xffff != MAGIC {
            return Err(BtfError::BadMagic);
        }
        let header = word(data, 4)? as usize;
        let section = |at: usize| -> Result<&'a [u8], BtfError> {
            let start = header.saturating_add(word(data, at)? as usize);
            let end = start.saturating_add(word(data, at + 4)? as usize);
            data.get(start..end).ok_or(BtfError::Truncated(start))
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut starts = Vec::with_capacity(types.len() / 24);
        let mut at = 0;
        while at < types.len() {
            starts.push(u32::try_from(at).map_err(|_beyond_4_gib| BtfError::Truncated(at))?);
            at = type_end(types, at)?;
        }
        Ok(Self { types, strings, starts })
    }

    /// The same types under the same ids, without what most of them consist of: types with a body become nameless
    /// forward declarations. Functions and typedefs, which is what programs are attached by, stay. Building all of a
    /// kernel's types takes a reader like aya's tens of milliseconds; of these it takes a few.
    #[must_use]
    pub fn outline(&self) -> Vec<u8> {
        const HEADER: u32 = 24;
        const HEAD: usize = 12;
        let (types, strings) = (self.starts.len() * HEAD, self.strings.len());
        let mut outline = Vec::with_capacity(HEADER as usize + types + strings);
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        for word in [MAGIC | 1 << 16, HEADER, 0, length(types), length(types), length(strings)] {
            outline.extend_from_slice(&word.to_ne_bytes());
        }
        for start in &self.starts {
            let start = *start as usize;
            let whole = type_end(self.types, start).is_ok_and(|end| end == start + HEAD);
            match self.types.get(start..start + HEAD).filter(|_| whole) {
                Some(head) => outline.extend_from_slice(head),
                None => {
                    [0, kind::FWD << 24, 0].iter().for_each(|word: &u32| outline.extend(word.to_ne_bytes()));
                }
            }
        }
        outline.extend_from_slice(self.strings);
        outline
    }

    /// Finds members by path, such as `sock.sk_lock.owned`: the first word names a struct, the others go
    /// down from it. `None` where this kernel has no such member.
    pub fn members<const N: usize>(&self, paths: [&str; N]) -> [Option<Member>; N] {
        let mut roots = [None; N];
        for start in &self.starts {
            let Ok(t) = self.head(*start as usize) else { continue };
            if t.kind() != kind::STRUCT || t.name == 0 || t.vlen() == 0 {
                continue;
            }
            let name = self.name(t.name);
            for (root, path) in roots.iter_mut().zip(paths) {
                if root.is_none() && path.split('.').next().map(str::as_bytes) == Some(name) {
                    *root = Some(t);
                }
            }
        }
        std::array::from_fn(|i| {
            let mut found = Member { offset: 0, size: 0, bits: None };
            let mut inside = roots[i]?;
            let mut names = paths[i].split('.').skip(1).peekable();
            while let Some(name) = names.next() {
                let mut left = MAX_MEMBERS;
                let Place { bit, width, type_id } = self.find(inside, name.as_bytes(), 0, &mut left)?;
                found.bits = (width != 0).then_some((found.offset.checked_mul(8)?.checked_add(bit)?, width));
                found.offset = found.offset.checked_add(bit / 8)?;
                found.size = self.size_of(type_id, 0)?;
                if names.peek().is_some() {
                    inside = self.resolve(type_id, 0)?;
                }
            }
            Some(found)
        })
    }

    /// Number of parameters of the function prototype behind `typedef ret (*name)(...)`; the kernel
    /// declares each tracepoint's arguments as such a type, `btf_trace_NAME` (`include/trace/bpf_probe.h`).
    pub fn prototype_len(&self, typedef: &str) -> Option<usize> {
        let t = self.starts.iter().find_map(|start| {
            let t = self.head(*start as usize).ok()?;
            (t.kind() == kind::TYPEDEF && self.name(t.name) == typedef.as_bytes()).then_some(t)
        })?;
        let pointer = self.resolve(t.size_or_type, 0)?;
        let proto = self.resolve(pointer.size_or_type, 0)?;
        (pointer.kind() == kind::PTR && proto.kind() == kind::FUNC_PROTO).then(|| proto.vlen())
    }

    /// Where a member is, looked for in anonymous members too, of which no more than `left` are looked at.
    fn find(&self, inside: Type, name: &[u8], depth: u32, left: &mut u32) -> Option<Place> {
        if depth > MAX_DEPTH || !matches!(inside.kind(), kind::STRUCT | kind::UNION) {
            return None;
        }
        (0..inside.vlen()).find_map(|i| {
            *left = left.checked_sub(1)?;
            let at = inside.body + i * 12;
            let member_name = word(self.types, at).ok()?;
            let type_id = word(self.types, at + 4).ok()?;
            let raw = word(self.types, at + 8).ok()?;
            let (bit, width) = if inside.kind_flag() { (raw & 0x00ff_ffff, raw >> 24) } else { (raw, 0) };
            if member_name != 0 {
                return (self.name(member_name) == name).then_some(Place { bit, width, type_id });
            }
            let deeper = self.find(self.resolve(type_id, 0)?, name, depth + 1, left)?;
            Some(Place { bit: bit.checked_add(deeper.bit)?, ..deeper })
        })
    }

    /// The type itself, behind typedefs and qualifiers.
    fn resolve(&self, id: u32, depth: u32) -> Option<Type> {
        let start = *self.starts.get((id as usize).checked_sub(1)?)?;
        let t = self.head(start as usize).ok()?;
        match t.kind() {
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
                if depth < MAX_DEPTH =>
            {
                self.resolve(t.size_or_type, depth + 1)
            }
            _ => Some(t),
        }
    }

    fn size_of(&self, id: u32, depth: u32) -> Option<u32> {
        let t = self.resolve(id, 0)?;
        match t.kind() {
            kind::PTR => Some(8),
            kind::ARRAY if depth < MAX_DEPTH => {
                let element = self.size_of(word(self.types, t.body).ok()?, depth + 1)?;
                element.checked_mul(word(self.types, t.body + 8).ok()?)
            }
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::FLOAT | kind::ENUM64 => {
                Some(t.size_or_type)
            }
            _ => None,
        }
    }

    fn head(&self, at: usize) -> Result<Type, BtfError> {
        head(self.types, at)
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let tail = self.strings.get(offset as usize..).unwrap_or_default();
        tail.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

fn head(types: &[u8], at: usize) -> Result<Type, BtfError> {
    Ok(Type {
        name: word(types, at)?,
        info: word(types, at + 4)?,
        size_or_type: word(types, at + 8)?,
        body: at + 12,
    })
}

/// Where the type at `at` ends.
fn type_end(types: &[u8], at: usize) -> Result<usize, BtfError> {
    let t = head(types, at)?;
    let body = match t.kind() {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * t.vlen(),
        kind::ENUM | kind::FUNC_PROTO => 8 * t.vlen(),
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        other => return Err(BtfError::UnknownKind(other, at)),
    };
    let end = t.body + body;
    if end > types.len() { Err(BtfError::Truncated(at)) } else { Ok(end) }
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    let bytes = at.checked_add(4).and_then(|end| data.get(at..end)).ok_or(BtfError::Truncated(at))?;
    bytes.try_into().map(u32::from_ne_bytes).map_err(|_not_four_bytes| BtfError::Truncated(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct a { int x; struct { int y; short z; }; }; typedef struct a *(*t)(int, int);`, by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0a\0x\0y\0z\0short\0t\0";
        let info = |kind: u32, vlen: u32| kind << 24 | vlen;
        #[rustfmt::skip]
        let types = [
            1, info(kind::INT, 0), 4, 32,                                    // 1: int
            13, info(kind::INT, 0), 2, 16,                                   // 2: short
            0, info(kind::STRUCT, 2), 8, 9, 1, 0, 11, 2, 32,                 // 3: anonymous
            5, info(kind::STRUCT, 2), 12, 7, 1, 0, 0, 3, 32,                 // 4: a
            0, info(kind::FUNC_PROTO, 2), 0, 0, 1, 0, 1,                     // 5: prototype
            0, info(kind::PTR, 0), 5,                                        // 6: pointer to it
            19, info(kind::TYPEDEF, 0), 6,                                   // 7: t
        ];
        let type_len = types.len() as u32 * 4;
        let header = [MAGIC | 1 << 16, 24, 0, type_len, type_len, strings.len() as u32].map(u32::to_ne_bytes);
        let mut data = header.concat();
        data.extend(types.iter().flat_map(|word: &u32| word.to_ne_bytes()));
        data.extend(strings);
        data
    }

    #[test]
    fn members_are_found_through_anonymous_structs() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        let at = |offset, size| Some(Member { offset, size, bits: None });
        assert_eq!(
            btf.members(["a.x", "a.y", "a.z", "a.w", "b.x"]),
            [at(0, 4), at(4, 4), at(8, 2), None, None]
        );
    }

    #[test]
    fn a_bit_field_has_its_place_in_bits() {
        // `struct { int x; struct { int y:3; short z; }; }`: the flag says that offsets hold widths.
        let mut data = sample();
        let header = 24;
        let anonymous = header + 16 + 16;
        data[anonymous + 7] |= 0x80;
        data[anonymous + 12 + 8..anonymous + 12 + 12].copy_from_slice(&(3_u32 << 24 | 5).to_ne_bytes());
        let btf = Btf::parse(&data).unwrap();
        let [y] = btf.members(["a.y"]);
        assert_eq!(y, Some(Member { offset: 4, size: 4, bits: Some((37, 3)) }));
    }

    #[test]
    fn a_prototype_is_found_behind_its_typedef() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.prototype_len("t"), Some(2));
        assert_eq!(btf.prototype_len("a"), None);
    }

    #[test]
    fn an_outline_keeps_the_ids_and_what_programs_are_attached_by() {
        let data = sample();
        let outline = Btf::parse(&data).unwrap().outline();
        aya::Btf::parse(&outline, aya::Endianness::default()).unwrap();
        let outline = Btf::parse(&outline).unwrap();
        assert_eq!(outline.starts, [0, 12, 24, 36, 48, 60, 72]);
        let types = outline.starts.iter().map(|start| outline.head(*start as usize).unwrap());
        let kinds: Vec<_> = types.clone().map(|t| (t.kind(), outline.name(t.name))).collect();
        let nothing = (kind::FWD, &b""[..]);
        assert_eq!(kinds[..5], [nothing; 5]);
        assert_eq!(kinds[5..], [(kind::PTR, &b""[..]), (kind::TYPEDEF, &b"t"[..])]);
    }

    /// Two anonymous members of a struct that are this struct: at the greatest depth 2³² of them.
    #[test]
    fn structs_that_hold_each_other_twice_come_to_an_end() {
        let strings = b"\0a\0";
        let types = [
            1_u32,
            kind::STRUCT << 24 | 2,
            8,
            0,
            2,
            0,
            0,
            2,
            0,
            0,
            kind::STRUCT << 24 | 2,
            8,
            0,
            2,
            0,
            0,
            2,
            0,
        ];
        let length = types.len() as u32 * 4;
        let header = [MAGIC | 1 << 16, 24, 0, length, length, strings.len() as u32];
        let mut data: Vec<u8> = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()).collect();
        data.extend(strings);
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.members(["a.x"]), [None]);
    }

    #[test]
    fn every_cut_is_an_error_and_never_a_panic() {
        let data = sample();
        for len in 0..data.len() {
            assert!(Btf::parse(&data[..len]).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn flipped_bytes_never_panic() {
        let data = sample();
        for at in 0..data.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = data.clone();
                broken[at] = value;
                if let Ok(btf) = Btf::parse(&broken) {
                    let _ = btf.members(["a.x", "a.y", "a.z"]);
                    let _ = btf.prototype_len("t");
                }
            }
        }
    }
}

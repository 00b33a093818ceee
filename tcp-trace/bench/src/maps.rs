//! How full the BPF maps of a process are.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use crate::fdinfo;

/// Commands (`enum bpf_cmd`, `include/uapi/linux/bpf.h`).
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const MAP_GET_FD_BY_ID: libc::c_int = 14;

/// Kinds of maps that fill (`enum bpf_map_type`): hash, per-CPU hash, LRU hash, per-CPU LRU hash. Arrays are what they
/// are, and a ring buffer is drained.
const THAT_FILL: [u32; 4] = [1, 5, 9, 10];

/// A map as `/proc/PID/fdinfo` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Map {
    id: u32,
    kind: u32,
    key_bytes: u32,
    room: u32,
    memory: u64,
}

/// Entries and bytes of a process's maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filling {
    /// Of the maps that fill.
    pub(crate) entries: u64,
    /// How many those maps have room for.
    pub(crate) room: u64,
    /// Memory of all maps.
    pub(crate) bytes: u64,
}

/// How full the maps are of which a process has a descriptor.
pub(crate) fn of_process(pid: u32) -> io::Result<Filling> {
    let maps: BTreeMap<u32, Map> = fdinfo::each(pid, parse)?.into_iter().map(|map| (map.id, map)).collect();
    let mut filling = Filling::default();
    for map in maps.values() {
        filling.bytes += map.memory;
        if THAT_FILL.contains(&map.kind) {
            filling.entries += entries(map)?;
            filling.room += u64::from(map.room);
        }
    }
    Ok(filling)
}

fn parse(text: &str) -> Option<Map> {
    let small = |key: &str| u32::try_from(fdinfo::value(text, key)?).ok();
    Some(Map {
        id: small("map_id")?,
        kind: small("map_type")?,
        key_bytes: small("key_size")?,
        room: small("max_entries")?,
        memory: fdinfo::value(text, "memlock").unwrap_or(0),
    })
}

/// Counts the keys. When the last key was deleted meanwhile the kernel begins anew; so there is an end to it.
fn entries(map: &Map) -> io::Result<u64> {
    let fd = open(map.id)?;
    let mut key = vec![0_u8; map.key_bytes as usize];
    let mut next = key.clone();
    let mut count = 0;
    while count < u64::from(map.room) {
        let mut attribute = NextKey {
            fd: fd.as_raw_fd().cast_unsigned(),
            pad: 0,
            // Without a key the kernel begins with the first one.
            key: if count == 0 { 0 } else { key.as_ptr() as u64 },
            next: next.as_mut_ptr() as u64,
        };
        // SAFETY: both addresses are those of buffers of the map's key size.
        match unsafe { bpf(MAP_GET_NEXT_KEY, &mut attribute) } {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            Err(error) => return Err(error),
        }
        std::mem::swap(&mut key, &mut next);
        count += 1;
    }
    Ok(count)
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let mut attribute = FdById { id, next_id: 0, flags: 0 };
    // SAFETY: there are no addresses in it.
    let fd = unsafe { bpf(MAP_GET_FD_BY_ID, &mut attribute)? };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The part of `union bpf_attr` for `BPF_MAP_GET_NEXT_KEY`.
#[repr(C)]
struct NextKey {
    fd: u32,
    pad: u32,
    key: u64,
    next: u64,
}

/// The part for `BPF_MAP_GET_FD_BY_ID`.
#[repr(C)]
struct FdById {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// # Safety
///
/// Every address in `attribute` must be that of memory of the size that the command reads or writes there.
unsafe fn bpf<A>(command: libc::c_int, attribute: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads as much as the size says; for the rest, the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attribute, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_map_is_read() {
        let text = "pos:\t0\nmap_type:\t9\nkey_size:\t8\nvalue_size:\t32\nmax_entries:\t65536\nmap_flags:\t0x0\n\
                    memlock:\t5770240\nmap_id:\t42\n";
        let map = Map { id: 42, kind: 9, key_bytes: 8, room: 65_536, memory: 5_770_240 };
        assert_eq!(parse(text), Some(map));
        assert_eq!(parse("prog_id:\t71\nmemlock:\t4096\n"), None);
    }
}

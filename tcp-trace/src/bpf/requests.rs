//! The map of half-open requests, read as a whole.

use std::{
    io,
    num::NonZeroU64,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, bail};
use aya::maps::Map;
use tcp_trace_common::request::{Request, source};
use tcp_trace_core::{endpoint::Endpoint, survey::RequestRow, time::Timestamp};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::sys::{bpf, command, number};

/// Entries of the map, all of which one call can return.
const ENTRIES: usize = 65_536;
/// Words of a value.
const WORDS: usize = size_of::<Request>() / 8;

/// `union bpf_attr` of the batch calls.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` of the calls for one entry.
#[repr(C)]
struct EntryAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The half-open requests that the kernel programs remember. It may be read beside the stream, from another thread.
#[derive(Debug)]
pub struct Requests {
    map: OwnedFd,
}

impl Requests {
    pub(super) fn new(map: &Map) -> anyhow::Result<Self> {
        let Map::LruHashMap(data) = map else { bail!("the map REQUESTS is of another type") };
        Ok(Self { map: data.fd().as_fd().try_clone_to_owned()? })
    }

    /// Every request whose handshake has not completed; those of TCP Fast Open are none, they have a socket.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to read the map.
    pub fn read(&self) -> anyhow::Result<Vec<RequestRow>> {
        let (keys, values) = self.entries().context("reading the map of half-open requests")?;
        let entries = keys.iter().zip(values.as_chunks::<WORDS>().0);
        Ok(entries.filter_map(|(key, words)| row(*key, words)).collect())
    }

    /// Takes requests out that are known to be dead.
    pub fn forget(&self, cookies: &[NonZeroU64]) {
        for cookie in cookies {
            let key = cookie.get();
            let mut attr = EntryAttr {
                map_fd: number(&self.map),
                padding: 0,
                key: (&raw const key) as u64,
                value: 0,
                flags: 0,
            };
            // Only a miss can be an error here: it was evicted, or has completed after all.
            // SAFETY: the kernel reads a key of the map's size.
            let _ = unsafe { bpf(command::MAP_DELETE_ELEM, &mut attr) };
        }
    }

    /// Keys and values, in the same order.
    fn entries(&self) -> io::Result<(Vec<u64>, Vec<u64>)> {
        // Zeroed memory that is never touched costs nothing.
        let (mut keys, mut values) = (vec![0_u64; ENTRIES], vec![0_u64; ENTRIES * WORDS]);
        let mut next = [0_u32; 2];
        let mut attr = BatchAttr {
            in_batch: 0,
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: ENTRIES as u32,
            map_fd: number(&self.map),
            elem_flags: 0,
            flags: 0,
        };
        // In one call, because entry by entry it would take two calls for each, and the kernel begins anew wherever
        // an entry vanishes meanwhile.
        // SAFETY: the kernel writes at most `count` keys and values; they have the sizes of the map, which the eBPF
        // crate declares with the same types.
        match unsafe { bpf(command::MAP_LOOKUP_BATCH, &mut attr) } {
            // "No entry" says that the end was reached.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        let count = (attr.count as usize).min(ENTRIES);
        keys.truncate(count);
        values.truncate(count * WORDS);
        Ok((keys, values))
    }
}

/// A half-open request; `None` of another one's entry, or a Fast Open one.
fn row(key: u64, words: &[u64; WORDS]) -> Option<RequestRow> {
    let request = Request::read_from_bytes(words.as_bytes()).ok()?;
    if request.cookie != key || request.source == source::FAST_OPEN {
        return None;
    }
    Some(RequestRow {
        cookie: NonZeroU64::new(key)?,
        queued: Timestamp(request.queued_ns),
        local: Endpoint::from_wire(request.local_addr, request.local_port),
        peer: Endpoint::from_wire(request.peer_addr, request.peer_port),
        family: request.family,
    })
}

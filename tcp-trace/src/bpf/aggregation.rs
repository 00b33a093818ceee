//! Aggregation: the word that says whether it is on, and the maps that the kernel programs fill while it is on.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
    util::nr_cpus,
};
use tcp_trace_common::{
    aggregate::{AggregateKey, AggregateRow, ODD},
    nesting::live,
};
use tcp_trace_core::mode::Mode;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::sys::{bpf, command, number};

/// Entries of AGGREGATES and of SINCE, all of which one call can return.
const ROWS: usize = 8192;
const SOCKETS: usize = 65_536;
/// Words of a key of AGGREGATES, and of a value of SINCE.
const KEY: usize = size_of::<AggregateKey>() / 8;
const SINCE: usize = 4;
/// A count above this goes into several rows (see the decoder).
const MOST: u64 = u32::MAX as u64;

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

/// Which mode the programs are in. Shared by whoever switches it and whoever takes the rows out.
#[expect(missing_debug_implementations, reason = "the map has none")]
pub struct Aggregation {
    rows: OwnedFd,
    since: OwnedFd,
    cpus: usize,
    state: Mutex<State>,
}

struct State {
    map: Array<MapData, u64>,
    /// Bits of [`live`], as the programs see them.
    word: u64,
    /// How many generations of rows may still have something to take out.
    left: u8,
}

/// Which generation of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The one that nobody writes into any more, a grace period after [`Aggregation::turn`].
    Even,
    /// The same.
    Odd,
}

impl Aggregation {
    /// `map` is the one that the programs read bits of [`live`] from, and `word` what is to stand there besides the mode.
    pub(super) fn new(object: &Ebpf, map: Array<MapData, u64>, word: u64) -> anyhow::Result<Self> {
        let fd = |name: &str| {
            let map = object.map(name).ok_or_else(|| anyhow!("the eBPF object has no map {name}"))?;
            let (Map::PerCpuHashMap(data) | Map::HashMap(data)) = map else {
                bail!("the map {name} is of another type")
            };
            Ok(data.fd().as_fd().try_clone_to_owned()?)
        };
        Ok(Self {
            rows: fd("AGGREGATES")?,
            since: fd("SINCE")?,
            cpus: nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?,
            state: Mutex::new(State { map, word, left: 0 }),
        })
    }

    /// Puts the programs into another mode.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to write the map.
    pub fn switch(&self, mode: Mode) -> anyhow::Result<()> {
        let mut state = self.state();
        let aggregate = mode == Mode::Aggregate;
        let word = if aggregate { state.word | live::AGGREGATE } else { state.word & !live::AGGREGATE };
        state.write(word)?;
        if aggregate {
            // A program that has read the mode before it ends may read the generation after it has turned.
            state.left = 2;
        }
        Ok(())
    }

    /// Lets the programs fill the other generation of rows from now on; returns the one that they have filled so far,
    /// unless there is nothing in it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to write the map.
    pub fn turn(&self) -> anyhow::Result<Option<Generation>> {
        let mut state = self.state();
        if state.left == 0 {
            return Ok(None);
        }
        if state.word & live::AGGREGATE == 0 {
            state.left -= 1;
        }
        let filled = if state.word & live::ODD_ROWS == 0 { Generation::Even } else { Generation::Odd };
        let word = state.word ^ live::ODD_ROWS;
        state.write(word)?;
        Ok(Some(filled))
    }

    /// Takes the rows of a generation out, which nobody writes into any more.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to read or change the map.
    pub fn take(&self, generation: Generation) -> anyhow::Result<Vec<AggregateRow>> {
        let (keys, counts) = entries::<KEY>(&self.rows, ROWS, self.cpus)
            .context("reading the map of aggregated transitions")?;
        let mut rows = Vec::new();
        for (words, counts) in keys.iter().zip(counts.chunks_exact(self.cpus)) {
            let key = AggregateKey::read_from_bytes(words.as_bytes())
                .map_err(|_size| anyhow!("a key of AGGREGATES is of another size"))?;
            if (key.what & ODD != 0) != (generation == Generation::Odd) {
                continue;
            }
            let mut count = counts.iter().sum::<u64>();
            remove(&self.rows, words).context("taking aggregated transitions out of their map")?;
            while count > 0 {
                let part = count.min(MOST);
                rows.push(AggregateRow { key, count: part });
                count -= part;
            }
        }
        Ok(rows)
    }

    /// Forgets every socket, a grace period after aggregation has ended.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to read or change the map.
    pub fn forget(&self) -> anyhow::Result<()> {
        let forget = || {
            let (keys, _) = entries::<1>(&self.since, SOCKETS, SINCE)?;
            keys.iter().try_for_each(|key| remove(&self.since, key))
        };
        forget().context("emptying the map of sockets")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, word: u64) -> anyhow::Result<()> {
        self.map.set(0, word, 0).context("setting the mode of the programs")?;
        self.word = word;
        Ok(())
    }
}

/// Every entry of a hash map with keys of `K` words: keys, and as many times `values` words.
fn entries<const K: usize>(
    map: &OwnedFd,
    most: usize,
    values: usize,
) -> io::Result<(Vec<[u64; K]>, Vec<u64>)> {
    // Zeroed memory that is never touched costs nothing.
    let (mut keys, mut words) = (vec![[0; K]; most], vec![0; most * values]);
    let mut next = [0_u32; 2];
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: words.as_mut_ptr() as u64,
        count: u32::try_from(most).unwrap_or(u32::MAX),
        map_fd: number(map),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes at most `count` keys and values, which have the sizes of the map.
    match unsafe { bpf(command::MAP_LOOKUP_BATCH, &mut attr) } {
        // "No entry" says that the end was reached.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
        _ => {}
    }
    let count = (attr.count as usize).min(most);
    keys.truncate(count);
    words.truncate(count * values);
    Ok((keys, words))
}

/// Takes an entry out. The kernel refuses while a program is at work in the same bucket on that CPU.
fn remove<const K: usize>(map: &OwnedFd, key: &[u64; K]) -> io::Result<()> {
    for _ in 0..100 {
        let mut attr =
            EntryAttr { map_fd: number(map), padding: 0, key: key.as_ptr() as u64, value: 0, flags: 0 };
        // SAFETY: the kernel reads a key of the map's size.
        match unsafe { bpf(command::MAP_DELETE_ELEM, &mut attr) } {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                thread::sleep(Duration::from_micros(50));
            }
            // A socket that has ended meanwhile has taken its entry along.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => return Ok(()),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

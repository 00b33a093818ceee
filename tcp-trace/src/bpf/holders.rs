//! Who holds which socket: the iterator program `holders`, run by each reading.
//!
//! It shares nothing with the other programs, and can be had without them.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, anyhow, ensure};
use aya::{Btf, Ebpf, programs::Iter};
use tcp_trace_common::config::{MISSING, Offsets};
use tcp_trace_core::survey::Holder;

use super::{
    loading::{Ground, KERNEL_BTF, load_failure, load_small, program, read_btf},
    sys::{bpf_fd, command, number},
};

/// Bytes of a row as the program writes it: inode, process, descriptor.
const ROW: usize = 12;
/// The kernel hands over less at a time (`bpf_seq_read`, `kernel/bpf/bpf_iter.c`).
const BUFFER: usize = 64 * 1024;

/// Lists the holders of all sockets, of all namespaces that this process sees the processes of.
#[derive(Debug)]
pub struct Holders {
    /// The program. It outlives the object that it was loaded from.
    program: OwnedFd,
}

/// `union bpf_attr` of `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` of `BPF_ITER_CREATE`.
#[repr(C)]
struct IterAttr {
    link: u32,
    flags: u32,
}

/// `BPF_TRACE_ITER` (`enum bpf_attach_type`).
const TRACE_ITER: u32 = 28;

impl Holders {
    /// Loads the program.
    ///
    /// # Errors
    ///
    /// If the kernel has no BTF or no such iterators (first kernel: 5.8), or does not permit it.
    pub fn open() -> anyhow::Result<Self> {
        let raw = fs::read(KERNEL_BTF)
            .map_err(|error| anyhow!("no BTF of the running kernel: {KERNEL_BTF}: {error}"))?;
        let (offsets, outline) = read_btf(&raw)?;
        let ground = Ground { offsets, helpers: true, half_open: false };
        let mut object = load_small(ground)?;
        Self::load(&mut object, &ground.offsets, &outline.finish()?)
    }

    /// Loads the program of an object.
    pub(super) fn load(object: &mut Ebpf, offsets: &Offsets, btf: &Btf) -> anyhow::Result<Self> {
        let Offsets { file_inode, file_private, inode_mode, inode_number, .. } = *offsets;
        ensure!(
            ![file_inode, file_private, inode_mode, inode_number].contains(&MISSING),
            "this kernel's BTF has no struct file or struct inode as expected"
        );
        let iterator: &mut Iter = program(object, "holders")?;
        iterator.load("task_file", btf).map_err(|error| anyhow!(load_failure(&error)))?;
        Ok(Self { program: iterator.fd()?.as_fd().try_clone_to_owned()? })
    }

    /// Whether this thread may read them.
    #[must_use]
    pub fn may_be_read(&self) -> bool {
        self.iterate().is_ok()
    }

    /// A pass of the iterator.
    fn iterate(&self) -> std::io::Result<File> {
        let mut attr =
            LinkAttr { program: number(&self.program), target: 0, attach_type: TRACE_ITER, flags: 0 };
        // SAFETY: no address in it, and it returns a descriptor.
        let link = unsafe { bpf_fd(command::LINK_CREATE, &mut attr)? };
        let mut attr = IterAttr { link: number(&link), flags: 0 };
        // SAFETY: as above.
        Ok(unsafe { bpf_fd(command::ITER_CREATE, &mut attr)? }.into())
    }

    /// Every descriptor of every process that is a socket and that `wanted` wants, sorted.
    ///
    /// # Errors
    ///
    /// If the kernel fails to iterate.
    pub fn read(&self, wanted: impl Fn(&Holder) -> bool) -> anyhow::Result<Vec<Holder>> {
        let mut file = self.iterate().context("starting the iterator over descriptors")?;
        let mut buffer = vec![0; BUFFER];
        let mut holders = Vec::new();
        // Of a row that came in two parts.
        let mut kept = 0;
        loop {
            let room = buffer.get_mut(kept..).unwrap_or_default();
            let length = match file.read(room) {
                Ok(0) => break,
                Ok(more) => kept + more,
                // The kernel asks to come again when it has met very many files that are no sockets in a row.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    continue;
                }
                Err(error) => return Err(error).context("reading the iterator over descriptors"),
            };
            let (rows, rest) = buffer.get(..length).unwrap_or_default().as_chunks::<ROW>();
            holders.extend(rows.iter().map(row).filter(&wanted));
            kept = rest.len();
            buffer.copy_within(length - kept..length, 0);
        }
        // A thread with descriptors of its own may have some in common with its process.
        holders.sort_unstable();
        holders.dedup();
        Ok(holders)
    }
}

fn row([a, b, c, d, e, f, g, h, i, j, k, l]: &[u8; ROW]) -> Holder {
    let word = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
    Holder { inode: word([*a, *b, *c, *d]), pid: word([*e, *f, *g, *h]), fd: word([*i, *j, *k, *l]) }
}

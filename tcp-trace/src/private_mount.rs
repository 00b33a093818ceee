//! A file system that is mounted for one thread alone, in a mount namespace that ends with the thread: nothing of the
//! host is changed.

use std::thread;

use anyhow::{Context as _, anyhow};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::host::NO_THREAD;

/// Runs `work` on a thread for which a file system of this kind is mounted, read-only.
///
/// # Errors
///
/// If it cannot be mounted (it takes CAP_SYS_ADMIN), or if `work` fails.
pub(crate) fn with_mount<T: Send>(
    kind: &str,
    target: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let private =
            thread::Builder::new().name("private-mount".to_owned()).spawn_scoped(scope, move || {
                mount_privately(kind, target)?;
                work()
            });
        let private = private.context(NO_THREAD)?;
        private.join().map_err(|_panic| anyhow!("the thread that mounts {kind} panicked"))?
    })
}

/// Mounts it in a mount namespace of the calling thread's own.
fn mount_privately(kind: &str, target: &str) -> anyhow::Result<()> {
    // SAFETY: the thread was made for this and shares nothing that NEWNS or FS takes away.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.with_context(|| {
        format!(
            "{kind} is not mounted (mount -t {kind} {kind} {target}), and a private mount is not permitted"
        )
    })?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .context("making the mounts of this thread private")?;
    mount(kind, target, kind, MountFlags::RDONLY, None)
        .with_context(|| format!("mounting {kind} on {target} for this process"))
}

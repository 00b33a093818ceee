//! Processes forked inside a helper: they die with it.

use std::io::{self, Read};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};

use super::super::role::say;

/// A forked process; killed and reaped when dropped.
pub(in crate::helper) struct Forked {
    pid: Option<Pid>,
}

/// Runs `work` in a child process named `comm`, which exits after it without closing anything by itself.
///
/// What `work` owns is the child's alone when it starts: this process has dropped its own copies by then, so that no
/// close of the child comes before one of this process.
pub(in crate::helper) fn fork(comm: &str, work: impl FnOnce() -> io::Result<()>) -> io::Result<Forked> {
    let comm = std::ffi::CString::new(comm)?;
    let (mut dropped, dropping) = io::pipe()?;
    // SAFETY: a helper that forks has one thread, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(dropping);
            let done = set_parent_process_death_signal(Some(Signal::KILL))
                .and_then(|()| rustix::thread::set_name(&comm))
                .map_err(io::Error::from)
                .and_then(|()| dropped.read(&mut [0]))
                .and_then(|_end| work());
            if let Err(error) = &done {
                // If nobody reads any more, nobody is there to be told.
                let _ = say("error", &[("text", &format!("{error:?}"))]);
            }
            // SAFETY: ends this process at once; what the parent has to do at its exit is not done twice.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        child => {
            drop(work);
            drop(dropping);
            Ok(Forked { pid: Pid::from_raw(child) })
        }
    }
}

impl Forked {
    /// Its process id; 0 once it is reaped.
    pub(in crate::helper) fn pid(&self) -> i32 {
        self.pid.map_or(0, |pid| pid.as_raw_nonzero().get())
    }

    /// Waits for its end, whatever it is.
    pub(super) fn join(mut self) -> io::Result<()> {
        waitpid(self.pid.take(), WaitOptions::empty())?;
        Ok(())
    }

    /// Whether it has ended; it is reaped then.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        if self.pid.is_some() && waitpid(self.pid, WaitOptions::NOHANG)?.is_some() {
            self.pid = None;
        }
        Ok(self.pid.is_none())
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // Not reaped yet, so the pid is still its own.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Ends this process as a crash or an impatient operator does.
pub(super) fn kill_oneself() -> io::Result<()> {
    Ok(kill_process(rustix::process::getpid(), Signal::KILL)?)
}

//! Separate processes in a namespace, with a pid and a comm of their own to be asserted.
//!
//! A helper is the current executable run again: a test binary's `main` calls [`run_if_helper`] first
//! (so it needs `harness = false`), and [`Helper::spawn`] starts `/proc/self/exe` with the role in an
//! environment variable. No other file has to be built or found.
//!
//! ```no_run
//! use std::process::ExitCode;
//! fn main() -> ExitCode {
//!     if let Some(code) = tcp_trace_testkit::helper::run_if_helper() {
//!         return code;
//!     }
//!     // libtest_mimic::run(…).exit_code()
//! #   ExitCode::SUCCESS
//! }
//! ```
//!
//! The two talk in lines `verb key=value …` over the helper's stdin and stdout; times are
//! `CLOCK_MONOTONIC` ns. The roles, their arguments, commands and lines:
//!
//! - `server`: `listen=ADDR:PORT`, `backlog=` (128), `count=` connections to accept (all), `eof=read` (read to
//!   the end; default), `peek` (see the end without reading anything), `never` (do not look),
//!   `on-eof=close` (default) or `keep`, `pause-ms=` after each `accept()` (0), `comm=`. Says `listening addr=`, then `accepted peer= at_ns=`,
//!   `eof peer= at_ns=`, `hangup peer= at_ns=` (reset), `closed peer= at_ns= end_ns=` (before and after the
//!   call). Takes `close [peer=]`, `read peer= bytes=` (says `did-read peer= bytes=`), `stop-listening` (says
//!   `stopped`).
//! - `leaky-server`: the same with `on-eof=keep`.
//! - `client`: `connect=ADDR:PORT`, `count=` (1), `bind=IP`, `comm=`. Says `connected local= at_ns= end_ns=` for each
//!   (or `failed errno= at_ns= end_ns=`), then `ready`. Takes `close [count=]` and `reset [count=]` (oldest
//!   first; says `closed local= at_ns= end_ns=` for each), `send bytes=` on each, `shutdown` of each (FIN, kept open), all
//!   answered with `done` at their end.
//! - `burst`: `connect=ADDR:PORT`, `comm=`. Says `ready`. Takes `burst count=` (as many `connect()`s at once, none of which
//!   is waited for) and `close` (all), both answered with `done`.
//! - `heir`: `listen=ADDR:PORT`, `count=`, `comm=`, `heir=COMM`. Accepts `count` connections, reads from each, forks a process
//!   that inherits them and never uses them, and closes its own. Says `listening addr=`, then `forked pid=`.
//! - `crowd`: `count=` idle loopback connections, `port=` of its listener. Has both ends of each. Says `listening`,
//!   then `ready`.
//! - `owners-server` and `owners-client`: processes that hand sockets to each other and log who has them; see the
//!   source of `helper/owners.rs`, and [`crate::truth`] for what uses them.
//!
//! Every role takes `quit`, and ends at the end of its stdin.

mod burst;
mod client;
mod crowd;
mod heir;
mod line;
mod owners;
mod role;
mod server;

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

pub use line::Line;
pub(crate) use owners::io_uring_is_allowed;
pub use role::run_if_helper;

use crate::netns::NetNs;

/// Names the role in the helper's environment.
pub(crate) const ROLE_VARIABLE: &str = "TCP_TRACE_TESTKIT_ROLE";

/// A helper process; killed and reaped when dropped.
///
/// The kernel also kills it when the *thread* that spawned it ends (`PR_SET_PDEATHSIG`): keep that thread
/// as long as the helper.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    unread: VecDeque<Line>,
    comm: String,
}

impl Helper {
    /// Starts `role` in `ns` with arguments `key=value`. Its comm is the role's name, or `comm=NAME`'s, cut
    /// to the kernel's 15 bytes.
    ///
    /// # Errors
    /// When the process cannot be made. An unknown role or argument shows at the first [`Helper::expect`].
    pub fn spawn(ns: &NetNs, role: &str, arguments: &[&str]) -> io::Result<Self> {
        let comm = arguments.iter().find_map(|argument| argument.strip_prefix("comm=")).unwrap_or(role);
        let mut command = Command::new("/proc/self/exe");
        command.arg0(short(comm)).args(arguments).env(ROLE_VARIABLE, role);
        Self::over(ns.command(prepare(&mut command))?, comm)
    }

    /// A helper that was started already, by a command from [`prepare`].
    pub(crate) fn over(mut child: Child, comm: &str) -> io::Result<Self> {
        let (sender, lines) = channel();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let helper = Self { child, stdin, lines, unread: VecDeque::new(), comm: short(comm) };
        if let Some(stdout) = stdout {
            std::thread::Builder::new()
                .name("helper-lines".into())
                .spawn(move || forward_lines(stdout, &sender))?;
        }
        Ok(helper)
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The process id, as seen here.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its comm: what `/proc/PID/comm` shows once the first line came.
    #[must_use]
    pub fn comm(&self) -> &str {
        &self.comm
    }

    /// Waits for the next line with `verb`; other lines stay for later calls.
    ///
    /// # Errors
    /// `TimedOut`, with the verbs of the unread lines; the helper's own error; `UnexpectedEof` when it has ended.
    pub fn expect(&mut self, verb: &str, timeout: Duration) -> io::Result<Line> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(at) = self.unread.iter().position(|line| line.verb() == verb)
                && let Some(line) = self.unread.remove(at)
            {
                return Ok(line);
            }
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.verb() == "error" => {
                    return Err(io::Error::other(format!("{}: {line}", self.comm)));
                }
                Ok(line) => self.unread.push_back(line),
                Err(reason) => return Err(self.silence(verb, reason)),
            }
        }
    }

    fn silence(&self, verb: &str, reason: RecvTimeoutError) -> io::Error {
        let kind = match reason {
            RecvTimeoutError::Timeout => ErrorKind::TimedOut,
            RecvTimeoutError::Disconnected => ErrorKind::UnexpectedEof,
        };
        let others: Vec<&str> = self.unread.iter().map(Line::verb).collect();
        io::Error::new(kind, format!("{}: no line {verb:?}, but {others:?}", self.comm))
    }

    /// Sends a command line, e.g. `close count=1`.
    ///
    /// # Errors
    /// `BrokenPipe` when the helper has ended.
    pub fn send(&mut self, command: &str) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else { return Err(ErrorKind::BrokenPipe.into()) };
        stdin.write_all(format!("{command}\n").as_bytes())
    }

    /// Closes the helper's stdin, at which it ends by itself (its open sockets are closed by exit), and waits
    /// for it.
    ///
    /// # Errors
    /// When it ends with a failure.
    pub fn finish(mut self) -> io::Result<()> {
        self.stdin = None;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("{}: {status}", self.comm))) }
    }

    /// Closes the helper's stdin, waits for its end, and returns every line that nobody has asked for.
    ///
    /// # Errors
    /// Its own error; `TimedOut`; when it ends with a failure.
    pub fn finish_with_lines(mut self, timeout: Duration) -> io::Result<Vec<Line>> {
        self.stdin = None;
        let end = Instant::now() + timeout;
        let mut lines: Vec<Line> = self.unread.drain(..).collect();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(reason) => return Err(self.silence("at its end", reason)),
            }
        }
        if let Some(line) = lines.iter().find(|line| line.verb() == "error") {
            return Err(io::Error::other(format!("{}: {line}", self.comm)));
        }
        self.finish()?;
        Ok(lines)
    }

    /// Kills it (SIGKILL) and reaps it: its sockets are closed by the kernel.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Already reaped after `finish` or `kill`: `Child` remembers that and signals nobody else.
        let _ = self.kill();
    }
}

/// Gives a command the pipes that we speak through, and an end with the thread that starts it.
pub(crate) fn prepare(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: between fork and exec the hook makes one system call; it allocates and locks nothing.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) }
}

/// As much as the kernel keeps of a name.
fn short(comm: &str) -> String {
    comm.chars().take(15).collect()
}

/// Ends with the helper's stdout or with the `Helper`.
fn forward_lines(stdout: ChildStdout, to: &Sender<Line>) {
    for text in BufReader::new(stdout).lines().map_while(Result::ok) {
        if to.send(Line::parse(&text)).is_err() {
            return;
        }
    }
}

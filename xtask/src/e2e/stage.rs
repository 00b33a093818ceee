//! Where a scenario plays: its folder, the program, and what it has started.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{process, workspace};

/// The folder of all scenarios.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("e2e");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// A scenario's own.
#[derive(Debug)]
pub(super) struct Stage {
    /// What scenarios share.
    pub(super) shared: PathBuf,
    /// Its own files.
    pub(super) folder: PathBuf,
    /// `tcp-trace`.
    pub(super) program: PathBuf,
}

impl Stage {
    pub(super) fn new(shared: &Path, name: &str, program: &Path) -> Result<Self> {
        let folder = shared.join(name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("emptying {}", folder.display()));
            }
            _ => fs::create_dir_all(&folder)?,
        }
        Ok(Self { shared: shared.to_owned(), folder, program: program.to_owned() })
    }

    /// Writes a file of its own.
    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// A file of the repository.
    pub(super) fn repository(path: &str) -> PathBuf {
        workspace::root().join(path)
    }

    /// Starts a program, with its output in `NAME.out` and `NAME.err`. It ends with the scenario at the latest.
    pub(super) fn start(&self, name: &str, command: &mut Command) -> Result<Running> {
        self.start_with_input(name, command, Stdio::null())
    }

    fn start_with_input(&self, name: &str, command: &mut Command, input: Stdio) -> Result<Running> {
        let file = |kind| {
            let path = self.folder.join(format!("{name}.{kind}"));
            File::create(&path).with_context(|| format!("making {}", path.display()))
        };
        process::announce(command);
        let child = command
            .stdin(input)
            .stdout(file("out")?)
            .stderr(file("err")?)
            .spawn()
            .with_context(|| format!("starting `{}`", process::show(command)))?;
        Ok(Running { name: name.to_owned(), child, log: self.folder.join(format!("{name}.err")) })
    }

    /// Runs a program to its end, with its output in files as [`Self::start`] has it.
    pub(super) fn run(&self, name: &str, command: &mut Command, within: Duration) -> Result<()> {
        self.start(name, command)?.succeeds(within)
    }

    /// The same, with a file as its standard input.
    pub(super) fn run_with_input(
        &self,
        name: &str,
        command: &mut Command,
        input: &Path,
        within: Duration,
    ) -> Result<()> {
        let input = File::open(input).with_context(|| format!("opening {}", input.display()))?;
        self.start_with_input(name, command, input.into())?.succeeds(within)
    }

    /// What a program has written.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// A program that runs.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Waits until it listens.
    pub(super) fn listens(&mut self, address: SocketAddr) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.last_words());
            }
            if Instant::now() > end {
                bail!("{} does not listen on {address}: {}", self.name, self.last_words());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits for its end, which must be a good one.
    fn succeeds(mut self, within: Duration) -> Result<()> {
        let status = self.wait(within)?;
        ensure!(status.success(), "{} ended with {status}: {}", self.name, self.last_words());
        Ok(())
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("{} has not ended after {within:?}: {}", self.name, self.last_words());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end (SIGTERM), and waits for that.
    pub(super) fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // One that has ended already cannot be asked; the wait says how it ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.wait(Duration::from_secs(20))
    }

    /// The end of what it has told.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing is left to be done about one that cannot be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A port of loopback that nobody listens on at the moment.
pub(super) fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("asking for a port")?;
    Ok(listener.local_addr()?)
}

/// Tries until it works; the last error is told.
pub(super) fn until<T>(within: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        match attempt() {
            Err(error) if Instant::now() > end => {
                return Err(error.context(format!("still so after {within:?}")));
            }
            Err(_not_yet) => thread::sleep(Duration::from_millis(100)),
            done => return done,
        }
    }
}

//! A guest: a kernel under QEMU with a first root that holds the tests, for as long as these take.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    cpio::Archive,
    job::{self, Job},
    kernel::Kernel,
    results,
};
use crate::{
    process,
    progress::{Board, Tests},
};

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// The tests' loads are for a real machine; an emulated one is twenty times slower
/// (`tcp_trace_testkit::scale`).
const SCALE_VARIABLE: &str = "TCP_TRACE_TEST_SCALE";
const SCALE: &str = "0.2";
/// From power-on to power-off. A guest whose tests hang must not take the others' time.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// What tests need that is not built into the kernel: a device for a peer, pairs of devices between
/// namespaces, and the tables of sockets.
const MODULES: [&str; 5] = ["tun", "veth", "inet_diag", "tcp_diag", "unix_diag"];

/// The files that go into each guest.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) init: PathBuf,
    pub(super) program: PathBuf,
    pub(super) tests: PathBuf,
}

/// How a guest is run.
pub(super) struct Guest<'a> {
    pub(super) name: &'static str,
    pub(super) kernel: &'a Kernel,
    /// Where its files are kept.
    pub(super) folder: &'a Path,
    /// What its kernel is told beside what all are told.
    pub(super) append: &'a str,
    /// Who sees how far it is.
    pub(super) board: &'a Board,
    pub(super) tests: &'a Tests,
}

/// What remains of a guest.
pub(super) struct Remains {
    /// The lines that came over the results' serial line.
    pub(super) results: String,
    /// Why it did not switch itself off.
    pub(super) trouble: Option<String>,
    pub(super) took: Duration,
}

impl Guest<'_> {
    /// Boots, and once more if the emulator has broken down.
    pub(super) fn run(&self, programs: &Programs, arguments: &[String]) -> Result<Remains> {
        let initramfs = self.folder.join("initramfs.cpio");
        let root = first_root(self.kernel, programs, arguments)?;
        fs::write(&initramfs, root).with_context(|| format!("writing {}", initramfs.display()))?;
        let remains = self.boot(&initramfs)?;
        if !results::ended(&remains.results) && emulator_broke_down(&fs::read_to_string(self.console())?) {
            self.board.say(&format!("{}: a double fault, which is the emulator's: once more", self.name));
            return self.boot(&initramfs);
        }
        Ok(remains)
    }

    /// The file with all that the guest has written to its console.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    fn boot(&self, initramfs: &Path) -> Result<Remains> {
        let start = Instant::now();
        let results = self.folder.join("results.jsonl");
        fs::write(&results, "").with_context(|| format!("writing {}", results.display()))?;
        let mut qemu = self.command(initramfs, &results);
        self.board.say(&format!("$ {}", process::show(&qemu)));
        let mut child = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {QEMU}"))?;
        let console = child.stdout.take().context("QEMU has no stdout")?;
        let log =
            File::create(self.console()).with_context(|| format!("writing {}", self.console().display()))?;
        let Self { name, tests, .. } = *self;
        let trouble = thread::scope(|scope| {
            let reader = scope.spawn(move || copy_console(tests, console, log));
            let trouble = wait(&mut child, start)?;
            reader.join().map_err(|_panic| anyhow::anyhow!("reading the console of {name}"))??;
            anyhow::Ok(trouble)
        })?;
        let results =
            fs::read_to_string(&results).with_context(|| format!("reading {}", results.display()))?;
        Ok(Remains { results, trouble, took: start.elapsed() })
    }

    fn command(&self, initramfs: &Path, results: &Path) -> Command {
        let mut qemu = Command::new(QEMU);
        // Only an emulated CPU is everywhere the same, and there where no virtualisation is.
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536M"]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.args(["-serial", "stdio", "-serial"]).arg(format!("file:{}", results.display()));
        qemu.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(initramfs);
        // An oops is a panic, and a panic is the end: with `-no-reboot` QEMU ends instead of starting again.
        // Mitigations protect from nothing here, and cost much under emulation.
        let words = "console=ttyS0 loglevel=4 oops=panic panic=-1 mitigations=off";
        qemu.arg("-append").arg(format!("{words} {}", self.append).trim_end());
        qemu
    }
}

/// The archive that a guest boots from.
fn first_root(kernel: &Kernel, programs: &Programs, arguments: &[String]) -> Result<Vec<u8>> {
    let Programs { init, program, tests } = programs;
    let mut archive = Archive::default();
    let mut modules = Vec::new();
    for (name, image) in kernel.modules(&MODULES)? {
        let path = format!("/modules/{name}.ko");
        archive.file(&path, &image);
        modules.push(path);
    }
    let mut add = |path: &str, file: &Path| -> Result<()> {
        archive.program(path, &fs::read(file).with_context(|| file.display().to_string())?);
        Ok(())
    };
    add("/init", init)?;
    // The tests know the program by the path at which it was built.
    let (program_path, tests_path) = (program.to_string_lossy(), "/tests");
    add(&program_path, program)?;
    add(tests_path, tests)?;
    let job = Job {
        modules,
        program: program_path.into_owned(),
        tests: tests_path.to_owned(),
        // A console is a terminal, which this one's readers are not.
        arguments: std::iter::once("--color=never".to_owned()).chain(arguments.to_vec()).collect(),
        environment: vec![
            (results::VARIABLE.to_owned(), job::RESULTS.to_owned()),
            (SCALE_VARIABLE.to_owned(), SCALE.to_owned()),
        ],
    };
    archive.file(job::PATH, &serde_json::to_vec(&job)?);
    Ok(archive.finish())
}

/// Waits until the guest is off; makes it so when its time is over.
fn wait(child: &mut Child, start: Instant) -> Result<Option<String>> {
    loop {
        if let Some(status) = child.try_wait().context("waiting for QEMU")? {
            return Ok((!status.success()).then(|| format!("{QEMU} ended with {status}")));
        }
        if start.elapsed() > LIMIT {
            child.kill().context("ending QEMU")?;
            child.wait().context("waiting for QEMU")?;
            return Ok(Some(format!("it was not done after {} minutes", LIMIT.as_secs() / 60)));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Writes the console to a file, and shows it, or how far its tests are.
fn copy_console(tests: &Tests, console: impl io::Read, mut log: File) -> io::Result<()> {
    for line in BufReader::new(console).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        writeln!(log, "{line}")?;
        tests.line(line);
    }
    Ok(())
}

/// QEMU's emulation was seen to raise a double fault out of nothing, once in hours (`cmpxchg16b`).
fn emulator_broke_down(console: &str) -> bool {
    console.contains("PANIC: double fault")
}

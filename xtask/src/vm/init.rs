//! The first process of a guest: makes an empty kernel a place where the live tests can run, runs them, and
//! switches the machine off.

mod job;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    mount::{MountFlags, mount},
    process::{Resource, Rlimit, setrlimit},
    system::{RebootCommand, init_module, reboot, sethostname},
    termios::tcdrain,
};

use job::{Job, Word};

fn main() -> Result<()> {
    let end = match work() {
        Ok(status) => Word::End(code(status)),
        Err(error) => Word::Trouble(format!("{error:#}")),
    };
    say(&end)?;
    reboot(RebootCommand::PowerOff).context("switching off")
}

fn work() -> Result<ExitStatus> {
    for (kind, target) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        attach(kind, target)?;
    }
    // The first root is in memory anyway; what is unpacked may lie below these.
    for folder in ["/tmp", "/run"] {
        fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))?;
    }
    sethostname(b"guest").context("setting the host name")?;
    // The kernel's own limit is too low for crowds of sockets.
    let limit = Some(MAX_FILES);
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })
        .context("raising RLIMIT_NOFILE")?;
    // Bits of `netdevice(7)`: up and running, as for any other interface.
    fs::write("/sys/class/net/lo/flags", "0x41").context("bringing up lo")?;
    let job = fs::read(job::PATH).with_context(|| job::PATH.to_owned())?;
    let Job { modules, program, tests, arguments, environment } = serde_json::from_slice(&job)?;
    for module in &modules {
        load(module)?;
    }
    say(&report(&program).unwrap_or_else(|error| Word::Trouble(format!("{error:#}"))))?;
    let mut command = Command::new(&tests);
    command.args(arguments).envs(environment);
    command.status().with_context(|| format!("starting {tests}"))
}

/// Descriptors that a process of the tests may have.
const MAX_FILES: u64 = 65_536;

/// Mounts a file system that comes from no device.
fn attach(kind: &str, target: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("creating {target}"))?;
    match mount(kind, target, kind, MountFlags::empty(), None) {
        // Some kernels have mounted it themselves.
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("mounting {kind} on {target}")),
    }
}

fn load(module: &str) -> Result<()> {
    let image = fs::read(module).with_context(|| module.to_owned())?;
    match init_module(&image, c"") {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("loading {module}")),
    }
}

/// What tcp-trace can do on this kernel, in its own words.
fn report(program: &str) -> Result<Word> {
    let output = Command::new(program).args(["report", "--json", "--duration", "1s"]).output();
    let output = output.with_context(|| format!("starting {program}"))?;
    ensure!(
        output.status.success(),
        "{} report ended with {}: {}",
        Path::new(program).display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(Word::Report(serde_json::from_slice(&output.stdout).context("reading the report")?))
}

/// As shells tell it: a signal is 128 and its number.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Returns when the line has left the machine, which may be off or dead soon.
fn say(word: &Word) -> Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    let mut results = File::options().append(true).open(job::RESULTS).context(job::RESULTS)?;
    results.write_all(&line).context(job::RESULTS)?;
    tcdrain(&results).context(job::RESULTS)
}

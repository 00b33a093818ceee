//! The program under test, started as a user starts it.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::Value;

/// How long anything may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// An event is shown within 100 ms; twice that, for machines that are busy with something else.
const SETTLE: Duration = Duration::from_millis(200);

/// A running tcp-trace.
pub(crate) struct Tracer {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Tracer {
    /// Starts it with these arguments, and waits until it is attached.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same, with this in its environment.
    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Self::command(arguments);
        command.envs(environment.iter().copied());
        Self::over(command)
    }

    /// The same, with this done to it between fork and exec: system calls only.
    pub(crate) fn start_under(
        arguments: &[&str],
        hardship: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::over(Self::command_under(arguments, hardship))
    }

    fn over(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("tracing by") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{command:?} ended at once: {said}");
        }
        let mut stdout = child.stdout.take().unwrap();
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let stderr = thread::spawn(move || {
            let mut bytes = said.into_bytes();
            stderr.read_to_end(&mut bytes).unwrap();
            bytes
        });
        Self { child, stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Runs it to its end.
    pub(crate) fn run(arguments: &[&str]) -> Output {
        Self::command(arguments).output().unwrap()
    }

    /// Runs it to its end, with this done to it between fork and exec: system calls only.
    pub(crate) fn run_under(
        arguments: &[&str],
        hardship: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Output {
        Self::command_under(arguments, hardship).output().unwrap()
    }

    fn command_under(
        arguments: &[&str],
        hardship: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Command {
        let mut command = Self::command(arguments);
        // SAFETY: between fork and exec the hook makes system calls; it allocates and locks nothing.
        unsafe { command.pre_exec(hardship) };
        command
    }

    /// It, to be started in another way; it ends with the thread that starts it.
    pub(crate) fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-trace"));
        command.args(arguments).stdin(Stdio::null());
        // SAFETY: between fork and exec the hook makes one system call; it allocates and locks nothing.
        unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
        command
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it as Ctrl-C does, after what has happened so far was seen.
    pub(crate) fn stop(self) -> Output {
        thread::sleep(SETTLE);
        self.signal(Signal::INT);
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "tcp-trace does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let collect = |thread: &mut Option<JoinHandle<Vec<u8>>>| thread.take().unwrap().join().unwrap();
        Output { status, stdout: collect(&mut self.stdout), stderr: collect(&mut self.stderr) }
    }

    /// Ends it as Ctrl-C does; the one JSON document that it prints.
    pub(crate) fn report(self) -> Value {
        let output = self.stop();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
    }

    /// Ends it as Ctrl-C does; the JSON Lines that it prints.
    pub(crate) fn lines(self) -> Vec<Value> {
        let output = self.stop();
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Already ended, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How often a report counts a transition.
pub(crate) fn count(report: &Value, old: &str, new: &str) -> u64 {
    let cells = report["transitions"].as_array().unwrap();
    let cell = cells.iter().find(|cell| cell["old"] == old && cell["new"] == new);
    cell.map_or(0, |cell| cell["count"].as_u64().unwrap())
}

/// `OLD>NEW` of an event.
pub(crate) fn step(event: &Value) -> String {
    format!("{}>{}", event["old_state"].as_str().unwrap(), event["new_state"].as_str().unwrap())
}

/// The report's balance holds, and nothing was lost.
#[track_caller]
pub(crate) fn assert_whole(report: &Value) {
    let loss = &report["loss"];
    assert_eq!(loss["lost"], 0, "{loss}");
    assert_eq!(loss["balanced"], true, "{loss}");
    assert_sums(loss);
}

/// `seen = delivered + filtered + lost + aggregated`.
#[track_caller]
pub(crate) fn assert_sums(loss: &Value) {
    let of = |key: &str| loss[key].as_u64().unwrap();
    assert_eq!(of("seen"), of("delivered") + of("filtered") + of("lost") + of("aggregated"), "{loss}");
}

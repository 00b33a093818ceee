//! The real binary, run on what a test wrote.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("tcp-trace writes UTF-8 whatever it reads");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Run {
    /// The standard output of a run in which nothing went wrong.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }
}

/// The program, with nothing of this process's environment that could change what it does.
pub(crate) fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new(path.as_ref());
    command.env_clear().env("TZ", "Asia/Kathmandu").stdin(Stdio::null());
    command
}

/// Runs `tcp-trace` with arguments separated by spaces.
pub(crate) fn run(arguments: &str) -> Run {
    let words = arguments.split_ascii_whitespace();
    program(env!("CARGO_BIN_EXE_tcp-trace")).args(words).output().expect("the binary runs").into()
}

/// Runs `tcp-trace COMMAND --from RECORDING`.
pub(crate) fn replay(recording: &Recording, command: &str) -> Run {
    let mut program = program(env!("CARGO_BIN_EXE_tcp-trace"));
    program.args(command.split_ascii_whitespace()).arg("--from").arg(&recording.0);
    program.output().expect("the binary runs").into()
}

/// A file for the length of a test.
#[derive(Debug)]
pub(crate) struct Recording(PathBuf);

impl Recording {
    /// Writes `bytes` into a file of its own; `name` is unique among the tests.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.tctrace", std::process::id()));
        let recording = Self(path);
        recording.rewrite(bytes);
        recording
    }

    /// Replaces what the file holds.
    pub(crate) fn rewrite(&self, bytes: &[u8]) {
        fs::write(&self.0, bytes).expect("the test's folder can be written");
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // It lies in a folder of cargo's own, where it harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file in `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The committed recording of [`crate::incident`].
pub(crate) fn incident(command: &str) -> Run {
    run(&format!("{command} --from {}", data("incident.tctrace").display()))
}

/// Compares with a file in `tests/data`; with `BLESS=1` in the environment it becomes what is expected.
#[track_caller]
pub(crate) fn assert_golden(name: &str, actual: &[u8]) {
    let path = data(name);
    if env::var_os("BLESS").is_some() {
        fs::write(&path, actual).expect("tests/data can be written");
    }
    let expected = fs::read(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; after a change that is meant, run the test with BLESS=1 and read the diff.\n\
         --- expected\n{}\n--- actual\n{}",
        path.display(),
        String::from_utf8_lossy(&expected),
        String::from_utf8_lossy(actual)
    );
}

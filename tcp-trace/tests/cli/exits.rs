//! Exit codes: 0 done, 1 error, 2 usage, 3 not permitted or not supported, 4 `--strict` and something lost, 5 `--fail-on`
//! and something found.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tcp_trace_common::state::{CLOSE, LISTEN};

use crate::{
    tape::{MS, Process, Socket, Tape, client_life, session},
    tracer::{Recording, Run, data, incident, program, replay, run},
};

const TCP_TRACE: &str = env!("CARGO_BIN_EXE_tcp-trace");

#[test]
fn what_is_done_is_0() {
    for arguments in ["--help", "--version", "help report", "stream --help"] {
        assert!(!run(arguments).good().is_empty(), "{arguments}");
    }
    assert_eq!(incident("report").code, Some(0));
}

#[test]
fn a_command_line_without_sense_is_2_and_says_what_would_have() {
    for (arguments, hint) in [
        ("", "Usage: tcp-trace"),
        ("nonsense", "unrecognized subcommand 'nonsense'"),
        ("stream --bogus", "unexpected argument '--bogus'"),
        ("stream surplus", "unexpected argument 'surplus'"),
        ("record", "<FILE>"),
        (
            "top",
            "standard output is no terminal, and there is nothing to draw on; use `report --interval 1s`",
        ),
        ("top --from f --mode count", "cannot be used with"),
        ("report --interval soon", "give a duration such as 500ms, 5s or 2m"),
        ("report --interval 0s", "it must be more than 0"),
        ("report --duration=-1s", "such as 500ms, 5s or 2m"),
        ("stream -L 0", "1..=65535"),
        ("stream -D 65536", "1..=65535"),
        ("stream -p 0", "-p"),
        ("stream --buffer 3M", "a power of two"),
        ("stream --attach kprobe", "possible values: auto, tp_btf, tracepoint"),
        ("stream --json -w", "cannot be used with"),
        ("report --from x --duration 1s", "cannot be used with"),
        ("stream --netns no-such-name", "a name of `ip netns`"),
        ("report --fail-on info", "possible values: warning, critical"),
        ("report --config /nowhere/tcp-trace.toml", "--config /nowhere/tcp-trace.toml: No such file"),
        ("stream -L 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "17 ports given, at most 16"),
    ] {
        let run = run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{arguments}: {run:#?}");
        assert!(run.stderr.contains(hint), "{arguments}: {run:#?}");
    }
}

#[test]
fn too_many_ports_are_2_for_a_recording_too() {
    let ports = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16";
    assert_eq!(incident(&format!("stream -D {ports}")).code, Some(0));
    let run = incident(&format!("stream -D {ports},17"));
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr.contains("17 ports given, at most 16"), "{run:#?}");
}

#[test]
fn strict_is_4_only_if_something_was_lost() {
    assert_eq!(incident("report --strict").code, Some(4));
    let strict = incident("stream --strict");
    assert_eq!(strict.code, Some(4));
    assert_eq!(strict.stdout, incident("stream").good(), "everything is printed all the same");
    let curl = Process { pid: 4, comm: b"curl" };
    let mut tape = Tape::new(session());
    client_life(&mut tape, curl, 1, "10.0.0.1:40000", "10.0.0.2:80", MS);
    tape.filter(CLOSE, LISTEN, 3);
    assert_eq!(replay(&Recording::new("lossless", &tape.end()), "report --strict").code, Some(0));
    let mut tape = Tape::new(session());
    tape.miss(1);
    assert_eq!(replay(&Recording::new("missed", &tape.end()), "report --strict").code, Some(4));
}

#[test]
fn strict_is_4_also_if_the_balance_does_not_add_up() {
    let mut tape = Tape::new(session());
    tape.enter(&mut Socket::new(1, CLOSE, "10.0.0.1:1", "0.0.0.0:0"), LISTEN, None);
    tape.uncount(CLOSE, LISTEN);
    let run = replay(&Recording::new("unbalanced", &tape.end()), "report --strict");
    assert_eq!(run.code, Some(4), "{run:#?}");
    assert!(run.stdout.contains("(NOT BALANCED: the counts cannot be trusted)"), "{run:#?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_0() {
    let mut tape = Tape::new(session());
    for cookie in 1..=2_000 {
        client_life(
            &mut tape,
            Process { pid: 4, comm: b"curl" },
            cookie,
            "10.0.0.1:40000",
            "10.0.0.2:80",
            MS,
        );
    }
    let recording = Recording::new("large", &tape.end());
    for command in ["stream", "stream --json", "report --json --interval 1ms"] {
        let mut program = program(TCP_TRACE);
        program.args(command.split(' ')).arg("--from").arg(recording.path());
        let mut child =
            program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut first = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::with_capacity(64, stdout).read_line(&mut first).expect("a line");
        let run = Run::from(child.wait_with_output().expect("it ends"));
        assert!(!first.is_empty());
        assert_eq!(run.code, Some(0), "{command}: {}", run.stderr);
        // A report fits into the pipe, so it may also have been written whole, with the balance to follow.
        let whole = command.starts_with("report") && run.stderr.ends_with("(balanced)\n");
        assert!(run.stderr.is_empty() || whole, "{command}: {}", run.stderr);
        assert!(!run.stderr.contains("error"), "{command}: {}", run.stderr);
    }
}

#[test]
fn output_that_cannot_be_written_is_1() {
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut program = program(TCP_TRACE);
    program.args(["stream", "--from"]).arg(data("incident.tctrace")).stdout(full);
    let run = Run::from(program.output().expect("the binary runs"));
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert_eq!(
        run.stderr,
        "tcp-trace: error: writing to standard output: No space left on device (os error 28)\n"
    );
}

#[test]
fn a_recording_that_cannot_be_created_is_1_before_anything_is_attached() {
    let run = run("record /no/such/folder/x.tctrace --duration 1s");
    assert_eq!(run.code, Some(1), "{run:#?}");
    let start =
        "tcp-trace: error: creating the recording /no/such/folder/x.tctrace: No such file or directory";
    assert!(run.stderr.starts_with(start), "{run:#?}");
}

#[test]
fn what_is_no_recording_of_ours_is_not_overwritten() {
    let folder = Folder::new("not-ours");
    let notes = folder.0.join("notes");
    fs::write(&notes, "what was said at 3").expect("the folder can be written");
    let record = |name: &str| {
        let mut program = program(TCP_TRACE);
        program.args(["record", "--duration", "1s", name]).current_dir(&folder.0);
        let run = Run::from(program.output().expect("the binary runs"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:#?}");
        run.stderr
    };
    let said = record("notes");
    assert!(
        said.contains("creating the recording notes: it is no recording, and is left as it is"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&notes).expect("it is there"), "what was said at 3");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // What somebody might have put into a shared folder, to read what is written or to have something else overwritten.
    let nobody = |name: &str| {
        std::os::unix::fs::lchown(folder.0.join(name), Some(65_534), None).expect("root may give files away");
        record(name)
    };
    std::os::unix::fs::symlink("/etc/passwd", folder.0.join("link")).expect("the folder can be written");
    assert!(nobody("link").contains("it is a symbolic link of another user (65534)"));
    fs::write(folder.0.join("empty"), "").expect("the folder can be written");
    assert!(nobody("empty").contains("it belongs to another user (65534), who could read what is written"));
}

#[test]
fn without_privileges_it_is_3_and_one_sentence_says_what_is_missing() {
    let folder = Folder::new("unprivileged");
    let old = folder.0.join("old.tctrace");
    fs::write(&old, "TCPTRACE an older recording").expect("the folder can be written");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&old, Some(65_534), None).expect("root may give files away");
    }
    // Where the build lies a stranger may not even look. Another process makes the copy: a file that is open for
    // writing here could be inherited by the child of another test, and is then too busy to be run.
    let copy = folder.0.join("tcp-trace");
    let copied = Command::new("cp").arg(TCP_TRACE).arg(&copy).status().expect("cp runs");
    assert!(copied.success());
    for arguments in [vec!["stream"], vec!["report", "--duration", "1s"], vec!["record", "old.tctrace"]] {
        let mut program = program(&copy);
        program.args(&arguments).current_dir(&folder.0);
        if rustix::process::geteuid().is_root() {
            program.gid(65_534).uid(65_534);
        }
        let run = Run::from(program.output().expect("the binary runs"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""), "{run:#?}");
        assert_eq!(run.stderr, missing(&copy), "{arguments:?}");
    }
    let kept = fs::read_to_string(&old).expect("it is still there");
    assert_eq!(kept, "TCPTRACE an older recording", "what cannot be replaced is not destroyed");
}

fn missing(program: &Path) -> String {
    if run("--version").good().contains("eBPF object none") {
        return "tcp-trace: error: this tcp-trace was built without eBPF and cannot trace; build it again without \
                TCP_TRACE_EBPF=none\n"
            .to_owned();
    }
    format!(
        "tcp-trace: error: tracing is not permitted: this process lacks CAP_BPF and CAP_PERFMON; run it as root \
         (sudo), or give the program the capabilities once: setcap \
         cap_bpf,cap_perfmon,cap_net_admin,cap_sys_ptrace,cap_dac_read_search+ep {}\n",
        program.display()
    )
}

/// A folder that everybody may enter, for the length of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcp-trace-cli-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("the folder for temporary files can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind it harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn stacks_that_nobody_would_see_are_a_mistake() {
    for (command, hint) in
        [("stream --stacks", "add --closed"), ("report --stacks --mode count", "--mode count")]
    {
        let run = run(command);
        assert_eq!(run.code, Some(2), "{run:#?}");
        assert!(run.stderr.contains(hint), "{run:#?}");
    }
}

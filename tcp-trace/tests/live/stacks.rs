//! `--stacks`: the place where a program opens connections, by real programs that real compilers have made. What is not
//! installed is skipped, and said to be.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tcp_trace_testkit::{Helper, NetNs};

use crate::{
    Test,
    requirements::{Feature, requires},
    rights::{SYS_ADMIN, nobody_with, usual},
    tracer::{PATIENCE, Tracer, assert_whole},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_program_with_frame_pointers_is_named", a_program_with_frame_pointers_is_named),
    ("a_program_without_frame_pointers_is_named", a_program_without_frame_pointers_is_named),
    ("a_frame_too_large_to_see_past_is_said_to_be", a_frame_too_large_to_see_past_is_said_to_be),
    ("a_program_in_rust_is_named", a_program_in_rust_is_named),
    ("cpython_is_named_at_the_native_level", cpython_is_named_at_the_native_level),
    ("accept_is_told_where_the_kernel_allows_it", accept_is_told_where_the_kernel_allows_it),
    ("a_recording_holds_what_it_takes", a_recording_holds_what_it_takes),
    ("finished_connections_carry_their_stacks", finished_connections_carry_their_stacks),
    (
        "without_cap_sys_admin_a_removed_program_has_no_names",
        without_cap_sys_admin_a_removed_program_has_no_names,
    ),
];

const LEAK: u64 = 7;

const SERVER_C: &str = r#"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
__attribute__((noinline)) static int handle_upload(int listener) {
    char buffer[SIZE];
    memset(buffer, 1, sizeof buffer);
    int fd = accept(listener, 0, 0);
    long got = read(fd, buffer, sizeof buffer); /* the place */
    __asm__ volatile("" :: "r"(buffer), "r"(got) : "memory");
    return fd;
}
__attribute__((noinline)) static void worker_main(int listener) {
    for (;;) {
        handle_upload(listener);
        __asm__ volatile("" ::: "memory");
    }
}
int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 2 || bind(listener, (void *)&at, sizeof at) || listen(listener, 100)) return 1;
    if (write(1, "listening\n", 10) != 10) return 1;
    worker_main(listener);
}
"#;

const SERVER_RS: &str = r#"
use std::{io::Read, net::{TcpListener, TcpStream}};
#[inline(never)]
fn handle_upload(mut stream: TcpStream, kept: &mut Vec<TcpStream>) {
    let _ = stream.read(&mut [0; 64]).unwrap(); // the place
    kept.push(stream);
}
#[inline(never)]
fn worker_main(listener: TcpListener) {
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        handle_upload(stream.unwrap(), &mut kept);
    }
}
fn main() {
    let port: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    println!("listening");
    std::thread::spawn(move || worker_main(listener)).join().unwrap();
}
"#;

const SERVER_PY: &str = "
import socket, sys
kept = []
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
print('listening', flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(100)
    kept.append(connection)
";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("tcp-trace-stacks-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server of the test's own, which ends with it.
struct Server(Child);

impl Server {
    fn start(ns: &NetNs, program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = ns.command(&mut command).unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        assert_eq!(line, "listening\n", "{}", program.display());
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compile(program: &str, arguments: &[&str], output: &Path) {
    let made = Command::new(program).args(arguments).arg("-o").arg(output).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A server in C whose function has so large a frame.
fn server_in_c(folder: &Folder, flags: &[&str], frame: usize) -> PathBuf {
    let source = folder.write("server.c", SERVER_C);
    let program = folder.0.join("server-c");
    let frame = format!("-DSIZE={frame}");
    let arguments = [&["-g", "-O2", &frame, source.to_str().unwrap()], flags].concat();
    compile("gcc", &arguments, &program);
    program
}

/// Connections that their client closes after it has sent something; the client stays.
fn leak_into(ns: &NetNs, port: u16) -> Helper {
    let connect = format!("connect=127.0.0.1:{port}");
    let mut client = Helper::spawn(ns, "client", &[&connect, &format!("count={LEAK}")]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("send bytes=5").unwrap();
    client.expect("done", PATIENCE).unwrap();
    client.send(&format!("close count={LEAK}")).unwrap();
    for _ in 0..LEAK {
        client.expect("closed", PATIENCE).unwrap();
    }
    client
}

/// What a report says of where a leaking server has opened its sockets.
fn leaked_stack(program: &Path, arguments: &[&str], port: u16) -> Value {
    let ns = NetNs::new().unwrap();
    let inum = ns.inum().to_string();
    let tracer =
        Tracer::start(&["report", "--json", "--stacks", "--close-wait-after", "200ms", "--netns", &inum]);
    let server = Server::start(&ns, program, arguments);
    let _client = leak_into(&ns, port);
    thread::sleep(Duration::from_millis(700));
    let report = tracer.report();
    assert_whole(&report);
    let process = &report["close_wait"]["processes"][0];
    assert_eq!(process["process"]["pid"], server.0.id(), "{}", report["close_wait"]);
    assert_eq!(process["count"], LEAK);
    let stacks = process["stacks"].as_array().unwrap();
    assert_eq!(stacks.len(), 1, "one place: {stacks:?}");
    assert_eq!(stacks[0]["count"], LEAK);
    assert!(["accepted", "first_read"].contains(&stacks[0]["kind"].as_str().unwrap()), "{stacks:?}");
    assert!(process["sockets"].as_array().unwrap().iter().all(|socket| socket["stack"] == 0));
    stacks[0].clone()
}

fn functions(stack: &Value) -> Vec<&str> {
    stack["frames"].as_array().unwrap().iter().filter_map(|frame| frame["function"].as_str()).collect()
}

/// What is mapped is the program all the same, for who may open that.
fn without_cap_sys_admin_a_removed_program_has_no_names() {
    requires(&[Feature::TpBtfCookie, Feature::CCompiler]);
    for (rights, named) in [(usual() | 1 << SYS_ADMIN, true), (usual(), false)] {
        let (ns, folder) = (NetNs::new().unwrap(), Folder::new());
        let program = server_in_c(&folder, &["-fno-omit-frame-pointer"], 100);
        let inum = ns.inum().to_string();
        let arguments = ["report", "--json", "--stacks", "--close-wait-after", "200ms", "--netns", &inum];
        let tracer = Tracer::start_under(&arguments, move || nobody_with(rights));
        let server = Server::start(&ns, &program, &["7105"]);
        fs::remove_file(&program).unwrap();
        let _client = leak_into(&ns, 7105);
        thread::sleep(Duration::from_millis(700));
        let report = tracer.report();
        let processes = report["close_wait"]["processes"].as_array().unwrap();
        let process = processes.iter().find(|process| process["process"]["pid"] == server.0.id()).unwrap();
        let stack = &process["stacks"][0];
        assert_eq!(
            (stack["count"].as_u64(), functions(stack).contains(&"handle_upload")),
            (Some(LEAK), named),
            "{stack:#}"
        );
    }
}

/// Whether one function is named, and directly behind it the one that calls it.
fn assert_calls(stack: &Value, caller: &str, called: &str) {
    let functions = functions(stack);
    let at = functions.iter().position(|name| name.contains(called));
    let at = at.unwrap_or_else(|| panic!("no {called}: {stack}"));
    assert!(functions[at + 1].contains(caller), "{called} is not called by {caller}: {stack}");
}

fn line_of(stack: &Value, source: &str, function: &str) -> bool {
    let frames = stack["frames"].as_array().unwrap();
    let frame = frames.iter().find(|frame| frame["function"] == function).unwrap();
    let line = usize::try_from(frame["line"].as_u64().unwrap()).unwrap();
    // At accept(), or at the read after it.
    let text = source.lines().nth(line - 1).unwrap();
    text.contains("accept(") || text.contains("read(")
}

fn a_program_with_frame_pointers_is_named() {
    requires(&[Feature::TpBtfCookie, Feature::CCompiler]);
    for frame in [100, 20_000] {
        let folder = Folder::new();
        let program = server_in_c(&folder, &["-fno-omit-frame-pointer"], frame);
        let stack = leaked_stack(&program, &["7101"], 7101);
        assert_calls(&stack, "worker_main", "handle_upload");
        assert_calls(&stack, "main", "worker_main");
        assert_eq!(stack["cut_off"], Value::Null, "{stack}");
        assert!(line_of(&stack, SERVER_C, "handle_upload"), "{stack}");
    }
}

fn a_program_without_frame_pointers_is_named() {
    requires(&[Feature::TpBtfCookie, Feature::CCompiler]);
    let folder = Folder::new();
    let program = server_in_c(&folder, &["-fomit-frame-pointer"], 100);
    let stack = leaked_stack(&program, &["7102"], 7102);
    assert_calls(&stack, "worker_main", "handle_upload");
    assert_calls(&stack, "main", "worker_main");
    assert_eq!(stack["cut_off"], Value::Null, "{stack}");
    assert!(line_of(&stack, SERVER_C, "handle_upload"), "{stack}");
}

fn a_frame_too_large_to_see_past_is_said_to_be() {
    requires(&[Feature::TpBtfCookie, Feature::CCompiler]);
    let folder = Folder::new();
    let program = server_in_c(&folder, &["-fomit-frame-pointer"], 20_000);
    let stack = leaked_stack(&program, &["7103"], 7103);
    assert_eq!(functions(&stack).last(), Some(&"handle_upload"), "{stack}");
    let why = stack["cut_off"].as_str().unwrap();
    assert!(why.starts_with("built without frame pointers: handle_upload server.c:"), "{why}");
}

fn a_program_in_rust_is_named() {
    requires(&[Feature::TpBtfCookie, Feature::RustCompiler]);
    for flags in [&["-O"][..], &["-g"]] {
        let folder = Folder::new();
        let source = folder.write("server.rs", SERVER_RS);
        let program = folder.0.join("server-rs");
        let arguments = [&["--edition=2021", source.to_str().unwrap()], flags].concat();
        compile("rustc", &arguments, &program);
        let stack = leaked_stack(&program, &["7104"], 7104);
        if stack["kind"] == "first_read" {
            assert_calls(&stack, "worker_main", "handle_upload");
        }
        assert!(functions(&stack).iter().any(|name| name.ends_with("worker_main")), "{stack}");
        assert_eq!(stack["cut_off"], Value::Null, "{flags:?}: {stack}");
    }
}

fn cpython_is_named_at_the_native_level() {
    requires(&[Feature::TpBtfCookie, Feature::Python]);
    let folder = Folder::new();
    let script = folder.write("server.py", SERVER_PY);
    let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    let program = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    let stack = leaked_stack(&program, &[script.to_str().unwrap(), "7105"], 7105);
    assert_eq!(stack["interpreter"], "CPython", "{stack}");
    let frames = stack["frames"].as_array().unwrap();
    let in_python = |frame: &Value| frame["module"].as_str().is_some_and(|name| name.contains("python"));
    assert!(frames.iter().any(in_python), "{stack}");
}

/// A leak of the test program's own, which needs no compiler and no interpreter.
fn leak_of_a_helper(ns: &NetNs) -> (Helper, Helper) {
    let mut server = Helper::spawn(ns, "leaky-server", &["listen=127.0.0.1:7107"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let client = leak_into(ns, 7107);
    for _ in 0..LEAK {
        server.expect("eof", PATIENCE).unwrap();
    }
    (server, client)
}

fn accept_is_told_where_the_kernel_allows_it() {
    requires(&[Feature::TpBtfCookie]);
    let ns = NetNs::new().unwrap();
    let inum = ns.inum().to_string();
    let tracer =
        Tracer::start(&["report", "--json", "--stacks", "--close-wait-after", "100ms", "--netns", &inum]);
    let _helpers = leak_of_a_helper(&ns);
    thread::sleep(Duration::from_millis(500));
    let report = tracer.report();
    let stacks = report["close_wait"]["processes"][0]["stacks"].as_array().unwrap();
    let degradations = report["source"]["degradations"].as_array().unwrap();
    let degraded = degradations.iter().find(|one| one["feature"] == "stacks");
    let tiers = report["source"]["tiers"].as_array().unwrap();
    let exact = tiers.iter().any(|tier| tier == "fentry");
    let expected = if exact { "accepted" } else { "first_read" };
    assert_eq!(stacks.iter().map(|stack| stack["count"].as_u64().unwrap()).sum::<u64>(), LEAK, "{stacks:?}");
    for stack in stacks {
        assert_eq!(stack["kind"], expected, "{stack}");
        // An optimised build has but the last part of its functions' names.
        let ours = |frame: &Value| frame["file"].as_str().is_some_and(|file| file.contains("testkit/src/"));
        assert!(stack["frames"].as_array().unwrap().iter().any(ours), "{stack}");
    }
    assert_eq!(degraded.is_some(), !exact, "{degradations:?}");
}

/// The report of a recording is the live one, also on a machine that has none of the programs.
fn a_recording_holds_what_it_takes() {
    requires(&[Feature::TpBtfCookie]);
    let (ns, folder) = (NetNs::new().unwrap(), Folder::new());
    let (inum, path) = (ns.inum().to_string(), folder.0.join("stacks.tctrace"));
    let path = path.to_str().unwrap();
    let common = ["report", "--json", "--close-wait-after", "100ms"];
    let live = ["--stacks", "--netns", &inum, "--record", path];
    let tracer = Tracer::start(&[&common[..], &live].concat());
    let _helpers = leak_of_a_helper(&ns);
    thread::sleep(Duration::from_millis(300));
    let live = tracer.report();
    assert!(live["close_wait"]["processes"][0]["stacks"][0]["kind"].is_string(), "{live}");
    let replayed = Tracer::run(&[&common[..], &["--from", path]].concat());
    let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(live, replayed);
}

/// Short connections are over before anybody has symbolised where they were opened.
fn finished_connections_carry_their_stacks() {
    requires(&[Feature::TpBtfCookie, Feature::CCompiler]);
    let ns = NetNs::new().unwrap();
    let folder = Folder::new();
    let program = server_in_c(&folder, &["-fno-omit-frame-pointer"], 100);
    let inum = ns.inum().to_string();
    let tracer = Tracer::start(&["stream", "--closed", "--json", "--stacks", "--netns", &inum]);
    let server = Server::start(&ns, &program, &["7106"]);
    let _client = leak_into(&ns, 7106);
    // A process that is gone within a few milliseconds cannot be looked at, which is another matter.
    thread::sleep(Duration::from_millis(500));
    drop(server);
    thread::sleep(Duration::from_millis(300));
    let lines: Vec<Value> = tracer.lines();
    let of = |role: &str| lines.iter().filter(|line| line["role"] == role).collect::<Vec<_>>();
    assert_eq!((of("server").len(), of("client").len()), (7, 7), "{lines:?}");
    for line in of("server") {
        assert_calls(&line["opened_at"], "worker_main", "handle_upload");
    }
    for line in of("client") {
        assert_eq!(line["opened_at"]["kind"], "connected", "{line}");
        assert!(!functions(&line["opened_at"]).is_empty(), "{line}");
    }
}

//! The agent: several sinks at once, of which each may fail alone; a configuration that changes under load.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tcp_trace_testkit::{
    Helper, NetNs,
    workload::{ChurnPlan, churn},
};

use crate::{
    Test,
    tracer::{PATIENCE, Tracer, text},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_new_configuration_under_load_loses_nothing", a_new_configuration_under_load_loses_nothing),
    (
        "a_dead_sink_costs_the_others_nothing_and_comes_back",
        a_dead_sink_costs_the_others_nothing_and_comes_back,
    ),
    (
        "a_configuration_that_is_not_taken_leaves_nothing_behind",
        a_configuration_that_is_not_taken_leaves_nothing_behind,
    ),
    ("it_stops_within_its_bound", it_stops_within_its_bound),
    ("a_leak_is_opened_and_closed_as_a_finding", a_leak_is_opened_and_closed_as_a_finding),
    ("the_service_manager_is_told", the_service_manager_is_told),
    ("it_answers_over_http", it_answers_over_http),
    ("a_new_token_is_taken_without_a_restart", a_new_token_is_taken_without_a_restart),
];

/// A folder that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tcp-trace-agent-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody listens on, just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status and body.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    get_with(port, path, "")
}

/// The same, with further lines in the request's head.
fn get_with(port: u16, path: &str, head: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The value of a metric with these labels, or the sum of all that have them.
fn metric(body: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = body.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

fn lines(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn changes(path: &str) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for line in lines(path) {
        if line["event"] == "tcp.state_change" {
            let key = |key: &str| line[key].as_str().unwrap().to_owned();
            *counts.entry((key("old_state"), key("new_state"))).or_default() += 1;
        }
    }
    counts
}

/// Starts an agent, and waits until its first report is there.
fn start(config: &str, port: u16) -> Tracer {
    let tracer = Tracer::start(&["agent", "--config", config]);
    until("ready", || get(port, "/readyz").filter(|(status, _)| *status == 200));
    tracer
}

fn head(ns: &NetNs, port: u16) -> String {
    format!(
        "[report]\ninterval = \"1s\"\nclose_wait_after = \"500ms\"\n\
         [http]\nlisten = \"127.0.0.1:{port}\"\n\
         [source]\nnetns = \"{}\"\n",
        ns.inum()
    )
}

/// A sink that has every transition told.
fn everything(name: &str, path: &str) -> String {
    format!(
        "[sinks.{name}]\nlevel = \"all\"\nrate = 1000000\nqueue = 1000000\n[sinks.{name}.file]\npath = \"{path}\"\n"
    )
}

fn a_new_configuration_under_load_loses_nothing() {
    const ROUNDS: u32 = 4;
    let (ns, folder, port) = (NetNs::new().unwrap(), Folder::new(), free_port());
    let [config, a, b] = ["agent.toml", "a.jsonl", "b.jsonl"].map(|name| folder.path(name));
    fs::write(&config, head(&ns, port) + &everything("a", &a)).unwrap();
    let tracer = start(&config, port);
    let done = AtomicBool::new(false);
    let connections = thread::scope(|scope| {
        let load = scope.spawn(|| {
            // A load that an unoptimised agent keeps up with, and that ends also if the test fails.
            let (mut connections, deadline) = (0, Instant::now() + 3 * PATIENCE);
            while !done.load(Relaxed) && Instant::now() < deadline {
                churn(&ns, 100, &ChurnPlan::default()).unwrap();
                connections += 100;
                thread::sleep(Duration::from_millis(100));
            }
            connections
        });
        let filter = "[sinks.b.filter]\nstates = [\"CLOSE_WAIT\"]\n";
        for round in 0..ROUNDS {
            thread::sleep(Duration::from_millis(300));
            let more = if round % 2 == 0 { everything("b", &b) + filter } else { String::new() };
            let labels = format!("[agent]\nlabels = {{ round = \"{round}\" }}\n");
            // Labels are part of every line: even `a` changes each time.
            fs::write(&config, head(&ns, port) + &everything("a", &a) + &more + &labels).unwrap();
            tracer.signal(Signal::HUP);
            until("the new configuration is taken", || {
                let (_, body) = get(port, "/metrics")?;
                let taken = metric(&body, "tcp_trace_reloads_total", &["outcome=\"applied\""]);
                (taken > f64::from(round)).then_some(())
            });
        }
        thread::sleep(Duration::from_millis(300));
        done.store(true, Relaxed);
        load.join().unwrap()
    });
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("0 lost (balanced)") && !said.contains("were lost"), "{said}");
    let told = changes(&a);
    for (old, new) in
        [("CLOSE", "SYN_SENT"), ("LISTEN", "SYN_RECV"), ("ESTABLISHED", "CLOSE_WAIT"), ("LAST_ACK", "CLOSE")]
    {
        let count = told.get(&(old.to_owned(), new.to_owned()));
        assert_eq!(count, Some(&connections), "{old} > {new}: {told:?}");
    }
    let filtered = changes(&b);
    assert!(filtered.values().sum::<u64>() > 0, "the second sink was told nothing");
    assert!(filtered.keys().all(|(old, new)| old == "CLOSE_WAIT" || new == "CLOSE_WAIT"), "{filtered:?}");
    let rounds: Vec<_> =
        lines(&a).iter().filter_map(|line| line["labels"]["round"].as_str().map(str::to_owned)).collect();
    assert!(rounds.last() == Some(&(ROUNDS - 1).to_string()) && rounds.is_sorted(), "documents are in order");
}

fn a_configuration_that_is_not_taken_leaves_nothing_behind() {
    let (ns, folder, port) = (NetNs::new().unwrap(), Folder::new(), free_port());
    let [config, b, c] = ["agent.toml", "b.jsonl", "c.jsonl"].map(|name| folder.path(name));
    fs::write(&config, head(&ns, port)).unwrap();
    let tracer = start(&config, port);
    let reloads = |outcome: &str| {
        until(outcome, || {
            let (_, body) = get(port, "/metrics")?;
            let label = format!("outcome=\"{outcome}\"");
            (metric(&body, "tcp_trace_reloads_total", &[&label]) == 1.0).then_some(())
        });
    };
    // A file that is a folder cannot be had; the one before it in the list could.
    let wrong = everything("c", folder.0.to_str().unwrap());
    fs::write(&config, head(&ns, port) + &everything("b", &b) + &wrong).unwrap();
    tracer.signal(Signal::HUP);
    reloads("refused");
    fs::write(&config, head(&ns, port) + &everything("b", &b) + &everything("c", &c)).unwrap();
    tracer.signal(Signal::HUP);
    reloads("applied");
    churn(&ns, 10, &ChurnPlan::default()).unwrap();
    let output = tracer.stop();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for path in [b, c] {
        assert_eq!(changes(&path)[&("CLOSE".to_owned(), "SYN_SENT".to_owned())], 10, "{path}");
    }
}

/// An endpoint that answers every request with 200 and nothing.
fn collector(port: u16) -> Arc<AtomicU64> {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let requests = Arc::<AtomicU64>::default();
    let count = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let (mut length, mut line) = (0, String::new());
                    while reader.read_line(&mut line).unwrap_or(0) > 2 {
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    if line.is_empty() {
                        return;
                    }
                    let mut body = vec![0; length];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    count.fetch_add(1, Relaxed);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    requests
}

fn otlp(name: &str, port: u16, more: &str) -> String {
    format!(
        "[sinks.{name}]\nlevel = \"all\"\nrate = 1000000\nqueue = 500\n{more}[sinks.{name}.otlp]\n\
         endpoint = \"http://127.0.0.1:{port}\"\nsignals = [\"logs\"]\ntimeout = \"2s\"\n"
    )
}

fn a_dead_sink_costs_the_others_nothing_and_comes_back() {
    const CONNECTIONS: u64 = 2_000;
    let (ns, folder, port, dead) = (NetNs::new().unwrap(), Folder::new(), free_port(), free_port());
    let [config, a] = ["agent.toml", "a.jsonl"].map(|name| folder.path(name));
    fs::write(&config, head(&ns, port) + &everything("a", &a) + &otlp("dead", dead, "")).unwrap();
    let tracer = start(&config, port);
    churn(&ns, CONNECTIONS, &ChurnPlan::default()).unwrap();
    let body = until("the loss of the dead sink", || {
        let (_, body) = get(port, "/metrics")?;
        (metric(&body, "tcp_trace_sink_documents_total", &["sink=\"dead\"", "outcome=\"dropped\""])
            > 15_000.0)
            .then_some(body)
    });
    assert_eq!(
        metric(&body, "tcp_trace_sink_documents_total", &["sink=\"a\"", "outcome=\"dropped\""]),
        0.0,
        "{body}"
    );
    let fails = |over: bool| {
        until("the degradation", || {
            lines(&a).into_iter().find(|line| {
                line["event"] == "tcp.degradation"
                    && line["degradation"]["feature"] == "sink dead"
                    && line["over"] == over
            })
        })
    };
    fails(false);
    let requests = collector(dead);
    fails(true);
    until("what waited is sent", || (requests.load(Relaxed) > 0).then_some(()));
    let output = tracer.stop();
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("sink dead: works again"), "{said}");
    assert!(said.contains("tcp-trace: sink dead: ") && said.contains("documents were lost"), "{said}");
    let told = changes(&a);
    assert_eq!(told[&("CLOSE".to_owned(), "SYN_SENT".to_owned())], CONNECTIONS, "{told:?}");
}

fn it_stops_within_its_bound() {
    let (ns, folder, port) = (NetNs::new().unwrap(), Folder::new(), free_port());
    let config = folder.path("agent.toml");
    // It accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = "[agent]\nstop_within = \"1s\"\n";
    let dead = otlp("silent", silent.local_addr().unwrap().port(), "").replace("\"2s\"", "\"60s\"");
    fs::write(&config, head(&ns, port) + bound + &dead).unwrap();
    let tracer = start(&config, port);
    churn(&ns, 20, &ChurnPlan::default()).unwrap();
    thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    tracer.signal(Signal::TERM);
    let output = tracer.wait();
    let (took, said) = (start.elapsed(), text(&output.stderr));
    assert!(output.status.success() && took < Duration::from_secs(5), "{took:?}: {said}");
    assert!(said.contains("sink silent: ") && said.contains("were lost"), "{said}");
    assert!(said.contains("0 lost (balanced)"), "{said}");
}

fn a_leak_is_opened_and_closed_as_a_finding() {
    let (ns, folder, port) = (NetNs::new().unwrap(), Folder::new(), free_port());
    let [config, findings] = ["agent.toml", "findings.jsonl"].map(|name| folder.path(name));
    let sink = format!(
        "[sinks.findings.filter]\nprocesses = [\"leaky\"]\n[sinks.findings.file]\npath = \"{findings}\"\n\
         [findings.close_wait_leak]\nmin_sockets = 3\n"
    );
    fs::write(&config, head(&ns, port) + &sink).unwrap();
    let tracer = start(&config, port);
    let mut server = Helper::spawn(&ns, "leaky-server", &["listen=127.0.0.1:7001", "comm=leaky"]).unwrap();
    server.expect("listening", PATIENCE).unwrap();
    let mut client = Helper::spawn(&ns, "client", &["connect=127.0.0.1:7001", "count=10"]).unwrap();
    client.expect("ready", PATIENCE).unwrap();
    client.send("close count=10").unwrap();
    let step = |step: &str| {
        until(step, || {
            lines(&findings).into_iter().find(|line| {
                line["event"] == "tcp.finding"
                    && line["step"] == step
                    && line["finding"]["id"] == "close_wait_leak"
            })
        })
    };
    let opened = step("opened");
    assert_eq!(opened["finding"]["subject"]["process"]["pid"], server.pid(), "{opened}");
    assert!(opened["message"].as_str().unwrap().contains("leaky"), "{opened}");
    let (_, body) = get(port, "/metrics").unwrap();
    assert_eq!(metric(&body, "tcp_trace_close_wait_lingering_sockets", &["comm=\"leaky\""]), 10.0, "{body}");
    drop(server);
    let closed = step("closed");
    assert_eq!(closed["finding"]["subject"], opened["finding"]["subject"]);
    assert!(tracer.stop().status.success());
}

fn the_service_manager_is_told() {
    let (ns, folder, port) = (NetNs::new().unwrap(), Folder::new(), free_port());
    let [config, socket] = ["agent.toml", "notify"].map(|name| folder.path(name));
    fs::write(&config, head(&ns, port)).unwrap();
    let manager = UnixDatagram::bind(Path::new(&socket)).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let tracer = Tracer::start_with(
        &["agent", "--config", &config],
        &[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "400000")],
    );
    let hears = |what: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
            let message = text(&buffer[..length]);
            if message.contains(what) {
                return message;
            }
        }
    };
    hears("READY=1");
    let start = Instant::now();
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    assert!(start.elapsed() < Duration::from_secs(2), "twice in {:?}", start.elapsed());
    tracer.signal(Signal::HUP);
    assert!(hears("RELOADING=1").contains("MONOTONIC_USEC="));
    hears("READY=1");
    tracer.signal(Signal::TERM);
    hears("STOPPING=1");
    assert!(tracer.wait().status.success());
}

fn it_answers_over_http() {
    let (ns, folder, port) = (NetNs::new().unwrap(), Folder::new(), free_port());
    let config = folder.path("agent.toml");
    fs::write(&config, head(&ns, port)).unwrap();
    let tracer = start(&config, port);
    assert_eq!(get(port, "/healthz"), Some((200, "ok\n".to_owned())));
    assert_eq!(get(port, "/nowhere").map(|(status, _)| status), Some(404));
    churn(&ns, 100, &ChurnPlan::default()).unwrap();
    until("the transitions", || {
        let (status, body) = get(port, "/metrics")?;
        assert_eq!(status, 200);
        let opened = metric(&body, "tcp_trace_transitions_total", &["old=\"closed\"", "new=\"syn_sent\""]);
        (opened == 100.0).then_some(())
    });
    // Somebody who never finishes a request keeps nobody else from being answered.
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let idle: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(get(port, "/healthz").map(|(status, _)| status), Some(200));
    drop(idle);
    // A second agent cannot listen there, and says so before it attaches anything.
    let second = Tracer::run(&["agent", "--config", &config]);
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("http.listen") && said.contains("give another address or port"), "{said}");
    assert!(tracer.stop().status.success());
}

/// Certificates are read in the same way, and at the same time: `tests/cli/http.rs` has them.
fn a_new_token_is_taken_without_a_restart() {
    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";
    let (ns, folder, port) = (NetNs::new().unwrap(), Folder::new(), free_port());
    let [config, tokens] = ["agent.toml", "tokens"].map(|name| folder.path(name));
    let write = |text: &str, mode: u32| {
        fs::write(&tokens, text).unwrap();
        fs::set_permissions(&tokens, fs::Permissions::from_mode(mode)).unwrap();
    };
    let http = format!("listen = \"127.0.0.1:{port}\"\ntoken_file = \"{tokens}\"\n");
    fs::write(&config, head(&ns, port).replace(&format!("listen = \"127.0.0.1:{port}\"\n"), &http)).unwrap();
    write(OLD, 0o600);
    let tracer = start(&config, port);
    let ask =
        |token: &str| get_with(port, "/metrics", &format!("Authorization: Bearer {token}\r\n")).unwrap();
    let reloads = |token: &str, outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        until(outcome, || (metric(&ask(token).1, "tcp_trace_reloads_total", &[&label]) == 1.0).then_some(()));
    };
    assert_eq!(get(port, "/metrics").unwrap().0, 401);
    assert_eq!((ask(OLD).0, ask(NEW).0), (200, 401));
    // One that everybody can read protects nothing: it is not taken, and the old one holds.
    write(NEW, 0o644);
    tracer.signal(Signal::HUP);
    reloads(OLD, "refused");
    assert_eq!((ask(OLD).0, ask(NEW).0), (200, 401));
    write(NEW, 0o600);
    tracer.signal(Signal::HUP);
    reloads(NEW, "applied");
    assert_eq!((ask(OLD).0, ask(NEW).0, get(port, "/healthz").unwrap().0), (401, 200, 200));
    let output = tracer.stop();
    let said = text(&output.stderr);
    assert!(
        output.status.success() && said.contains("its mode 0644 lets others read or change it"),
        "{said}"
    );
    assert!(!said.contains(OLD) && !said.contains(NEW), "{said}");
}

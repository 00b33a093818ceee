//! A real Prometheus scrapes what is exposed, evaluates every rule and answers every query of the dashboard.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tcp_trace::sink::prometheus::{Format, expose};
use tcp_trace_core::{
    metrics::{Meter, Settings},
    report::Report,
    time::WallTime,
};

use crate::{Entry, queries, root, source};

pub(crate) const TESTS: &[Entry] =
    &[("it_scrapes_and_answers_every_query", Some("prometheus"), it_scrapes_and_answers_every_query)];

/// How long it may take to have scraped often enough.
const PATIENCE: Duration = Duration::from_secs(60);
/// Scrapes after which every rate has a value.
const SCRAPES: usize = 5;

/// Queries that rightly have no answer here, by what they contain: nothing is lost, no window is unbalanced, no host is
/// down, no number is old.
const SILENT: [&str; 7] = [
    "outcome=\"lost\"",
    "balanced=\"false\"",
    "up{job=\"tcp-trace\"} == 0",
    "time() - tcp_trace_report_timestamp_seconds > 180",
    "outcome=~\"dropped|refused\"",
    // Nothing there is as bad as that.
    "tcp_trace_local_ports_used_ratio > 0.8",
    "tcp_trace_accept_queue_connections >= 0.9",
];

fn it_scrapes_and_answers_every_query() {
    let host = Host::start();
    let prometheus = Prometheus::start(host.port);
    prometheus.wait(|| host.scrapes.load(Ordering::Relaxed) >= SCRAPES);
    assert_eq!(host.formats.lock().unwrap().last(), Some(&Format::OpenMetrics), "it was offered OpenMetrics");
    let answer = prometheus.get("/api/v1/targets");
    let target = &answer["data"]["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["lastError"].as_str()), (Some("up"), Some("")), "{target}");
    for group in prometheus.get("/api/v1/rules")["data"]["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let health = (rule["health"].as_str(), rule["lastError"].as_str());
            assert_eq!((health.0, health.1.unwrap_or("")), (Some("ok"), ""), "{rule}");
        }
    }
    let mut unanswered = Vec::new();
    for query in queries::dashboard().into_iter().chain(queries::rules()) {
        let answer = prometheus.query(&query);
        let found = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}"));
        if found.is_empty() != SILENT.iter().any(|part| query.contains(part)) {
            unanswered.push((query, found.len()));
        }
    }
    assert!(unanswered.is_empty(), "{unanswered:#?}");
    the_questions_have_the_answers_that_were_put_in(&prometheus);
}

/// Numbers that a scrape says and that were put in.
fn the_questions_have_the_answers_that_were_put_in(prometheus: &Prometheus) {
    let number = |query: &str| {
        let answer = prometheus.query(query);
        let value =
            answer["data"]["result"][0]["value"][1].as_str().unwrap_or_else(|| panic!("{query}: {answer}"));
        value.parse::<f64>().unwrap()
    };
    let report = source::crowded();
    let all = report.close_wait.lingering as f64;
    assert_eq!(number("sum(tcp_trace_close_wait_lingering_sockets)"), all);
    assert_eq!(number("sum(tcp_trace_half_open_requests)"), report.half_open.live.unwrap() as f64);
    assert_eq!(number("sum(tcp_trace_time_wait_sockets)"), report.time_wait.live.unwrap() as f64);
    assert_eq!(number("count(tcp_trace_close_wait_lingering_sockets)"), 21.0);
    // Together the listeners rise as the host does: `other` loses nothing and invents nothing.
    let by_listener = "sum(tcp_trace_listener_handshakes_total{outcome=\"completed\"})";
    let by_host = "sum(tcp_trace_handshakes_total{outcome=\"completed\"})";
    assert_eq!(number(&format!("{by_listener} - {by_host}")), 0.0);
    assert!(number(by_host) >= (report.half_open.completed.count * SCRAPES as u64) as f64);
    let since = number(
        "histogram_quantile(0.5, sum by (le) (rate(tcp_trace_half_open_duration_seconds_bucket[1m])))",
    );
    assert!(since > 0.0 && since < 63.0, "{since}");
}

/// A host that answers scrapes; with each one there is a report more.
struct Host {
    port: u16,
    scrapes: Arc<AtomicUsize>,
    formats: Arc<Mutex<Vec<Format>>>,
}

impl Host {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = Self {
            port: listener.local_addr().unwrap().port(),
            scrapes: Arc::default(),
            formats: Arc::default(),
        };
        let (scrapes, formats) = (Arc::clone(&host.scrapes), Arc::clone(&host.formats));
        let report = source::crowded();
        let mut meter = Meter::new(Settings::default(), report.window.start);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                absorb(&mut meter, &report);
                if let Some(format) = answer(stream, &meter) {
                    formats.lock().unwrap().push(format);
                    scrapes.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        host
    }
}

fn absorb(meter: &mut Meter, report: &Report) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut report = report.clone();
    report.window.end = WallTime(u64::try_from(now.as_nanos()).unwrap());
    meter.absorb(&report);
}

/// Prometheus keeps its connection open, which this server does not know how to: one scrape each.
fn answer(mut stream: TcpStream, meter: &Meter) -> Option<Format> {
    let mut accept = None;
    for line in BufReader::new(stream.try_clone().ok()?).lines() {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("accept")
        {
            accept = Some(value.trim().to_owned());
        }
    }
    let format = Format::negotiate(accept.as_deref());
    let body = expose(&meter.snapshot(&source::own(5)), format);
    let (kind, length) = (format.content_type(), body.len());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    Some(format)
}

/// A Prometheus with our rules, which ends with the test.
struct Prometheus {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Prometheus {
    fn start(target: u16) -> Self {
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("prometheus-{port}"));
        fs::create_dir_all(&folder).unwrap();
        let rules = root().join("deploy/prometheus");
        let rules = rules.display();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{rules}/rules.yml\", \"{rules}/alerts.yml\"]\n\
             scrape_configs:\n  - job_name: tcp-trace\n    honor_labels: true\n    static_configs:\n      - targets: [\"127.0.0.1:{target}\"]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, port, folder }
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "Prometheus has not scraped often enough:\n{}", log());
            thread::sleep(Duration::from_millis(100));
        }
        // What was scraped last is there, and the rules have seen it.
        thread::sleep(Duration::from_secs(2));
    }

    fn query(&self, expr: &str) -> Value {
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.get(&format!("/api/v1/query?query={encoded}"))
    }

    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

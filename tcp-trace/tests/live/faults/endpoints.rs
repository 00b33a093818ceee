//! Collectors of every temper, all at once: none of them costs anybody else anything.

use std::{
    fs,
    io::{BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tcp_trace_testkit::{
    NetNs,
    scale::scaled,
    workload::{ChurnPlan, churn},
};

use super::{Folder, until};
use crate::tracer::{Tracer, text};

/// What an endpoint does with a request, until it becomes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temper {
    /// 200, as it should be.
    Well,
    /// Takes the connection, and never answers.
    Silent,
    /// 200 with a page.
    Page,
    /// 200, and half of the body that was announced.
    CutShort,
    /// 200 and a body without end, slowly.
    Endless,
    /// 200 and as much as one can send.
    Flood,
    /// 200, called protobuf, which it is not.
    Garbled,
    /// 302 to somewhere else.
    Elsewhere,
    /// 429, to be asked again after a second.
    Later,
    /// 503.
    Overloaded,
    /// Bytes that are no HTTP.
    Noise,
    /// A header that never ends.
    LongHeader,
    /// Closes without an answer.
    HangsUp,
}

use Temper::{
    CutShort, Elsewhere, Endless, Flood, Garbled, HangsUp, Later, LongHeader, Noise, Overloaded, Page,
    Silent, Well,
};

const TEMPERS: [Temper; 13] = [
    Well, Silent, Page, CutShort, Endless, Flood, Garbled, Elsewhere, Later, Overloaded, Noise, LongHeader,
    HangsUp,
];

impl Temper {
    /// What becomes of the documents: what a 2xx says is delivered, whatever follows; a redirection is refused; all else
    /// may be sent again.
    fn takes(self) -> bool {
        matches!(self, Well | Page | CutShort | Endless | Flood | Garbled)
    }

    fn refuses(self) -> bool {
        self == Elsewhere
    }

    /// Returns whether the connection goes on.
    fn answer(self, stream: &mut TcpStream) -> std::io::Result<bool> {
        const OK: &str = "HTTP/1.1 200 OK\r\n";
        let mut say = |text: String| stream.write_all(text.as_bytes()).map(|()| true);
        match self {
            Well => say(format!("{OK}content-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")),
            Page => {
                say(format!("{OK}content-type: text/html\r\ncontent-length: 19\r\n\r\n<html>hello</html>\n"))
            }
            Garbled => say(format!(
                "{OK}content-type: application/x-protobuf\r\ncontent-length: 4\r\n\r\n\u{1}\u{2}\u{3}\u{4}"
            )),
            CutShort => say(format!("{OK}content-length: 1000\r\n\r\nhalf")).map(|_| false),
            Elsewhere => {
                say("HTTP/1.1 302 Found\r\nlocation: http://198.18.0.1/\r\ncontent-length: 0\r\n\r\n"
                    .to_owned())
            }
            Later => {
                say("HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
                    .to_owned())
            }
            Overloaded => say("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned()),
            Noise => say("\u{16}\u{3}\u{1}SSH-2.0-no such thing\r\n\r\n".to_owned()).map(|_| false),
            HangsUp => Ok(false),
            Silent => {
                thread::sleep(Duration::from_secs(30));
                Ok(false)
            }
            Endless | Flood | LongHeader => {
                say(if self == LongHeader {
                    OK.to_owned()
                } else {
                    format!("{OK}content-length: 99999999999\r\n\r\n")
                })?;
                let (piece, pause) = match self {
                    Flood => ("x".repeat(1 << 16), 0),
                    LongHeader => (format!("x-more: {}\r\n", "y".repeat(500)), 1),
                    _ => ("x".to_owned(), 50),
                };
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(20) {
                    stream.write_all(piece.as_bytes())?;
                    thread::sleep(Duration::from_millis(pause));
                }
                Ok(false)
            }
        }
    }
}

/// An endpoint that is `temper` until `well`.
fn endpoint(temper: Temper, well: &Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let well = Arc::clone(well);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let well = Arc::clone(&well);
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                while request(&mut reader).is_some() {
                    let temper = if well.load(Relaxed) { Well } else { temper };
                    if !temper.answer(&mut stream).unwrap_or(false) {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Takes a request.
fn request(reader: &mut impl std::io::BufRead) -> Option<()> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()
}

fn name(temper: Temper) -> String {
    format!("{temper:?}").to_lowercase()
}

fn config(netns: u32, http: u16, good: &str, ports: &[(Temper, u16)]) -> String {
    let mut config = format!(
        "[agent]\nstop_within = \"1s\"\n[report]\ninterval = \"1s\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
         [source]\nnetns = \"{netns}\"\n\
         [sinks.good]\nlevel = \"all\"\nrate = 1000000\nqueue = 1000000\n[sinks.good.file]\npath = \"{good}\"\n"
    );
    for (temper, port) in ports {
        let name = name(*temper);
        config += &format!(
            "[sinks.{name}]\nlevel = \"all\"\nrate = 1000000\nqueue = 2000\n[sinks.{name}.otlp]\n\
             endpoint = \"http://127.0.0.1:{port}\"\nsignals = [\"logs\"]\ntimeout = \"500ms\"\n"
        );
    }
    config
}

fn metrics(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// Documents of a sink with this outcome.
fn documents(body: &str, temper: Temper, outcome: &str) -> f64 {
    let (sink, outcome) = (format!("sink=\"{}\"", name(temper)), format!("outcome=\"{outcome}\""));
    let lines = body.lines().filter(|line| {
        line.starts_with("tcp_trace_sink_documents_total{") && line.contains(&sink) && line.contains(&outcome)
    });
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

pub(super) fn nonsense() {
    let connections = scaled(1_000, 300);
    let (ns, folder, well) = (NetNs::new().unwrap(), Folder::new(), Arc::new(AtomicBool::new(false)));
    let ports = TEMPERS.map(|temper| (temper, endpoint(temper, &well)));
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (file, good) = (folder.path("agent.toml"), folder.path("good"));
    fs::write(&file, config(ns.inum(), http, &good, &ports)).unwrap();
    let tracer = Tracer::start(&["agent", "--config", &file]);
    until("the agent", || metrics(http));
    churn(&ns, connections, &ChurnPlan::default()).unwrap();
    for temper in TEMPERS {
        until(&format!("what becomes of the documents of {temper:?}"), || {
            let body = metrics(http)?;
            let [sent, refused, dropped] =
                ["sent", "refused", "dropped"].map(|outcome| documents(&body, temper, outcome));
            let as_expected = if temper.takes() {
                sent > 0.0 && refused == 0.0
            } else if temper.refuses() {
                refused > 0.0 && sent == 0.0
            } else {
                dropped > 0.0 && sent == 0.0 && refused == 0.0
            };
            as_expected.then_some(())
        });
    }
    well.store(true, Relaxed);
    churn(&ns, 10, &ChurnPlan::default()).unwrap();
    for temper in TEMPERS {
        until(&format!("{temper:?} has become well"), || {
            (documents(&metrics(http)?, temper, "sent") > 0.0).then_some(())
        });
    }
    let start = Instant::now();
    tracer.signal(Signal::TERM);
    let output = tracer.wait();
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("0 lost (balanced)"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    let told = fs::read_to_string(&good).unwrap();
    let opened = told.lines().filter(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["event"] == "tcp.state_change" && line["new_state"] == "SYN_SENT"
    });
    assert_eq!(opened.count() as u64, connections + 10, "the sink that is well has everything");
}

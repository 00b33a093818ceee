//! A collector that answers as it is told to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use flate2::read::GzDecoder;

/// What it does with a request.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Status line, further headers, body.
    Answer(&'static str, &'static str, Vec<u8>),
    /// Reads nothing more and closes.
    HangUp,
    /// Bytes that are no HTTP.
    Garbage,
    /// The status line at once, and a byte of the body now and then, for ever.
    Drip,
    /// Nothing, for ever.
    Silence,
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    /// Before decompression.
    pub(super) sent: usize,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: mpsc::Receiver<Request>,
}

pub(super) fn answer(status: &'static str) -> Step {
    Step::Answer(status, "", Vec::new())
}

impl Server {
    /// One step for each request; the last one for all that follow.
    pub(super) fn new(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            let mut steps = steps.into_iter().peekable();
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(request) = read(&mut reader) {
                    let step = if steps.len() > 1 { steps.next() } else { steps.peek().cloned() };
                    if sender.send(request).is_err() {
                        return;
                    }
                    if !play(step.unwrap(), &stream) {
                        break;
                    }
                }
            }
        });
        Self { address, requests }
    }

    pub(super) fn url(&self) -> Option<String> {
        Some(format!("http://{}", self.address))
    }

    /// What has come; it waits for nothing.
    pub(super) fn received(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { path, headers, sent: 0, body: Vec::new() };
    request.sent = request.header("content-length")?.parse().ok()?;
    let mut body = vec![0; request.sent];
    reader.read_exact(&mut body).ok()?;
    request.body = match request.header("content-encoding") {
        Some("gzip") => {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain).ok()?;
            plain
        }
        _ => body,
    };
    Some(request)
}

/// Returns whether the connection goes on.
fn play(step: Step, mut stream: &TcpStream) -> bool {
    match step {
        Step::Answer(status, headers, body) => {
            let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&body).is_ok()
        }
        Step::HangUp => false,
        Step::Garbage => {
            // The other side may have gone away over it.
            let _ = stream.write_all(b"\x16\x03\x01SSH-2.0-no such thing\r\n\r\n");
            false
        }
        Step::Drip => {
            let begun = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
            while begun.is_ok() && stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
            false
        }
        Step::Silence => {
            thread::sleep(Duration::from_secs(60));
            false
        }
    }
}

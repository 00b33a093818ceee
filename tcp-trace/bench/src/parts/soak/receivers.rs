//! Those who take what the agent sends: they count it, and keep nothing.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// More than any datagram.
const DATAGRAM: usize = 1 << 18;

/// How much has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes what is sent to a journal's socket, until this process ends.
pub(super) fn journal(path: &Path) -> Result<Count> {
    let socket = UnixDatagram::bind(path).with_context(|| format!("binding {}", path.display()))?;
    Ok(datagrams(move |buffer| socket.recv(buffer)))
}

/// Takes syslog's messages, until this process ends.
pub(super) fn syslog() -> Result<(SocketAddr, Count)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    Ok((address, datagrams(move |buffer| socket.recv(buffer))))
}

fn datagrams(receive: impl Fn(&mut [u8]) -> std::io::Result<usize> + Send + 'static) -> Count {
    let count = Count::default();
    let shared = count.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; DATAGRAM];
        while receive(&mut buffer).is_ok() {
            shared.raise();
        }
    });
    count
}

/// Answers 200 to every request of an OTLP exporter, until this process ends.
pub(super) fn collector() -> Result<(SocketAddr, Count)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let count = Count::default();
    let shared = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = shared.clone();
            // One that breaks off has sent nothing.
            thread::spawn(move || while serve(&stream, &count).unwrap_or(false) {});
        }
    });
    Ok((address, count))
}

/// One request; `false` at the end of the connection.
fn serve(stream: &TcpStream, count: &Count) -> Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut lines = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        lines += 1;
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse::<u64>()?;
        }
    }
    ensure!(lines > 0, "an empty request");
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    count.raise();
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    Ok(true)
}

/// An address of loopback where nobody listens at the moment.
pub(super) fn nobody() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The answer to a request.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("GET http://{address}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "GET http://{address}{path}: {status}");
    Ok(body.to_owned())
}

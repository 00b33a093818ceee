//! An agent that has read a recording and answers, as long as a test wants it to.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::tracer::{data, program};

/// How long anything may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An agent that has read its recording and answers.
pub(crate) struct Agent {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
    pub(crate) address: SocketAddr,
}

impl Agent {
    /// Starts it, and waits until it has read the recording.
    pub(crate) fn start(config: &Path, recording: &Path) -> Self {
        let mut command = program(env!("CARGO_BIN_EXE_tcp-trace"));
        command.arg("agent").arg("--config").arg(config).arg("--from").arg(recording);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("its metrics stay on") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it ended at once: {said}");
        }
        let (_, url) = said.rsplit_once("://").unwrap();
        let address = url.split_once('/').unwrap().0.parse().unwrap();
        Self { child, stderr, said, address }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it; everything that it said.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        self.stderr.read_to_string(&mut self.said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.said);
        std::mem::take(&mut self.said)
    }

    pub(crate) fn plain(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection by TLS, of somebody who trusts the tests' authority.
    pub(crate) fn tls(&self) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data("tls/ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let name = ServerName::try_from("localhost").unwrap();
        Tls(StreamOwned::new(ClientConnection::new(config, name).unwrap(), self.plain()))
    }
}

/// A connection by TLS.
pub(crate) struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    /// Until both sides know each other.
    pub(crate) fn shake_hands(&mut self) -> Result<(), String> {
        let StreamOwned { conn, sock } = &mut self.0;
        while conn.is_handshaking() {
            conn.complete_io(sock).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The certificate that was shown, and the answer.
    pub(crate) fn ask(mut self, request: &str) -> Result<(CertificateDer<'static>, String), String> {
        let answer = talk(&mut self.0, request)?;
        let shown = self.0.conn.peer_certificates().unwrap()[0].clone().into_owned();
        Ok((shown, answer))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already ended, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request, and everything that comes back.
pub(crate) fn talk(stream: &mut (impl Read + Write), request: &str) -> Result<String, String> {
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer)
}

pub(crate) fn get(path: &str, token: Option<&str>) -> String {
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n")
}

#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

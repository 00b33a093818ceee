//! What the agent answers over HTTP: `/metrics`, `/healthz` and `/readyz`. The only folder that imports hyper and tokio-rustls.
//!
//! A thread of its own: however slowly somebody reads, nothing else waits.

mod access;
mod answer;
mod board;
mod complaints;
mod tls;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

pub use self::{access::Access, board::Board};
use self::{
    access::Refusal,
    answer::{Answer, answer, only_tls},
    complaints::{Complaints, Kind},
};
use crate::confine::{self, Duty};

/// Connections that are served at a time.
const CONNECTIONS: usize = 64;
/// How long a connection is left alone when all are taken; then the oldest one gives way. Whoever keeps many of them and says
/// nothing cannot keep others out.
const GRACE: Duration = Duration::from_secs(1);
/// How long a request may take to come, and a handshake of TLS.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may take altogether.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The longest head of a request.
const HEAD: usize = 16 * 1024;
/// The most fields in it.
const FIELDS: usize = 64;
/// What a client that speaks TLS says first: a record of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// The server; it ends with `self`.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

/// What all connections have in common.
#[derive(Debug)]
struct Shared {
    board: Arc<Board>,
    access: RwLock<Arc<Access>>,
    complaints: Complaints,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    ///
    /// If the address is taken, or not one of this host.
    pub fn start(listen: SocketAddr, board: Arc<Board>, access: Access) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).with_context(|| {
            format!("http.listen: {listen} cannot be listened on; give another address or port")
        })?;
        listener.set_nonblocking(true).context("http.listen")?;
        let address = listener.local_addr().context("http.listen")?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("starting the runtime of the HTTP server")?;
        let access = RwLock::new(Arc::new(access));
        let shared = Arc::new(Shared { board, access, complaints: Complaints::default() });
        let served = Arc::clone(&shared);
        let serve = move || {
            confine::assume(&Duty::Serve);
            runtime.block_on(async {
                tokio::select! {
                    served = accept(listener, served) => {
                        if let Err(error) = served {
                            log::error!("the HTTP server has ended: {error}");
                        }
                    }
                    _ = stopped => {}
                }
            });
        };
        thread::Builder::new().name("tt-http".to_owned()).spawn(serve).context("starting the HTTP server")?;
        Ok(Self { address, shared, _stop: stop })
    }

    /// Whoever comes from now on is served by this; those who are being served notice nothing.
    pub fn renew(&self, access: Access) {
        *self.shared.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// Where the metrics are.
    #[must_use]
    pub fn url(&self) -> String {
        let access = self.shared.access();
        let token = if access.wants_token() { " (with a token)" } else { "" };
        format!("{}://{}/metrics{token}", access.scheme(), self.address)
    }
}

impl Shared {
    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut crowd = VecDeque::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptor is free, most likely: that passes.
                log::warn!("accepting an HTTP connection: {error}");
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        make_room(&mut crowd, peer, &shared.complaints).await;
        let serving = serve(stream, peer, Arc::clone(&shared));
        let serving = tokio::spawn(async {
            // Whatever it was doing by then, it has had its time.
            let _ = timeout(ANSWER_WITHIN, serving).await;
        });
        crowd.push_back((Instant::now(), serving));
    }
}

/// Waits until there is room for one more; the oldest one makes it, if nobody else does.
async fn make_room(
    crowd: &mut VecDeque<(Instant, JoinHandle<()>)>,
    peer: SocketAddr,
    complaints: &Complaints,
) {
    loop {
        crowd.retain(|(_, serving)| !serving.is_finished());
        if crowd.len() < CONNECTIONS {
            return;
        }
        if let Some((_, oldest)) = crowd.pop_front_if(|(began, _)| began.elapsed() >= GRACE) {
            oldest.abort();
            complaints.hear(
                Kind::Crowd,
                peer.ip(),
                "all connections are taken, and the oldest one was ended for this one; who opens so many?",
            );
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let access = shared.access();
    let mut first = [0];
    let Ok(Ok(1)) = timeout(REQUEST_WITHIN, stream.peek(&mut first)).await else { return };
    let answers = |request: &Request<Incoming>| {
        let (method, path) = (request.method(), request.uri().path());
        answer(method, path, request.headers(), &shared.board, &access, |refusal| {
            shared.complaints.hear(Kind::Token, peer.ip(), said(refusal));
        })
    };
    let complain = |kind, what: &str| shared.complaints.hear(kind, peer.ip(), what);
    match (&access.tls, first == [HANDSHAKE]) {
        (Some(tls), true) => match timeout(REQUEST_WITHIN, tls.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, answers).await,
            Ok(Err(error)) => complain(Kind::Tls, &format!("no TLS connection came about: {error}")),
            Err(_late) => {}
        },
        (Some(_), false) => {
            complain(Kind::Scheme, "it speaks plain HTTP where TLS is spoken; let it use https://");
            speak(stream, |_| only_tls()).await;
        }
        (None, is_tls) => {
            if is_tls {
                complain(Kind::Scheme, "it speaks TLS, for which http.certificate and http.key are not set");
            }
            speak(stream, answers).await;
        }
    }
}

fn said(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Missing => "a request without a token was refused",
        Refusal::Wrong => "a request with a wrong token was refused",
    }
}

/// One request, and its answer.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, answers: impl Fn(&Request<Incoming>) -> Answer) {
    let answer = service_fn(|request| {
        let answer = answers(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .keep_alive(false)
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        log::debug!("an HTTP connection: {error}");
    }
}

//! What the agent answers over HTTP: `/metrics`, `/healthz` and `/readyz`. The only file that imports hyper.
//!
//! A thread of its own: however slowly somebody reads, nothing else waits.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tcp_trace_core::metrics::Snapshot;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    confine::{self, Duty},
    sink::prometheus,
};

/// Connections that are served at a time; others wait to be accepted.
const CONNECTIONS: usize = 16;
/// How long a request may take to come, and a connection to be idle.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer may take to be read.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The agent is well as long as its main loop has turned within this.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);

/// What the answers are made from; the main loop keeps it up to date.
#[derive(Debug)]
pub struct Board {
    metrics: RwLock<Option<Arc<Snapshot>>>,
    ready: AtomicBool,
    began: Instant,
    /// When the main loop has turned last, in milliseconds since `began`.
    turned: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            metrics: RwLock::default(),
            ready: AtomicBool::new(false),
            began: Instant::now(),
            turned: AtomicU64::new(0),
        }
    }
}

impl Board {
    /// The main loop has turned.
    pub fn turn(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned.store(since, Relaxed);
    }

    /// Whether the main loop turns.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        since.saturating_sub(self.turned.load(Relaxed)) < ALIVE_WITHIN.as_millis() as u64
    }

    /// The first look at the host is in the numbers.
    pub fn is_ready_now(&self) {
        self.ready.store(true, Relaxed);
    }

    /// Takes the metrics of a moment.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        *self.metrics.write().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    fn metrics(&self) -> Option<Arc<Snapshot>> {
        self.metrics.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The server; it ends with `self`.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    ///
    /// If the address is taken, or not one of this host.
    pub fn start(listen: SocketAddr, board: Arc<Board>) -> anyhow::Result<Self> {
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
        let serve = move || {
            confine::assume(&Duty::Serve);
            runtime.block_on(async {
                tokio::select! {
                    served = accept(listener, board) => {
                        if let Err(error) = served {
                            log::error!("the HTTP server has ended: {error}");
                        }
                    }
                    _ = stopped => {}
                }
            });
        };
        thread::Builder::new().name("tt-http".to_owned()).spawn(serve).context("starting the HTTP server")?;
        Ok(Self { address, _stop: stop })
    }
}

async fn accept(listener: TcpListener, board: Arc<Board>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                // No descriptor is free, most likely: that passes.
                log::warn!("accepting an HTTP connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let board = Arc::clone(&board);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let response = answer(&request, &board);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_WITHIN)
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(error)) = tokio::time::timeout(ANSWER_WITHIN, connection).await {
                log::debug!("an HTTP connection: {error}");
            }
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
            match board.metrics() {
                Some(snapshot) => {
                    let format = prometheus::Format::negotiate(accept);
                    with_type(StatusCode::OK, format.content_type(), prometheus::expose(&snapshot, format))
                }
                None => text(StatusCode::SERVICE_UNAVAILABLE, "the first report is not there yet\n"),
            }
        }
        "/healthz" | "/livez" if board.is_alive() => text(StatusCode::OK, "ok\n"),
        "/healthz" | "/livez" => text(StatusCode::SERVICE_UNAVAILABLE, "the main loop does not turn\n"),
        "/readyz" if board.ready.load(Relaxed) => text(StatusCode::OK, "ok\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the first report is not there yet\n"),
        "/" => text(StatusCode::OK, "tcp-trace: /metrics, /healthz, /readyz\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

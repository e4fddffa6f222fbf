//! The accept loop, and hyper's connection for each socket.
//!
//! Invariants: no error of a peer or of the kernel ends the accept loop; it ends on `shutdown`, and
//! `serve` returns after the requests in flight are answered.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::body_guard::{RequestBody, ResponseBody};
use super::connection_state::{ConnectionState, Timeouts};
use super::connections::{Connections, OpenConnection};
use super::layers::HttpService;
use super::timeout_io::{TimeoutIo, WaitTimer};

/// Bytes of one head; Shopify sends about 1.5 KiB.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that hyper buffers of one connection.
const MAX_BUFFER: usize = 32 * 1024;
/// Pause after a failed accept (out of file descriptors, mostly), which fails again at once
/// otherwise.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Bounds of one listener.
#[derive(Debug, Clone)]
pub(super) struct ListenerLimits {
    pub(super) timeouts: Timeouts,
    /// Open at once.
    pub(super) connections: usize,
    /// Follows the open ones.
    pub(super) open: Gauge,
}

/// The connection that a request came on, as an extension of it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) state: Arc<ConnectionState>,
    pub(super) connections: Arc<Connections>,
}

/// Serves `service` on `listener` until `shutdown`, then until the last request in flight is
/// answered.
pub(super) async fn serve(
    listener: TcpListener,
    service: impl HttpService,
    bounds: ListenerLimits,
    shutdown: CancellationToken,
) {
    let connections = Connections::new(bounds.connections, bounds.open);
    let (graceful, tracker) = (GracefulShutdown::new(), TaskTracker::new());
    let accepting = async {
        loop {
            let (socket, peer) = accept(&listener).await;
            let open = connections.admit().await;
            let (service, watcher) = (service.clone(), graceful.watcher());
            // hyper's connection is made in the task: one that is handed over would take its memory
            // twice.
            tracker.spawn(async move {
                serve_connection(socket, peer, service, bounds.timeouts, &open, watcher).await;
            });
        }
    };
    shutdown.run_until_cancelled(accepting).await;
    drop(listener);
    graceful.shutdown().await;
    tracker.close();
    tracker.wait().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Fails only on a socket that is gone already.
                let _ = socket.set_nodelay(true);
                return (socket, peer);
            }
            Err(error) if is_peers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether accepting failed because the peer went away.
fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Serves requests until one side closes, a time limit is over or a newcomer needs the place.
async fn serve_connection(
    socket: TcpStream,
    peer: SocketAddr,
    service: impl HttpService,
    timeouts: Timeouts,
    open: &OpenConnection,
    watcher: Watcher,
) {
    let state = open.state();
    let origin = Connection {
        peer,
        state: Arc::clone(state),
        connections: Arc::clone(open.connections()),
    };
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        origin.state.begins_request();
        request.extensions_mut().insert(origin.clone());
        let request = request.map(|body| Body::new(RequestBody::new(body, Arc::clone(&origin.state))));
        let answer = service.clone().oneshot(request);
        let (state, connections) = (Arc::clone(&origin.state), Arc::clone(&origin.connections));
        async move {
            let Ok(mut response) = answer.await;
            if connections.is_keep_alive_limit_reached() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, state)))
        }
    });
    let connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .header_read_timeout(None)
        .writev(false)
        .serve_connection(TokioIo::new(TimeoutIo::new(socket, Arc::clone(state))), service);
    let mut connection = pin!(watcher.watch(connection));
    let mut timer = WaitTimer::new(Arc::clone(state), timeouts);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut connection => break ended,
            () = &mut timer => {
                state.times_out();
                break connection.now_or_never().unwrap_or(Ok(()));
            }
            () = state.gives_way() => if open.gives_way() {
                break Ok(());
            }
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::routing::get;
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::layers::layered;
    use super::*;

    async fn broken() -> &'static str {
        panic!("of a handler")
    }

    const PATIENT: Timeouts = Timeouts {
        idle: Duration::from_secs(10),
        head: Duration::from_secs(10),
    };

    /// A listener until it is stopped.
    struct Listening {
        addr: SocketAddr,
        open: Gauge,
        shutdown: CancellationToken,
        serving: TaskTracker,
    }

    impl Listening {
        async fn start(router: Router, timeouts: Timeouts) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let open = Gauge::default();
            let bounds = ListenerLimits {
                timeouts,
                connections: 10,
                open: open.clone(),
            };
            let shutdown = CancellationToken::new();
            let serving = TaskTracker::new();
            serving.spawn(serve(listener, layered(router), bounds, shutdown.clone()));
            Self {
                addr,
                open,
                shutdown,
                serving,
            }
        }

        /// Waits until so many connections are open.
        async fn has_open(&self, count: i64) {
            let reached = async {
                while self.open.get() != count {
                    tokio::time::sleep(SHORT / 10).await;
                }
            };
            tokio::time::timeout(300 * SHORT, reached).await.unwrap();
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.addr).await.unwrap()
        }

        async fn stop(self) {
            self.shutdown.cancel();
            self.serving.close();
            self.serving.wait().await;
        }
    }

    const ANSWER: &str = "an answer";
    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(100);

    /// All that so many connections in turn are sent until they are closed, for one request each.
    async fn answers(router: Router, idle: Duration, connections: usize) -> Vec<String> {
        let listening = Listening::start(router, Timeouts { idle, ..PATIENT }).await;
        let mut answers = Vec::new();
        for _ in 0..connections {
            let mut socket = listening.connect().await;
            socket.write_all(ASK).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            answers.push(answer);
        }
        listening.stop().await;
        answers
    }

    async fn is_silent(socket: &TcpStream) {
        let silence = tokio::time::timeout(4 * SHORT, socket.readable()).await;
        assert!(silence.is_err(), "it is answered or closed");
    }

    async fn read_answer(socket: &mut TcpStream, body: usize) {
        let mut answer = Vec::new();
        let is_whole = |answer: &[u8]| {
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
            head.is_some_and(|head| answer.len() >= head + 4 + body)
        };
        while !is_whole(&answer) {
            assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "it ended");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_goes_on() {
        let router = Router::new().route("/", get(async || ANSWER));
        let head = SHORT;
        let listening = Listening::start(router, Timeouts { head, ..PATIENT }).await;
        let mut socket = listening.connect().await;
        // What is ahead of its time: nothing, and the first half of the next head.
        for ahead in [0, ASK.len() / 2, 0] {
            socket.write_all(&[ASK, &ASK[..ahead]].concat()).await.unwrap();
            read_answer(&mut socket, ANSWER.len()).await;
            is_silent(&socket).await;
            if ahead > 0 {
                socket.write_all(&ASK[ahead..]).await.unwrap();
                read_answer(&mut socket, ANSWER.len()).await;
            }
        }
        listening.stop().await;
    }

    /// RFC 9112, 2.2: an empty line before a request is passed over.
    #[tokio::test]
    async fn an_empty_line_is_no_late_head() {
        let timeouts = Timeouts { head: SHORT, ..PATIENT };
        let router = Router::new().route("/", get(async || ANSWER));
        let listening = Listening::start(router, timeouts).await;
        let mut socket = listening.connect().await;
        for _ in 0..2 {
            socket.write_all(ASK).await.unwrap();
            read_answer(&mut socket, ANSWER.len()).await;
            socket.write_all(b"\r\n").await.unwrap();
            is_silent(&socket).await;
        }
        socket.write_all(&ASK[1..ASK.len() / 2]).await.unwrap();
        let mut refusal = String::new();
        socket.read_to_string(&mut refusal).await.unwrap();
        assert!(refusal.starts_with("HTTP/1.1 408 "), "{refusal}");
        listening.stop().await;
    }

    #[tokio::test]
    async fn an_answer_that_is_taken_late_is_whole() {
        const LENGTH: usize = 32 << 20;
        let router = Router::new().route("/", get(async || vec![b'x'; LENGTH]));
        let listening = Listening::start(router, PATIENT).await;
        let mut socket = listening.connect().await;
        for _ in 0..2 {
            socket.write_all(ASK).await.unwrap();
            // What is tested: the peer does not read for so long.
            tokio::time::sleep(4 * SHORT).await;
            read_answer(&mut socket, LENGTH).await;
        }
        listening.stop().await;
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_ends_the_connection() {
        const LENGTH: usize = 32 << 20;
        let timeouts = Timeouts { head: SHORT, ..PATIENT };
        let router = Router::new().route("/", get(async || vec![b'x'; LENGTH]));
        let listening = Listening::start(router, timeouts).await;
        let mut socket = listening.connect().await;
        listening.has_open(1).await;
        socket.write_all(ASK).await.unwrap();
        // The peer does not read.
        listening.has_open(0).await;
        let mut answer = Vec::new();
        // A reset or an end, whichever is seen.
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.len() < LENGTH, "it waited");
        listening.stop().await;
    }

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let router = Router::new().route("/", get(broken));
        for answer in answers(router, 4 * SHORT, 2).await {
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            assert!(answer.contains("\"code\":\"internal\""), "{answer}");
            assert!(!answer.contains("of a handler"), "{answer}");
        }
    }

    /// Its end is seen, and then the connection is idle and is closed.
    #[tokio::test]
    async fn an_answer_that_goes_on_is_not_idle() {
        const IDLE: Duration = Duration::from_millis(50);
        let pieces = stream::iter(["first ", "last"]).then(|piece| async move {
            tokio::time::sleep(IDLE * 4).await;
            Ok::<_, Infallible>(piece)
        });
        let pieces = Arc::new(Mutex::new(Some(pieces)));
        let streamed = move || {
            let pieces = pieces.lock().unwrap().take();
            async { Body::from_stream(pieces.unwrap()) }
        };
        let answers = answers(Router::new().route("/", get(streamed)), IDLE, 1).await;
        assert!(
            answers[0].contains("first ") && answers[0].ends_with("4\r\nlast\r\n0\r\n\r\n"),
            "{answers:?}"
        );
    }
}

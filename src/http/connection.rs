//! From a listener to requests: accept loop, connections, and what frames every answer.
//!
//! Owns the bounds on connections and the request id, the catching of panics and the writing of problems around every
//! handler. `axum::serve` has none of these bounds. Invariants: nothing a peer or the kernel does ends the accept loop;
//! it ends on `shutdown` and returns after the requests in flight are answered.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::problem::{self, Problem};
use super::request_id::{REQUEST_ID, RequestId};
use super::streamed;
use super::transport::{Clocks, Exchange, Transport};

/// Bytes of one head; Shopify sends about 1.5 KiB.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that hyper buffers of one connection.
const MAX_BUFFER: usize = 64 * 1024;
/// Pause after a failed accept (out of file descriptors, mostly), which fails again at once otherwise.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A cap below this is meant for known peers (a proxy that keeps a few connections to itself): theirs are always kept.
const FEW: usize = 10;

/// Bounds of one listener.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) clocks: Clocks,
    /// Open at once; further ones wait in the kernel's backlog.
    pub(super) connections: usize,
    /// Follows the open ones.
    pub(super) open: Gauge,
}

/// Serves `router` on `listener` until `shutdown`, then until the last request in flight is answered.
pub(super) async fn serve(listener: TcpListener, router: Router, bounds: Bounds, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(bounds.connections.min(Semaphore::MAX_PERMITS)));
    let tracker = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let socket = accept(&listener).await;
            let crowd = Crowd {
                slots: Arc::clone(&slots),
                connections: bounds.connections,
            };
            let (router, open, shutdown) = (router.clone(), bounds.open.clone(), shutdown.clone());
            tracker.spawn(async move {
                open.inc();
                // Made in here: one that is handed over would take its memory twice.
                converse(socket, router, bounds.clocks, crowd, shutdown).await;
                open.dec();
                drop(slot);
            });
        }
    };
    shutdown.run_until_cancelled(accepting).await;
    drop(listener);
    tracker.close();
    tracker.wait().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // Fails only on a socket that is gone already.
                let _ = socket.set_nodelay(true);
                return socket;
            }
            Err(error) if is_peers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether accepting failed because that one peer went away.
fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Tells whether so many slots are taken that no connection is kept for a further request: idle ones would come to hold
/// them all, each for as long as it may be idle, and nobody else would be served.
struct Crowd {
    slots: Arc<Semaphore>,
    connections: usize,
}

impl Crowd {
    fn is_dense(&self) -> bool {
        let taken = self.connections.saturating_sub(self.slots.available_permits());
        self.connections >= FEW && taken.saturating_mul(5) > self.connections.saturating_mul(4)
    }
}

async fn converse(socket: TcpStream, router: Router, clocks: Clocks, crowd: Crowd, shutdown: CancellationToken) {
    let exchange = Arc::new(Exchange::default());
    let mut transport = Transport::new(socket, clocks, Arc::clone(&exchange));
    let mut goes_on = true;
    while goes_on && shutdown.run_until_cancelled(transport.stirs()).await == Some(true) {
        // In a box: the memory of it is given back while the connection rests.
        let exchanges = exchanges(transport, &router, &exchange, &crowd, &shutdown);
        (transport, goes_on) = Box::pin(exchanges).await;
    }
    transport.close().await;
}

/// Requests and answers in turn until the connection rests, which is the second part of the result, or ends.
async fn exchanges(
    transport: Transport,
    router: &Router,
    exchange: &Arc<Exchange>,
    crowd: &Crowd,
    shutdown: &CancellationToken,
) -> (Transport, bool) {
    let service = service_fn(|request| {
        exchange.begin();
        let answer = answer(router.clone(), request);
        async {
            let mut response = answer.await;
            if crowd.is_dense() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            let response = streamed::end_with(response, exchange);
            // hyper saw the socket block during the request and would not look at it again before it stirs. It has to,
            // so that the clock of the silent connection runs.
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::Ready(())
            })
            .await;
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .header_read_timeout(None)
        .writev(false)
        .serve_connection(TokioIo::new(transport), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
    let parts = connection.into_parts();
    let mut transport = parts.io.into_inner();
    let rests = transport.take_back(&parts.read_buf);
    (transport, rests)
}

/// One request, framed: with a request id, its panic caught, its problem written.
async fn answer(router: Router, mut request: Request<Incoming>) -> Response<Body> {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let answered = AssertUnwindSafe(router.oneshot(request.map(Body::new)))
        .catch_unwind()
        .await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            tracing::error!(request_id = %id, "a handler panicked");
            Problem::Internal.into_response()
        }
    };
    problem::render(&mut response, &id);
    response
        .headers_mut()
        .insert(HeaderName::from_static(REQUEST_ID), id.into_header());
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use axum::routing::get;
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::transport::REST;
    use super::*;

    async fn broken() -> &'static str {
        panic!("of a handler")
    }

    const PATIENT: Clocks = Clocks {
        idle: Duration::from_secs(10),
        head: Duration::from_secs(10),
    };

    /// A listener until it is stopped.
    struct Listening {
        addr: SocketAddr,
        shutdown: CancellationToken,
        serving: TaskTracker,
    }

    impl Listening {
        async fn start(router: Router, clocks: Clocks) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let bounds = Bounds {
                clocks,
                connections: 10,
                open: Gauge::default(),
            };
            let shutdown = CancellationToken::new();
            let serving = TaskTracker::new();
            serving.spawn(serve(listener, router, bounds, shutdown.clone()));
            Self {
                addr,
                shutdown,
                serving,
            }
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

    /// All that so many connections in turn are sent until they are closed, for one request each.
    async fn answers(router: Router, idle: Duration, connections: usize) -> Vec<String> {
        let listening = Listening::start(router, Clocks { idle, ..PATIENT }).await;
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

    /// Nothing comes for longer than it takes until a connection rests.
    async fn is_silent(socket: &TcpStream) {
        let silence = tokio::time::timeout(4 * REST, socket.readable()).await;
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
    async fn a_connection_that_rested_goes_on() {
        let router = Router::new().route("/", get(async || ANSWER));
        let listening = Listening::start(router, PATIENT).await;
        let mut socket = listening.connect().await;
        is_silent(&socket).await;
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
        let clocks = Clocks { head: REST, ..PATIENT };
        let router = Router::new().route("/", get(async || ANSWER));
        let listening = Listening::start(router, clocks).await;
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
            tokio::time::sleep(4 * REST).await;
            read_answer(&mut socket, LENGTH).await;
        }
        listening.stop().await;
    }

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let router = Router::new().route("/", get(broken));
        for answer in answers(router, Duration::from_secs(10), 2).await {
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

    #[test]
    fn connections_are_kept_up_to_four_fifths_of_the_cap() {
        for (connections, free, dense) in [
            (100, 20, false),
            (100, 19, true),
            (100, 0, true),
            (10, 2, false),
            (10, 1, true),
            (9, 0, false),
            (1, 0, false),
        ] {
            let slots = Arc::new(Semaphore::new(free));
            let crowd = Crowd { slots, connections };
            assert_eq!(crowd.is_dense(), dense, "{free} of {connections}");
        }
    }
}

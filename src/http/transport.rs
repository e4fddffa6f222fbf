//! The socket under hyper: time limits that hyper does not have, and its bare answers made whole.
//!
//! Owns three clocks: a kept-alive connection may be idle long; a head, once begun, must end soon, and the first one must
//! begin as soon; a peer that does not read its answer is cut off. hyper's own head timeout would run from idleness on.
//! Owns the rest of a silent connection: hyper holds some 20 KB of each, so that one which has been silent for a moment
//! is taken from it, and only the socket stays until the next byte.
//! Also owns the end of a connection: after a refusal the unread rest of the request is read and thrown away for a
//! moment, since closing on it would reset the connection and take the answer with it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::problem::Problem;
use super::request_id::REQUEST_ID;

/// Silence after which a connection rests. Long beside the pause between two requests of a busy peer, short beside the
/// time in which thousands connect.
pub(super) const REST: Duration = Duration::from_millis(100);
/// How long the unread rest of a refused request is read on.
const LINGER: Duration = Duration::from_secs(2);

/// What the socket and the service of one connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Odd while a request is with the service; even while a head is awaited.
    turn: AtomicU64,
    refused: AtomicBool,
}

impl Exchange {
    pub(super) fn begin(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, status: StatusCode) {
        self.turn.fetch_add(1, Ordering::Relaxed);
        let refused = status.is_client_error() || status.is_server_error();
        self.refused.store(refused, Ordering::Relaxed);
    }
}

/// Time limits of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    /// Between requests.
    pub(super) idle: Duration,
    /// From the first byte of a head to its end, and from the start to the first byte of the first one; also for a
    /// stalled write.
    pub(super) head: Duration,
}

/// The end of a wait. Nearly every wait ends long before, and the next begins at once: the timer underneath stays where
/// it was set and is moved on only when it fires, instead of being made anew for every request.
#[derive(Debug, Default)]
struct Alarm {
    /// Of the wait under way.
    due: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn stop(&mut self) {
        self.due = None;
    }

    fn is_set(&self) -> bool {
        self.due.is_some()
    }

    /// Ready once the wait, which begins with the first call after a stop, has lasted for `limit`.
    fn poll_over(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let due = *self.due.get_or_insert_with(|| Instant::now() + limit);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// A socket with [`Clocks`].
pub(super) struct Transport {
    socket: TcpStream,
    clocks: Clocks,
    exchange: Arc<Exchange>,
    turn: u64,
    head_begun: bool,
    /// Whether the last end of the stream that hyper met was none.
    rests: bool,
    head_alarm: Alarm,
    write_alarm: Alarm,
    /// What hyper had read of the next head before the connection came to rest.
    incoming: Bytes,
    /// An answer of our own, to be written before anything else.
    outgoing: Bytes,
}

impl Transport {
    pub(super) fn new(socket: TcpStream, clocks: Clocks, exchange: Arc<Exchange>) -> Self {
        Self {
            socket,
            clocks,
            exchange,
            turn: 0,
            head_begun: false,
            rests: false,
            head_alarm: Alarm::default(),
            write_alarm: Alarm::default(),
            incoming: Bytes::new(),
            outgoing: Bytes::new(),
        }
    }

    /// Ends the connection so that the peer gets what was written.
    pub(super) async fn close(mut self) {
        let refused = self.exchange.refused.load(Ordering::Relaxed);
        let farewell = async {
            self.shutdown().await?;
            // Not within the future: every open connection would have room for it from the start.
            let mut rest = vec![0; 4096];
            while refused && self.socket.read(&mut rest).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        // Whatever goes wrong now, the connection ends.
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }

    fn refuse(&mut self, problem: &Problem) {
        self.exchange.refused.store(true, Ordering::Relaxed);
        self.outgoing = problem.to_wire().into();
    }

    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing.has_remaining() {
            let outgoing = self.outgoing.clone();
            let written = ready!(self.poll_write_in_time(cx, &outgoing))?;
            self.outgoing.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_in_time(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.write_alarm.stop();
                Poll::Ready(written)
            }
            Poll::Pending => {
                let over = self.write_alarm.poll_over(cx, self.clocks.head);
                over.map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Waits for the next head to begin; answers whether it does, in time.
    pub(super) async fn stirs(&mut self) -> bool {
        let limit = match self.turn {
            0 => self.clocks.head,
            _ => self.clocks.idle.saturating_sub(REST),
        };
        self.head_begun = false;
        self.head_alarm.stop();
        poll_fn(|cx| {
            if self.incoming.has_remaining() {
                return Poll::Ready(true);
            }
            match self.socket.poll_read_ready(cx) {
                Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
                Poll::Pending => self.head_alarm.poll_over(cx, limit).map(|()| false),
            }
        })
        .await
    }

    /// Takes the connection back from hyper with what that had `read` ahead; answers whether it only rests.
    pub(super) fn take_back(&mut self, read: &[u8]) -> bool {
        if !std::mem::take(&mut self.rests) {
            return false;
        }
        if self.head_begun && !read.is_empty() {
            self.refuse(&Problem::RequestTimeout);
            return false;
        }
        self.exchange.refused.store(false, Ordering::Relaxed);
        // A copy: what hyper hands over keeps its whole buffer in memory, also where it is empty.
        self.incoming = Bytes::copy_from_slice(read);
        true
    }

    /// Ready where the awaited head is late. To hyper that is the end of the stream; [`Self::take_back`] knows better.
    /// Silence is met with silence, since an answer might be taken for that to a request that crosses it; and bytes
    /// that hyper passes over between requests are no head.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = if self.head_begun {
            self.clocks.head
        } else {
            REST.min(self.clocks.idle)
        };
        ready!(self.head_alarm.poll_over(cx, limit));
        while self.write_alarm.is_set() {
            // hyper would drop what is left of its answer.
            self.head_alarm.stop();
            ready!(self.head_alarm.poll_over(cx, limit));
        }
        self.rests = true;
        Poll::Ready(())
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let turn = this.exchange.turn.load(Ordering::Relaxed);
        if turn != this.turn {
            this.turn = turn;
            this.head_begun = false;
            this.head_alarm.stop();
        }
        let before = buf.filled().len();
        let read = if this.incoming.has_remaining() {
            let some = this.incoming.len().min(buf.remaining());
            buf.put_slice(&this.incoming.split_to(some));
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut this.socket).poll_read(cx, buf)
        };
        let awaits_head = turn.is_multiple_of(2);
        if !awaits_head {
            return read;
        }
        if read.is_pending() {
            return this.poll_late(cx).map(Ok);
        }
        if buf.filled().len() > before && !this.head_begun {
            this.head_begun = true;
            this.head_alarm.stop();
        }
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        if let Some(status) = bare_refusal(buf) {
            this.refuse(&Problem::of_bare_status(status));
            return Poll::Ready(Ok(buf.len()));
        }
        this.poll_write_in_time(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rests {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// The status of a 4xx that hyper answers by itself. Every answer of ours carries a request id, its own do not.
fn bare_refusal(head: &[u8]) -> Option<u16> {
    let code = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    if code[0] != b'4' || head.windows(REQUEST_ID.len()).any(|name| name == REQUEST_ID.as_bytes()) {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_bare_refusal() {
        assert_eq!(
            bare_refusal(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n"),
            Some(431)
        );
        assert_eq!(bare_refusal(b"HTTP/1.1 404 Not Found\r\nx-request-id: 1\r\n\r\n"), None);
        assert_eq!(bare_refusal(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(bare_refusal(b"HTTP/1.1 100 Continue\r\n\r\n"), None);
        assert_eq!(bare_refusal(b"{\"code\":4}"), None);
    }
}

//! The socket under hyper, with the time limits that hyper lacks: idle between requests, head,
//! stalled write.
//!
//! hyper's own head timeout would run from idleness on. The socket writes [`ConnectionState`], the
//! [`WaitTimer`] runs beside hyper's connection in one task, and after a time limit the socket
//! fails with `TimedOut`, which ends hyper's connection. Also the lingering close: closing a socket
//! with unread bytes resets the connection, and the peer loses the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, sleep_until};

use super::connection_state::{Awaited, ConnectionState, Timeouts};
use super::problem::Problem;

/// How long the unread rest of a refused request is read on.
const LINGER: Duration = Duration::from_secs(2);

/// A socket that writes the connection's state.
pub(super) struct TimeoutIo {
    socket: TcpStream,
    state: Arc<ConnectionState>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl TimeoutIo {
    pub(super) fn new(socket: TcpStream, state: Arc<ConnectionState>) -> Self {
        Self {
            socket,
            state,
            linger: None,
        }
    }

    fn in_time(&self) -> io::Result<()> {
        if self.state.is_timed_out() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Reads and discards what still comes, for at most [`LINGER`].
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut bytes = [0; 4096];
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl AsyncRead for TimeoutIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state.is_timed_out() && this.state.awaited().0 == Awaited::HeadEnd {
            // As far as it fits into the socket's buffer, which is empty: no answer precedes it.
            let _ = this.socket.try_write(&Problem::RequestTimeout.to_wire());
        }
        this.in_time()?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        this.state.received(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TimeoutIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.in_time()?;
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.state.write_stalls(written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        }
        if this.state.may_have_unread() && !this.state.is_timed_out() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// Ready once a wait has lasted too long. Has to be polled after each poll of the connection, which
/// alone changes what is awaited. Nearly every wait ends long before its deadline, so the timer is
/// set anew only when it fires.
pub(super) struct WaitTimer {
    state: Arc<ConnectionState>,
    timeouts: Timeouts,
    timer: Option<Pin<Box<Sleep>>>,
}

impl WaitTimer {
    pub(super) fn new(state: Arc<ConnectionState>, timeouts: Timeouts) -> Self {
        Self {
            state,
            timeouts,
            timer: None,
        }
    }
}

impl Future for WaitTimer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(due) = this.state.deadline(this.timeouts) else {
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

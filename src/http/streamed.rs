//! An answer that goes on: its exchange lasts until its last byte.
//!
//! A body of known length is written at once, and the connection waits for the next head from then on. One of unknown
//! length may take hours, in which nobody is to be taken for late.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::transport::Exchange;

/// Ends the exchange with the answer, or where that is streamed, with the last of it.
pub(super) fn end_with(response: Response<Body>, exchange: &Arc<Exchange>) -> Response<Body> {
    let status = response.status();
    if response.body().size_hint().exact().is_some() {
        exchange.end(status);
        return response;
    }
    response.map(|body| {
        Body::new(Streamed {
            body,
            status,
            exchange: Arc::clone(exchange),
        })
    })
}

struct Streamed {
    body: Body,
    status: StatusCode,
    exchange: Arc<Exchange>,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            // As at the end of any answer: the socket has to be looked at again, so that the idle clock runs.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.exchange.end(self.status);
    }
}

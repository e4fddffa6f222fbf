//! The bodies of request and response, wrapped so that they write the connection's state.
//!
//! A connection is idle only after the last byte of its response: one of unknown length, as the
//! live feed, may last hours.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

use super::connection_state::{Awaited, ConnectionState};

/// A request's body. While its reader waits for the next byte, so does the connection.
pub(super) struct RequestBody {
    body: Incoming,
    state: Arc<ConnectionState>,
    is_whole: bool,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, state: Arc<ConnectionState>) -> Self {
        Self {
            is_whole: body.is_end_stream(),
            body,
            state,
        }
    }

    fn is_awaited(&self) -> bool {
        self.state.awaited().0 == Awaited::Body
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Pending if !self.is_awaited() => self.state.awaits(Awaited::Body),
            Poll::Ready(_) if self.is_awaited() => self.state.awaits(Awaited::Nothing),
            Poll::Pending | Poll::Ready(_) => {}
        }
        if let Poll::Ready(frame) = &frame {
            self.is_whole = frame.is_none() || self.body.is_end_stream();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_whole {
            self.state.leaves_unread();
        }
        if self.is_awaited() {
            self.state.awaits(Awaited::Nothing);
        }
    }
}

/// A response's body. With its end the connection waits for the next request.
pub(super) struct ResponseBody {
    body: Body,
    state: Arc<ConnectionState>,
}

impl ResponseBody {
    pub(super) fn new(body: Body, state: Arc<ConnectionState>) -> Self {
        Self { body, state }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.state.awaits(Awaited::NextHead);
    }
}

//! Reads a request's body whole: within its limit, its time and the budget of all bodies.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Connection;
use super::problem::Problem;
use crate::ingest::{Admission, MemoryPermit, SharedPermit, Shed};

/// A body that brings no byte for so long is given up, and with it its share.
const STALL: Duration = Duration::from_secs(5);
/// How long a body waits for others, which have been asked to, to give their shares up.
const MAKE_ROOM_WITHIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What one request's body may take.
pub(super) struct Allowance<'a> {
    pub(super) admission: &'a Admission,
    /// Whether the head proved who sends it.
    pub(super) is_verified: bool,
    /// What it comes on.
    pub(super) connection: Option<&'a Connection>,
    /// Bytes.
    pub(super) limit: usize,
    /// From now to the last byte.
    pub(super) timeout: Duration,
}

/// The bytes of a body, and their share of the budget.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) share: SharedPermit,
}

/// Reads the body. One that is announced as too large is refused before its first byte.
pub(super) async fn read(body: Body, headers: &HeaderMap, allowance: Allowance<'_>) -> Result<Whole, Problem> {
    if is_encoded(headers) {
        return Err(Problem::UnsupportedEncoding);
    }
    if body.size_hint().lower() > allowance.limit as u64 {
        return Err(Problem::BodyTooLarge(allowance.limit));
    }
    match timeout(allowance.timeout, collect(body, &allowance)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::RequestTimeout),
    }
}

/// A body in one piece, as most come, is not copied. What is counted is the memory that it takes.
async fn collect(mut body: Body, allowance: &Allowance<'_>) -> Result<Whole, Problem> {
    let mut share = allowance.admission.open(allowance.is_verified);
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    let mut counted = 0;
    while let Some(frame) = next_frame(&mut body, allowance.connection).await? {
        let Ok(piece) = frame.into_data() else {
            continue; // trailers
        };
        let is_first = first.is_empty() && rest.is_empty();
        let length = first.len() + rest.len() + piece.len();
        if length > allowance.limit {
            return Err(Problem::BodyTooLarge(allowance.limit));
        }
        if body.is_end_stream() {
            share.arrives_whole();
        }
        let capacity = if is_first || length <= counted.min(rest.capacity()) {
            length
        } else {
            // Room for as much again, but not beyond the end, and never for what is only announced.
            let end = body.size_hint().upper().and_then(|more| usize::try_from(more).ok());
            let end = end.map_or(allowance.limit, |more| length.saturating_add(more));
            length.saturating_mul(2).min(end.min(allowance.limit)).max(length)
        };
        let more = capacity.saturating_sub(counted);
        if share.grow(more).is_err() {
            make_room(&mut share, more, allowance.connection).await?;
        }
        counted += more;
        if is_first {
            first = piece;
            continue;
        }
        rest.reserve_exact(capacity.saturating_sub(rest.len()));
        rest.extend_from_slice(&std::mem::take(&mut first));
        rest.extend_from_slice(&piece);
    }
    share.arrives_whole();
    let bytes = if rest.is_empty() { first } else { rest.into() };
    Ok(Whole {
        bytes,
        share: share.into(),
    })
}

/// The next frame; `None` at the end.
async fn next_frame(body: &mut Body, connection: Option<&Connection>) -> Result<Option<Frame<Bytes>>, Problem> {
    let gives_up = async {
        match connection {
            Some(connection) => connection.state.gives_up_body().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        frame = timeout(STALL, body.frame()) => match frame {
            Ok(frame) => frame.transpose().map_err(|_| Problem::BrokenBody),
            Err(_) => Err(Problem::RequestTimeout),
        },
        () = gives_up => Err(Problem::Overloaded),
    }
}

/// Takes the bytes once others give theirs up: while the budget is used up, the body that has waited longest for a byte
/// gives way. Where none waits, all are on their way, and this one is shed.
async fn make_room(share: &mut MemoryPermit, bytes: usize, connection: Option<&Connection>) -> Result<(), Shed> {
    let connections = &connection.ok_or(Shed)?.connections;
    let until = Instant::now() + MAKE_ROOM_WITHIN;
    let mut is_asked = false;
    while Instant::now() < until {
        is_asked |= connections.longest_stalled_body_gives_way();
        if !is_asked {
            return Err(Shed);
        }
        sleep(LOOK_AGAIN).await;
        if share.grow(bytes).is_ok() {
            return Ok(());
        }
    }
    Err(Shed)
}

/// `identity`, or nothing, is no encoding.
fn is_encoded(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut encodings = encodings
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    encodings.any(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity"))
}

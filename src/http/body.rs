//! Reads a request's body whole: within its limit, its timeout and the memory budget.

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

/// From the last byte of a body to its answer. Shopify hangs up after five seconds.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(2800);
/// A body that brings no byte for so long is given up, and with it its permit.
const STALL: Duration = Duration::from_secs(5);
/// How long a body waits for another that was asked to give its permit up.
const MAKE_ROOM_WITHIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The bounds of one request's body.
pub(super) struct BodyBounds<'a> {
    pub(super) admission: &'a Admission,
    /// Whether the head authenticated the sender.
    pub(super) is_verified: bool,
    /// The connection it comes on.
    pub(super) connection: Option<&'a Connection>,
    /// Bytes.
    pub(super) limit: usize,
    /// From now to the last byte.
    pub(super) timeout: Duration,
}

/// The bytes of a body, and their permit of the memory budget.
#[derive(Debug)]
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    pub(super) permit: SharedPermit,
}

/// Reads the body. One that is announced as too large is refused before its first byte.
pub(super) async fn read(body: Body, headers: &HeaderMap, bounds: BodyBounds<'_>) -> Result<WholeBody, Problem> {
    if is_encoded(headers) {
        return Err(Problem::UnsupportedEncoding);
    }
    if body.size_hint().lower() > bounds.limit as u64 {
        return Err(Problem::BodyTooLarge(bounds.limit));
    }
    match timeout(bounds.timeout, collect(body, &bounds)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::RequestTimeout),
    }
}

/// A body in one piece, as most come, is not copied. What is counted is the memory that it takes.
async fn collect(mut body: Body, bounds: &BodyBounds<'_>) -> Result<WholeBody, Problem> {
    let mut permit = bounds.admission.open(bounds.is_verified);
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    let mut counted = 0;
    while let Some(frame) = next_frame(&mut body, bounds.connection).await? {
        let Ok(piece) = frame.into_data() else {
            continue; // trailers
        };
        let is_first = first.is_empty() && rest.is_empty();
        let length = first.len() + rest.len() + piece.len();
        if length > bounds.limit {
            return Err(Problem::BodyTooLarge(bounds.limit));
        }
        if body.is_end_stream() {
            permit.arrives_whole();
        }
        let capacity = if is_first || length <= counted.min(rest.capacity()) {
            length
        } else {
            // Doubles, but not beyond the announced end; what is only announced takes no memory.
            let end = body.size_hint().upper().and_then(|more| usize::try_from(more).ok());
            let end = end.map_or(bounds.limit, |more| length.saturating_add(more));
            length.saturating_mul(2).min(end.min(bounds.limit)).max(length)
        };
        let more = capacity.saturating_sub(counted);
        if permit.grow(more).is_err() {
            make_room(&mut permit, more, bounds.connection).await?;
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
    permit.arrives_whole();
    let bytes = if rest.is_empty() { first } else { rest.into() };
    Ok(WholeBody {
        bytes,
        permit: permit.into(),
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

/// Takes the bytes once another body gives its permit up: the one that has waited longest for a
/// byte. Where none waits, all are on their way, and this one is shed.
async fn make_room(permit: &mut MemoryPermit, bytes: usize, connection: Option<&Connection>) -> Result<(), Shed> {
    let connections = &connection.ok_or(Shed)?.connections;
    let until = Instant::now() + MAKE_ROOM_WITHIN;
    let mut is_asked = false;
    while Instant::now() < until {
        is_asked |= connections.longest_stalled_body_gives_way();
        if !is_asked {
            return Err(Shed);
        }
        sleep(LOOK_AGAIN).await;
        if permit.grow(bytes).is_ok() {
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

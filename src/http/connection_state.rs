//! What a connection waits for from its peer, and since when.
//!
//! Atomics, written by the socket, the bodies and the service of one connection, read by its timer
//! and by `connections.rs`. Invariant: while a request is handled, nothing is awaited, so that
//! neither of these closes the connection.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The start of the clock that all connections share, so that their waits can be compared.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A time, in milliseconds since [`EPOCH`].
pub(super) fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Time limits of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Between requests.
    pub(super) idle: Duration,
    /// From the first byte of a head to its end; from the start of the connection to its first
    /// byte; for a stalled write.
    pub(super) head: Duration,
}

/// What is awaited of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Awaited {
    /// Nothing: a request is handled, or its answer goes out.
    Nothing,
    /// The first byte of the first head.
    FirstHead,
    /// The first byte of a further head.
    NextHead,
    /// The rest of a head.
    HeadEnd,
    /// A byte of a body.
    Body,
    /// The end of a delay, in which it may go.
    Delay,
}

const KINDS: [Awaited; 6] = [
    Awaited::Nothing,
    Awaited::FirstHead,
    Awaited::NextHead,
    Awaited::HeadEnd,
    Awaited::Body,
    Awaited::Delay,
];
const KIND_BITS: u32 = 3;

/// State of one connection.
#[derive(Debug)]
pub(super) struct ConnectionState {
    /// What is awaited, and above it since when.
    awaited: AtomicU64,
    /// Since when the peer has taken nothing of an answer; 0: it takes what it is given.
    stalled_write: AtomicU64,
    /// Part of a request was not read.
    has_unread: AtomicBool,
    /// A time limit is over.
    is_timed_out: AtomicBool,
    /// The connection is to end in favour of a newcomer.
    gives_way: Notify,
    /// The body that is being read is to be given up in favour of another.
    gives_up_body: AtomicBool,
    body_given_up: Notify,
}

impl ConnectionState {
    pub(super) fn new() -> Self {
        let state = Self {
            awaited: AtomicU64::default(),
            stalled_write: AtomicU64::default(),
            has_unread: AtomicBool::default(),
            is_timed_out: AtomicBool::default(),
            gives_way: Notify::new(),
            gives_up_body: AtomicBool::default(),
            body_given_up: Notify::new(),
        };
        state.awaits(Awaited::FirstHead);
        state
    }

    /// What is awaited, and since when.
    pub(super) fn awaited(&self) -> (Awaited, u64) {
        let word = self.awaited.load(Relaxed);
        let kind = usize::try_from(word & ((1 << KIND_BITS) - 1)).unwrap_or_default();
        (KINDS[kind.min(KINDS.len() - 1)], word >> KIND_BITS)
    }

    /// Sets what is awaited from now on.
    pub(super) fn awaits(&self, what: Awaited) {
        self.awaited.store(now() << KIND_BITS | what as u64, Relaxed);
    }

    /// A request has come.
    pub(super) fn begins_request(&self) {
        self.has_unread.store(false, Relaxed);
        self.gives_up_body.store(false, Relaxed);
        self.awaits(Awaited::Nothing);
    }

    /// The peer sent these bytes. Empty lines before a head are no part of it (RFC 9112, 2.2).
    pub(super) fn received(&self, bytes: &[u8]) {
        let begins_head = matches!(self.awaited().0, Awaited::FirstHead | Awaited::NextHead);
        if begins_head && bytes.iter().any(|byte| !b"\r\n".contains(byte)) {
            self.awaits(Awaited::HeadEnd);
        }
    }

    /// A part of the request stays unread: the connection must not be closed on it.
    pub(super) fn leaves_unread(&self) {
        self.has_unread.store(true, Relaxed);
    }

    /// Whether the peer may still be sending a request that is not read.
    pub(super) fn may_have_unread(&self) -> bool {
        self.has_unread.load(Relaxed) || self.awaited().0 == Awaited::HeadEnd
    }

    /// Notes whether the peer takes what is written.
    pub(super) fn write_stalls(&self, stalls: bool) {
        let since = self.stalled_write.load(Relaxed);
        if stalls && since == 0 {
            self.stalled_write.store(now().max(1), Relaxed);
        } else if !stalls && since != 0 {
            self.stalled_write.store(0, Relaxed);
        }
    }

    /// Since when the connection waits for its peer; `None`: it does not.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let stalled = self.stalled_write.load(Relaxed);
        if stalled > 0 {
            return Some(stalled);
        }
        let (what, since) = self.awaited();
        (what != Awaited::Nothing).then_some(since)
    }

    /// When the wait that is under way has lasted too long; `None`: no limit applies. (`body.rs`
    /// holds the limits of a body.)
    pub(super) fn deadline(&self, timeouts: Timeouts) -> Option<Instant> {
        let (since, limit) = match (self.stalled_write.load(Relaxed), self.awaited()) {
            (0, (Awaited::Nothing | Awaited::Body | Awaited::Delay, _)) => return None,
            (0, (Awaited::NextHead, since)) => (since, timeouts.idle),
            (0, (Awaited::FirstHead | Awaited::HeadEnd, since)) | (since, _) => (since, timeouts.head),
        };
        Some(*EPOCH + Duration::from_millis(since) + limit)
    }

    pub(super) fn times_out(&self) {
        self.is_timed_out.store(true, Relaxed);
    }

    pub(super) fn is_timed_out(&self) -> bool {
        self.is_timed_out.load(Relaxed)
    }

    /// Makes the connection end.
    pub(super) fn give_way(&self) {
        self.gives_way.notify_one();
    }

    /// Ready once the connection is to end.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// Makes the reader of the body give it up.
    pub(super) fn give_up_body(&self) {
        self.gives_up_body.store(true, Relaxed);
        self.body_given_up.notify_one();
    }

    /// Ready once the body is to be given up.
    pub(super) async fn gives_up_body(&self) {
        // A body that ended meanwhile leaves its notice to the next one, which it does not concern.
        while !self.gives_up_body.load(Relaxed) {
            self.body_given_up.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        idle: Duration::from_secs(600),
        head: Duration::from_secs(10),
    };

    fn limit(state: &ConnectionState) -> Option<Duration> {
        let due = state.deadline(TIMEOUTS)?.duration_since(Instant::now());
        Some(Duration::from_secs(due.as_secs_f64().round() as u64))
    }

    #[test]
    fn each_wait_has_its_limit() {
        let state = ConnectionState::new();
        assert_eq!(limit(&state), Some(TIMEOUTS.head), "a new connection");
        state.begins_request();
        assert_eq!(limit(&state), None);
        state.awaits(Awaited::Body);
        assert_eq!((limit(&state), state.waiting_since().is_some()), (None, true));
        state.awaits(Awaited::NextHead);
        state.received(b"\r\n");
        assert_eq!(limit(&state), Some(TIMEOUTS.idle), "an empty line is no head");
        state.received(b"\r\nGET");
        assert_eq!(limit(&state), Some(TIMEOUTS.head));
        state.begins_request();
        state.write_stalls(true);
        assert_eq!(limit(&state), Some(TIMEOUTS.head));
        state.write_stalls(false);
        assert_eq!((limit(&state), state.waiting_since()), (None, None));
    }
}

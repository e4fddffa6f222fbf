//! The open connections of one listener: their cap, and which of them gives way to a newcomer.
//!
//! At the cap the connection ends that has waited longest for its peer (for a head, a byte of a
//! body, room to write). A connection whose request is being handled never ends; where all are
//! being handled, the newcomer waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection_state::{Awaited, ConnectionState, now};

/// A cap below this is meant for known peers (a proxy with a few connections), whose connections
/// are always kept alive.
const FEW: usize = 10;
/// Time between two searches for a connection that can give way.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// A connection that has waited for less than this stays: what it waits for may be on its way.
const YOUNG_MS: u64 = 25;

/// The earliest time that a connection can wait since, and its number.
type Rank = (u64, u64);

/// The open connections of one listener.
pub(super) struct Connections {
    cap: usize,
    slots: Arc<Semaphore>,
    /// Connections that were not asked to give way.
    ranked: Mutex<BTreeMap<Rank, Arc<Ranked>>>,
    count: AtomicU64,
    open: Gauge,
}

struct Ranked {
    state: Arc<ConnectionState>,
    number: u64,
    /// The first part of its rank; changed only with the lock.
    since: AtomicU64,
}

/// One open connection, until it is dropped.
pub(super) struct OpenConnection {
    ranked: Arc<Ranked>,
    connections: Arc<Connections>,
    _slot: OwnedSemaphorePermit,
}

impl Connections {
    /// At most `cap` at once; `open` follows how many there are.
    pub(super) fn new(cap: usize, open: Gauge) -> Arc<Self> {
        Arc::new(Self {
            cap,
            slots: Arc::new(Semaphore::new(cap.min(Semaphore::MAX_PERMITS))),
            ranked: Mutex::default(),
            count: AtomicU64::default(),
            open,
        })
    }

    /// A slot for a newcomer, for which another may have to give way.
    pub(super) async fn admit(self: &Arc<Self>) -> OpenConnection {
        let slot = self.slot().await;
        let state = Arc::new(ConnectionState::new());
        let ranked = Arc::new(Ranked {
            state,
            number: self.count.fetch_add(1, Relaxed),
            since: AtomicU64::new(now()),
        });
        self.ranked().insert(ranked.rank(), Arc::clone(&ranked));
        self.open.inc();
        OpenConnection {
            ranked,
            connections: Arc::clone(self),
            _slot: slot,
        }
    }

    async fn slot(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return slot;
            }
            self.longest_waiting_gives_way();
            // The one that was asked may stay, and one whose request is being handled may come to
            // wait.
            let freed = Arc::clone(&self.slots).acquire_owned();
            if let Ok(Ok(slot)) = tokio::time::timeout(LOOK_AGAIN, freed).await {
                return slot;
            }
        }
    }

    /// Asks the connection that has waited longest to end; answers whether one is asked. Ranks are
    /// corrected only here: a connection that waits since later moves to that rank, and the first
    /// with a correct rank is asked.
    fn longest_waiting_gives_way(&self) -> bool {
        let mut ranked = self.ranked();
        // Each is corrected at most once before the first rank is correct.
        for _ in 0..2 * ranked.len() {
            let Some(((known, _), connection)) = ranked.pop_first() else {
                return false;
            };
            let since = connection.state.waiting_since();
            if since.is_some_and(|since| since <= known) {
                if is_young(known) {
                    ranked.insert(connection.rank(), connection);
                    return false;
                }
                connection.state.give_way();
                return true;
            }
            connection.since.store(since.unwrap_or_else(now), Relaxed);
            ranked.insert(connection.rank(), connection);
        }
        false
    }

    /// Asks the reader of the body that has waited longest for a byte to give it up; answers
    /// whether one is asked.
    pub(super) fn longest_stalled_body_gives_way(&self) -> bool {
        let ranked = self.ranked();
        let stalled = ranked.values().filter_map(|connection| {
            let (what, since) = connection.state.awaited();
            (what == Awaited::Body && !is_young(since)).then_some((since, connection))
        });
        let Some((_, longest)) = stalled.min_by_key(|(since, _)| *since) else {
            return false;
        };
        // It is not chosen again while it gives up.
        longest.state.awaits(Awaited::Nothing);
        longest.state.give_up_body();
        true
    }

    /// Whether so many are open that none is kept alive: it would have to give way soon, perhaps
    /// while a request is on its way to it.
    pub(super) fn is_keep_alive_limit_reached(&self) -> bool {
        let taken = self.cap.saturating_sub(self.slots.available_permits());
        self.cap >= FEW && taken.saturating_mul(5) > self.cap.saturating_mul(4)
    }

    fn ranked(&self) -> MutexGuard<'_, BTreeMap<Rank, Arc<Ranked>>> {
        self.ranked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_young(since: u64) -> bool {
    now().saturating_sub(since) < YOUNG_MS
}

impl Ranked {
    fn rank(&self) -> Rank {
        (self.since.load(Relaxed), self.number)
    }
}

impl OpenConnection {
    pub(super) fn state(&self) -> &Arc<ConnectionState> {
        &self.ranked.state
    }

    /// Whether it ends, after it was asked to and has read its socket once more: not if something
    /// has come meanwhile.
    pub(super) fn gives_way(&self) -> bool {
        let since = self.ranked.state.waiting_since();
        if since.is_some_and(|since| since <= self.ranked.since.load(Relaxed)) {
            return true;
        }
        let ranked = &self.ranked;
        self.connections.ranked().insert(ranked.rank(), Arc::clone(ranked));
        false
    }

    pub(super) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut ranked = self.connections.ranked();
        ranked.remove(&self.ranked.rank());
        drop(ranked);
        self.connections.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn of(cap: usize) -> Arc<Connections> {
        Connections::new(cap, Gauge::default())
    }

    async fn gives_way(connection: &OpenConnection) -> bool {
        connection.state().gives_way().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_gives_way() {
        let connections = of(3);
        let (first, second, third) = (
            connections.admit().await,
            connections.admit().await,
            connections.admit().await,
        );
        first.state().begins_request();
        tokio::time::sleep(Duration::from_millis(2)).await;
        second.state().awaits(Awaited::NextHead);
        tokio::time::sleep(Duration::from_millis(YOUNG_MS)).await;
        assert!(connections.longest_waiting_gives_way());
        assert!(gives_way(&third).await && !gives_way(&second).await && !gives_way(&first).await);
        assert!(connections.longest_waiting_gives_way());
        assert!(gives_way(&second).await && !gives_way(&first).await);
        assert!(
            !connections.longest_waiting_gives_way(),
            "a request that is handled stays"
        );
        first.state().awaits(Awaited::NextHead);
        // Where this thread is held up it is not young any more, and may give way.
        let early = connections.longest_waiting_gives_way();
        let since = first.state().waiting_since().unwrap();
        assert!(!(early && is_young(since)), "it has only begun to wait");
        tokio::time::sleep(Duration::from_millis(YOUNG_MS + 1)).await;
        assert!(early || connections.longest_waiting_gives_way());
        assert!(gives_way(&first).await);
        drop((first, second, third));
        assert!(connections.ranked().is_empty());
        assert_eq!(connections.open.get(), 0);
    }

    #[tokio::test]
    async fn a_newcomer_waits_only_while_all_are_busy() {
        let connections = of(1);
        let busy = connections.admit().await;
        busy.state().begins_request();
        assert!(tokio::time::timeout(5 * LOOK_AGAIN, connections.admit()).await.is_err());
        busy.state().awaits(Awaited::NextHead);
        let leaving = async {
            busy.state().gives_way().await;
            drop(busy);
        };
        let (newcomer, ()) = tokio::join!(connections.admit(), leaving);
        drop(newcomer);
    }

    #[tokio::test]
    async fn connections_are_kept_up_to_four_fifths_of_the_cap() {
        for (cap, open, reached) in [
            (100, 80, false),
            (100, 81, true),
            (100, 100, true),
            (10, 8, false),
            (10, 9, true),
            (9, 9, false),
            (1, 1, false),
        ] {
            let connections = of(cap);
            let mut kept = Vec::new();
            for _ in 0..open {
                kept.push(connections.admit().await);
            }
            assert_eq!(connections.is_keep_alive_limit_reached(), reached, "{open} of {cap}");
        }
    }
}

//! Bytes of entries that the workers of one process hold in memory at once.
//!
//! Entries differ in size by a factor of a thousand, so a bound on their number bounds no memory.
//! Two budgets, 64 MiB together, are shared by all workers: one for pages, from before they are
//! read until they are acked, and one for entries that wait to be retried alone, so that these
//! never keep new pages from being read.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::page_size::PageSize;
use crate::stream::{self, Entry};

/// Bytes of all pages that are read, decoded and loaded.
const PAGES_BYTES: usize = 48 << 20;
/// Bytes of all entries that wait for a retry alone, or are retried.
const RETRIES_BYTES: usize = 16 << 20;
/// What a field takes beside its value.
const FIELD_OVERHEAD: usize = 64;

/// The budgets of one process.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) pages: Arc<Budget>,
    pub(super) retries: Arc<Budget>,
    pub(super) page_size: PageSize,
}

impl Memory {
    /// All of so many readers can wait for a page at once, and half of the memory is left for pages
    /// that came.
    pub(super) fn new(readers: usize, read_count: usize) -> Self {
        let page_bytes = stream::PAGE_BYTES.min(PAGES_BYTES / 2 / readers.max(1));
        Self {
            pages: Budget::new(PAGES_BYTES),
            retries: Budget::new(RETRIES_BYTES),
            page_size: PageSize::new(read_count, page_bytes),
        }
    }
}

/// Bytes that an entry takes in memory, before it is decoded.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    entry.fields.bytes() + FIELD_OVERHEAD * entry.fields.0.len()
}

/// A bound on bytes; what is larger than the whole bound is admitted alone.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    held: Mutex<usize>,
    freed: Notify,
    /// Held by the one who waits, so that a large reservation is not overtaken for ever by small
    /// ones.
    queue: tokio::sync::Mutex<()>,
}

/// A part of a budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: Mutex::new(0),
            freed: Notify::new(),
            queue: tokio::sync::Mutex::new(()),
        })
    }

    /// Waits until so many bytes are free. Dropping the future is safe.
    pub(super) async fn reserve(self: &Arc<Self>, bytes: usize) -> Reservation {
        let _turn = self.queue.lock().await;
        loop {
            let freed = self.freed.notified();
            if let Some(reservation) = self.try_reserve(bytes) {
                return reservation;
            }
            freed.await;
        }
    }

    /// `None` where so many bytes are not free.
    pub(super) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held > 0 && held.saturating_add(bytes) > self.limit {
            return None;
        }
        *held = held.saturating_add(bytes);
        Some(Reservation {
            budget: Arc::clone(self),
            bytes,
        })
    }

    fn change(&self, from: usize, to: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_sub(from).saturating_add(to);
        drop(held);
        if to < from {
            self.freed.notify_waiters();
        }
    }
}

impl Reservation {
    /// Sets it to what was really needed, which may be more than is free: it is in memory already.
    pub(super) fn resize(&mut self, bytes: usize) {
        self.budget.change(self.bytes, bytes);
        self.bytes = bytes;
    }

    /// Takes over what another one of the same budget holds.
    pub(super) fn join(&mut self, mut other: Self) {
        self.bytes = self.bytes.saturating_add(std::mem::take(&mut other.bytes));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.change(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn admits_what_fits_in_order_and_what_is_too_large_alone() {
        let budget = Budget::new(10);
        let mut first = budget.try_reserve(6).unwrap();
        assert!(budget.try_reserve(5).is_none());
        let mut large = Box::pin(budget.reserve(99));
        assert!(large.as_mut().now_or_never().is_none());
        let mut small = Box::pin(budget.reserve(1));
        assert!(small.as_mut().now_or_never().is_none(), "it came later");
        first.resize(0);
        let large = large.await;
        assert!(small.as_mut().now_or_never().is_none());
        drop((large, first));
        drop(small.await);
        assert_eq!(*budget.held.lock().unwrap(), 0);
    }
}

//! Admission: bounds the memory that bodies, and what is made of them, take at once.
//!
//! Owns the budget, in bytes. Bytes count when they arrive, not when they are announced. A body's
//! permit lives as long as the entries made of it, queued ones too, and each entry takes a permit
//! of its own. Converting a body takes about four times its bytes: the three on top come from a
//! pool of their own, a sixth of the budget, which a conversion waits for. The bound on all is 1.17
//! times the budget. Invariants: each byte taken is given back when the last holder is dropped;
//! bodies that have not arrived whole, and so are not verified, take at most half of the budget (or
//! the largest body).

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget is used up; the request is to be shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bodies in memory are at their limit")]
pub struct Shed;

/// The budget; a cheap clone.
#[derive(Debug, Clone)]
pub struct Admission {
    budget: Arc<Semaphore>,
    /// What unverified bodies may take of it.
    unverified: Arc<Semaphore>,
    /// What conversions may take beside it.
    converting: Arc<Semaphore>,
    /// Bytes of the whole budget.
    size: usize,
    converting_size: usize,
    in_use: Gauge,
}

/// The bytes that one body or entry takes of the budget.
#[derive(Debug)]
pub struct MemoryPermit {
    admission: Admission,
    taken: Option<OwnedSemaphorePermit>,
    /// While the sender is not known: the same number of bytes.
    unverified: Option<OwnedSemaphorePermit>,
    is_verified: bool,
}

/// Room for a conversion.
#[derive(Debug)]
pub struct ConversionPermit(#[expect(dead_code, reason = "given back when it is dropped")] OwnedSemaphorePermit);

/// What a body costs while it is converted, in times its bytes and beside them.
const CONVERSION_FACTOR: usize = 3;
/// Conversions have this part of the budget: with a quarter, peak memory reached 1.3 times the
/// budget and 64 MiB.
const CONVERSIONS: usize = 6;

/// A permit that several hold: the last of them gives it back.
pub type SharedPermit = Arc<MemoryPermit>;

impl Admission {
    /// A budget of `bytes`, all free, in which one unverified body of `largest` bytes fits.
    /// `in_use` follows what is taken.
    #[must_use]
    pub fn new(bytes: usize, largest: usize, in_use: Gauge) -> Self {
        let unverified = (bytes / 2).max(largest);
        let semaphore = |bytes: usize| Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        Self {
            budget: semaphore(bytes),
            unverified: semaphore(unverified),
            converting: semaphore(bytes / CONVERSIONS),
            size: bytes,
            converting_size: bytes / CONVERSIONS,
            in_use,
        }
    }

    /// Room for the conversion of a body of so many bytes; to be dropped when that is done.
    ///
    /// # Errors
    /// Other conversions leave no room until then.
    pub async fn conversion(&self, bytes: usize, until: Instant) -> Result<ConversionPermit, Shed> {
        let permits = u32::try_from(bytes.saturating_mul(CONVERSION_FACTOR).min(self.converting_size));
        let room = Arc::clone(&self.converting).acquire_many_owned(permits.map_err(|_| Shed)?);
        let room = tokio::time::timeout_at(until.into(), room).await;
        room.map_err(|_| Shed)?.map(ConversionPermit).map_err(|_| Shed)
    }

    /// A permit of no bytes yet; `is_verified`: its sender is known.
    #[must_use]
    pub fn open(&self, is_verified: bool) -> MemoryPermit {
        MemoryPermit {
            admission: self.clone(),
            taken: None,
            unverified: None,
            is_verified,
        }
    }
}

impl MemoryPermit {
    /// Adds `bytes` to the permit, without waiting.
    ///
    /// # Errors
    /// The budget does not hold them; the permit stays as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Shed> {
        let permits = u32::try_from(bytes).map_err(|_| Shed)?;
        let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_many_owned(permits).map_err(|_| Shed);
        let unverified = if self.is_verified {
            None
        } else {
            Some(take(&self.admission.unverified)?)
        };
        let more = take(&self.admission.budget)?;
        self.admission.in_use.inc_by(i64::from(permits));
        add(&mut self.taken, more);
        if let Some(unverified) = unverified {
            add(&mut self.unverified, unverified);
        }
        Ok(())
    }

    /// A permit for an entry that was made of this one's body.
    ///
    /// # Errors
    /// The budget does not hold it. (One that is too small for any such entry does not count it.)
    pub fn entry(&self, bytes: usize) -> Result<Self, Shed> {
        let mut entry = self.admission.open(true);
        let body = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if body.saturating_add(bytes) <= self.admission.size {
            entry.grow(bytes)?;
        }
        Ok(entry)
    }

    /// The body is whole with what is added next: it is verified at once, so it leaves the
    /// unverified half.
    pub fn arrives_whole(&mut self) {
        self.unverified = None;
        self.is_verified = true;
    }
}

fn add(taken: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match taken {
        Some(taken) => taken.merge(more),
        None => *taken = Some(more),
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        if let Some(taken) = &self.taken {
            let bytes = i64::try_from(taken.num_permits()).unwrap_or(i64::MAX);
            self.admission.in_use.dec_by(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheds_beyond_the_budget_and_gives_back() {
        let in_use = Gauge::default();
        let admission = Admission::new(100, 0, in_use.clone());
        let mut first = admission.open(true);
        let mut second = admission.open(true);
        assert_eq!(first.grow(40), Ok(()));
        assert_eq!(first.grow(20), Ok(()));
        assert_eq!(second.grow(41), Err(Shed));
        assert_eq!(second.grow(40), Ok(()));
        assert_eq!(in_use.get(), 100);
        drop(first);
        assert_eq!(second.grow(60), Ok(()));
        drop(second);
        assert_eq!(in_use.get(), 0);
    }

    #[test]
    fn unverified_bodies_take_half_of_it() {
        let admission = Admission::new(100, 10, Gauge::default());
        let mut stranger = admission.open(false);
        assert_eq!(stranger.grow(50), Ok(()));
        assert_eq!(admission.open(false).grow(1), Err(Shed));
        let mut known = admission.open(true);
        assert_eq!(known.grow(50), Ok(()));
        assert_eq!(known.grow(1), Err(Shed));
        drop(known);
        stranger.arrives_whole();
        let mut other = admission.open(false);
        assert_eq!(other.grow(50), Ok(()), "what is verified is counted no more");
        drop((stranger, other));
        assert_eq!(admission.open(false).grow(50), Ok(()));
    }

    #[test]
    fn an_entry_is_counted_beside_its_body() {
        let in_use = Gauge::default();
        let admission = Admission::new(100, 0, in_use.clone());
        let mut body = admission.open(true);
        assert_eq!(body.grow(60), Ok(()));
        let entry = body.entry(30).unwrap();
        assert_eq!(in_use.get(), 90);
        assert!(body.entry(30).is_err());
        assert!(body.entry(50).is_ok(), "no budget of this size holds it");
        drop(body);
        assert_eq!(in_use.get(), 30);
        drop(entry);
        assert_eq!(in_use.get(), 0);
    }

    #[tokio::test]
    async fn conversions_wait_for_each_other() {
        let admission = Admission::new(400, 0, Gauge::default());
        let soon = || Instant::now() + std::time::Duration::from_millis(20);
        let large = admission.conversion(1000, soon()).await.unwrap();
        assert!(admission.conversion(1, soon()).await.is_err());
        drop(large);
        let small = [
            admission.conversion(10, soon()).await,
            admission.conversion(10, soon()).await,
        ];
        assert!(small.iter().all(Result::is_ok));
    }

    #[test]
    fn the_largest_body_fits_into_a_small_budget() {
        assert_eq!(Admission::new(100, 80, Gauge::default()).open(false).grow(80), Ok(()));
    }
}

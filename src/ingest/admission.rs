//! How many bytes of bodies may be in memory at once.
//!
//! Owns the budget. What counts is what has arrived, not what was announced: a client that declares much and sends
//! little occupies little. The share of a body goes on with the entries made of it, queued ones too, so what the bytes
//! in memory come to is bounded by the budget. Invariant: every byte taken is given back when the last holder is dropped.

use std::sync::Arc;

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
    in_use: Gauge,
}

/// One request's share of the budget.
#[derive(Debug)]
pub struct Admitted {
    admission: Admission,
    share: Option<OwnedSemaphorePermit>,
}

/// A share that several hold: it is given back by the last of them.
pub type Share = Arc<Admitted>;

impl Admission {
    /// A budget of `bytes`, all free. `in_use` follows what is taken.
    #[must_use]
    pub fn new(bytes: usize, in_use: Gauge) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            in_use,
        }
    }

    /// A share of no bytes yet.
    #[must_use]
    pub fn open(&self) -> Admitted {
        Admitted {
            admission: self.clone(),
            share: None,
        }
    }
}

impl Admitted {
    /// Adds `bytes` to the share, without waiting.
    ///
    /// # Errors
    /// The budget does not hold them; the share stays as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Shed> {
        let permits = u32::try_from(bytes).map_err(|_| Shed)?;
        let budget = Arc::clone(&self.admission.budget);
        let more = budget.try_acquire_many_owned(permits).map_err(|_| Shed)?;
        self.admission.in_use.inc_by(i64::from(permits));
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            let bytes = i64::try_from(share.num_permits()).unwrap_or(i64::MAX);
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
        let admission = Admission::new(100, in_use.clone());
        let mut first = admission.open();
        let mut second = admission.open();
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
}

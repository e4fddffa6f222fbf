//! How many entries one read or claim asks for.
//!
//! Invariant: entries too large to come within the response timeout as one page come as smaller ones, so that the same
//! page does not fail for ever.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stream::StreamError;

/// Full pages it takes to grow from nothing to the most. Slow, since each step too far costs a whole timeout.
const GROWTH_STEPS: usize = 16;

/// Between 1 and `most`.
#[derive(Debug)]
pub(super) struct PageSize {
    now: AtomicUsize,
    most: usize,
}

impl PageSize {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let now = AtomicUsize::new(most);
        Self { now, most }
    }

    pub(super) fn get(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Halves after a timeout, grows after a full page; other errors and pages say nothing about sizes.
    pub(super) fn learn(&self, came: Result<usize, &StreamError>) {
        let now = self.get();
        let next = match came {
            Ok(count) if count >= now => now + self.most.div_ceil(GROWTH_STEPS),
            Err(StreamError::Timeout { .. }) => now / 2,
            Ok(_) | Err(_) => now,
        };
        self.now.store(next.clamp(1, self.most), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn shrinks_with_timeouts_only_and_grows_with_full_pages() {
        let size = PageSize::new(40);
        let after = |came| {
            size.learn(came);
            size.get()
        };
        let timeout = &StreamError::Timeout {
            server: "here".to_owned(),
            after: Duration::from_secs(1),
        };
        assert_eq!(after(Err(&StreamError::Full(1))), 40);
        assert_eq!([(); 7].map(|()| after(Err(timeout))), [20, 10, 5, 2, 1, 1, 1]);
        assert_eq!(after(Ok(0)), 1);
        assert_eq!(after(Ok(1)), 4);
        assert_eq!(after(Ok(3)), 4);
        assert_eq!([(); 13].map(|()| after(Ok(500)))[10..], [37, 40, 40]);
    }
}

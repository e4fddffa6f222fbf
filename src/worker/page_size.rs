//! How many entries one read or claim asks for, and how much memory they take.
//!
//! The next entries are expected to be as large as the last ones. Where they are larger, the store
//! ends the page early: it asks for few entries first. Invariant: entries too large to come within the
//! response timeout as one page come as smaller ones, so that the same page does not fail for ever.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stream::StreamError;

/// Bytes that an entry is expected to have before one was read.
const FIRST_EXPECTED: usize = 8 << 10;
/// Full pages it takes to grow from nothing to the most. Slow, since each step too far costs a
/// whole timeout.
const GROWTH_STEPS: usize = 16;

/// Shared by the workers of one process.
#[derive(Debug)]
pub(super) struct PageSize {
    /// Between 1 and `most`.
    count: AtomicUsize,
    most: usize,
    /// Bytes of a page, but for one entry that is larger.
    page_bytes: usize,
    entry_bytes: AtomicUsize,
}

impl PageSize {
    pub(super) fn new(most: usize, page_bytes: usize) -> Self {
        let most = most.max(1);
        Self {
            count: AtomicUsize::new(most),
            most,
            page_bytes,
            entry_bytes: AtomicUsize::new(FIRST_EXPECTED),
        }
    }

    /// Entries of the next page.
    pub(super) fn entries(&self) -> usize {
        let fitting = self.page_bytes / self.entry_bytes();
        fitting.clamp(1, self.count.load(Ordering::Relaxed))
    }

    /// Bytes that the next page is expected to take at most.
    pub(super) fn bytes(&self) -> usize {
        self.page_bytes.max(self.entry_bytes())
    }

    fn entry_bytes(&self) -> usize {
        self.entry_bytes.load(Ordering::Relaxed)
    }

    /// Takes note of a page for which `asked` entries were asked: of their number and bytes. After
    /// a timeout half as many are asked for, after a full page of the most that is asked for more;
    /// other errors and pages say nothing about the number. The expected size rises at once, and
    /// falls by half a page.
    pub(super) fn learn(&self, asked: usize, came: Result<(usize, usize), &StreamError>) {
        let count = self.count.load(Ordering::Relaxed);
        let next = match came {
            Ok((entries, _)) if entries >= asked.max(count) => count + self.most.div_ceil(GROWTH_STEPS),
            Err(StreamError::Timeout { .. }) => asked / 2,
            Ok(_) | Err(_) => count,
        };
        self.count.store(next.clamp(1, self.most), Ordering::Relaxed);
        if let Ok((entries, bytes)) = came
            && let Some(mean) = bytes.checked_div(entries)
        {
            let expected = mean.max(self.entry_bytes() / 2).max(1);
            self.entry_bytes.store(expected, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn asks_for_as_many_as_fit_by_the_size_that_came() {
        let size = PageSize::new(500, 8 << 20);
        let after = |asked, entries: usize, bytes: usize| {
            size.learn(asked, Ok((entries, entries * bytes)));
            size.entries()
        };
        assert_eq!((size.entries(), size.bytes()), (500, 8 << 20));
        assert_eq!(after(500, 3, 4_500_000), 1, "larger ones are expected at once");
        assert_eq!(after(1, 0, 0), 1, "an empty page says nothing");
        let small = [(); 9].map(|()| after(2, 1, 2000));
        assert_eq!(small, [3, 7, 14, 29, 59, 119, 238, 477, 500]);
        assert_eq!(after(1, 1, 9 << 20), 1);
        assert_eq!(size.bytes(), 9 << 20, "one that is larger than a page");
    }

    #[test]
    fn shrinks_with_timeouts_only_and_grows_with_full_pages() {
        let size = PageSize::new(40, 1 << 30);
        let after = |came: Result<usize, _>| {
            size.learn(size.entries(), came.map(|entries| (entries, entries)));
            size.entries()
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

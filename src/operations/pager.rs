//! Reads a log page by page, with bounds on entries and bytes.

use std::collections::VecDeque;

use crate::stream::{Destination, Entry, Range, ReadOrder, Stream, StreamError, StreamId};

/// Entries of one page at most.
const MAX_PAGE: usize = 200;
/// Bytes of a page above which the next one is smaller.
pub(super) const LARGE_PAGE: usize = 4 << 20;

/// A position in a log.
pub(super) struct Pager<'a> {
    stream: &'a dyn Stream,
    rest: Option<Range>,
    page_size: usize,
    entries_left: usize,
    bytes_left: usize,
    /// Of the last page, what [`next`](Self::next) has not answered yet.
    buffer: VecDeque<Entry>,
}

impl<'a> Pager<'a> {
    /// Reads at most `max_entries`.
    pub(super) fn new(stream: &'a dyn Stream, range: Range, max_entries: usize) -> Self {
        Self {
            stream,
            rest: (range.from <= range.to).then_some(range),
            page_size: range.count.clamp(1, MAX_PAGE),
            entries_left: max_entries,
            bytes_left: usize::MAX,
            buffer: VecDeque::new(),
        }
    }

    /// The same, ending after the page in which it reaches so many bytes.
    pub(super) fn with_max_bytes(self, bytes_left: usize) -> Self {
        Self { bytes_left, ..self }
    }

    /// The next page; `None` at the end of the range, or at a bound.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<Entry>>, StreamError> {
        let Some(range) = self.rest.filter(|_| self.entries_left > 0 && self.bytes_left > 0) else {
            return Ok(None);
        };
        let count = self.page_size.min(self.entries_left);
        let page = self.stream.range(Range { count, ..range }).await?;
        self.rest = page.next;
        self.entries_left = self.entries_left.saturating_sub(page.entries.len());
        let bytes: usize = page.entries.iter().map(|entry| entry.fields.bytes()).sum();
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.page_size = if bytes > LARGE_PAGE {
            (count / 4).max(1)
        } else {
            (self.page_size * 2).min(MAX_PAGE)
        };
        Ok(Some(page.entries))
    }

    /// The next entry; `None` at the end of the range, or at a bound.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, StreamError> {
        while self.buffer.is_empty() {
            let Some(page) = self.page().await? else {
                return Ok(None);
            };
            self.buffer = page.into();
        }
        Ok(self.buffer.pop_front())
    }

    /// What was not read, behind the last page; `None` where all was.
    pub(super) fn rest(&self) -> Option<Range> {
        self.rest
    }

    /// Newest first: the id up to which to go on behind the last entry; `None` where all was read.
    pub(super) fn next_id(&self) -> Option<StreamId> {
        let unread = self.buffer.front().map(|entry| entry.id);
        unread.or(self.rest.map(|rest| rest.to))
    }

    /// Whether nothing is left behind the last page; reads one more entry to find out.
    pub(super) async fn is_at_end(&self) -> Result<bool, StreamError> {
        match self.rest {
            Some(rest) => {
                let page = self.stream.range(Range { count: 1, ..rest }).await?;
                Ok(page.entries.is_empty())
            }
            None => Ok(true),
        }
    }
}

/// The range of a single entry.
pub(super) fn only(log: Destination, id: StreamId) -> Range {
    Range {
        from: id,
        to: id,
        ..Range::all(log, ReadOrder::OldestFirst, 1)
    }
}

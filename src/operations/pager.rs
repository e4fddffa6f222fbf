//! A walk through a log, in pages whose bytes are bounded.

use crate::stream::{Entry, Range, Stream, StreamError, StreamId};

/// Entries of one page at most.
const MOST: usize = 200;
/// Bytes above which the next page is a smaller one.
pub(super) const LARGE: usize = 4 << 20;

/// Where a walk stands.
pub(super) struct Pager<'a> {
    stream: &'a dyn Stream,
    next: Option<Range>,
    count: usize,
    left: usize,
    bytes_left: usize,
}

impl<'a> Pager<'a> {
    /// Looks at `most` entries at most.
    pub(super) fn new(stream: &'a dyn Stream, range: Range, most: usize) -> Self {
        Self {
            stream,
            next: (range.from <= range.to).then_some(range),
            count: range.count.clamp(1, MOST),
            left: most,
            bytes_left: usize::MAX,
        }
    }

    /// The same, ending behind the page with which it has read so many bytes.
    pub(super) fn up_to_bytes(self, bytes: usize) -> Self {
        Self {
            bytes_left: bytes,
            ..self
        }
    }

    /// The next page; `None` at the end, or where enough was looked at.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<Entry>>, StreamError> {
        let Some(range) = self.next.filter(|_| self.left > 0 && self.bytes_left > 0) else {
            return Ok(None);
        };
        let count = self.count.min(self.left);
        let page = self.stream.range(Range { count, ..range }).await?;
        self.next = page.next;
        self.left -= page.entries.len().min(self.left);
        let bytes: usize = page.entries.iter().map(|entry| entry.fields.bytes()).sum();
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.count = if bytes > LARGE {
            (count / 4).max(1)
        } else {
            (self.count * 2).min(MOST)
        };
        Ok(Some(page.entries))
    }

    /// Whether nothing is left behind the last page, which a look at one more entry tells.
    pub(super) async fn is_at_end(&self) -> Result<bool, StreamError> {
        match self.next {
            Some(range) => {
                let page = self.stream.range(Range { count: 1, ..range }).await?;
                Ok(page.entries.is_empty())
            }
            None => Ok(true),
        }
    }

    /// What is left behind the last page; `None` where all was seen.
    pub(super) fn rest(&self) -> Option<Range> {
        self.next
    }
}

/// The range of a single entry.
pub(super) fn only(log: crate::stream::Destination, id: StreamId) -> Range {
    Range {
        from: id,
        to: id,
        ..Range::all(log, crate::stream::Order::OldestFirst, 1)
    }
}

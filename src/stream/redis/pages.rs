//! Pages of entries: several calls of a few entries each, since their sizes show only when they
//! come.

use super::server::Server;
use crate::stream::{Entry, PAGE_BYTES, Page, Range, ReadOrder, StreamError};

/// Entries of the first call of a page; each further call asks for twice as many.
const FIRST: usize = 2;
/// Entries of a later call at most: where large ones (5 MiB) follow small ones, they take 120 MiB.
const MOST: usize = 24;

/// The calls of one page.
pub(super) struct Steps {
    left: usize,
    step: usize,
    bytes: usize,
    is_at_end: bool,
}

impl Steps {
    pub(super) fn new(count: usize) -> Self {
        Self {
            left: count.max(1),
            step: FIRST,
            bytes: 0,
            is_at_end: false,
        }
    }

    /// Entries of the next call; `None` where the page is complete.
    pub(super) fn next(&self) -> Option<usize> {
        let is_complete = self.is_at_end || self.left == 0 || self.bytes >= PAGE_BYTES;
        (!is_complete).then(|| self.left.min(self.step))
    }

    /// Takes note of what that call brought.
    pub(super) fn came(&mut self, entries: &[Entry]) {
        self.is_at_end = self.next().is_some_and(|asked| entries.len() < asked);
        self.left -= entries.len().min(self.left);
        self.step = (2 * self.step).min(MOST);
        self.bytes += entries.iter().map(|entry| entry.fields.bytes()).sum::<usize>();
    }
}

/// A page of a log.
pub(super) async fn range(server: &Server, log: &str, range: Range) -> Result<Page, StreamError> {
    let mut steps = Steps::new(range.page());
    let (mut entries, mut rest) = (Vec::new(), Some(range));
    while let Some((count, part)) = steps.next().zip(rest) {
        let (command, first, last) = match part.order {
            ReadOrder::OldestFirst => ("XRANGE", part.from, part.to),
            ReadOrder::NewestFirst => ("XREVRANGE", part.to, part.from),
        };
        let mut query = redis::cmd(command);
        query.arg(log).arg(first).arg(last);
        let came: Vec<Entry> = server.query(query.arg("COUNT").arg(count)).await?;
        steps.came(&came);
        rest = came.last().and_then(|last| part.behind(last.id));
        entries.extend(came);
    }
    Ok(Page {
        next: rest.filter(|_| !steps.is_at_end),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Fields, StreamId};

    fn entries(count: usize, bytes: usize) -> Vec<Entry> {
        let mut fields = Fields::default();
        fields.push("", vec![0; bytes]);
        let entry = Entry {
            id: StreamId::MIN,
            fields,
        };
        vec![entry; count]
    }

    #[test]
    fn a_page_ends_at_its_count_its_bytes_or_the_end_of_the_log() {
        let calls = |mut steps: Steps, bytes| {
            let mut calls = Vec::new();
            while let Some(count) = steps.next() {
                calls.push(count);
                steps.came(&entries(count, bytes));
            }
            calls
        };
        assert_eq!(calls(Steps::new(70), 10), [2, 4, 8, 16, 24, 16]);
        assert_eq!(calls(Steps::new(70), PAGE_BYTES / 25), [2, 4, 8, 16]);
        assert_eq!(calls(Steps::new(1), 2 * PAGE_BYTES), [1]);
        let mut short = Steps::new(70);
        short.came(&entries(1, 10));
        assert_eq!(short.next(), None);
    }
}

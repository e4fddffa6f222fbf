//! All letters without their content, remembered from one look to the next: causes are told by all of them, and to read
//! every letter for that, body included, takes the better part of a second.
//!
//! Invariant: what is answered is what the log holds. Letters are appended under growing ids and removed, nothing else:
//! those behind the newest known one are read, and where the store then counts another number, all are read again.
//! Bounded by the number of letters, about a kilobyte each.

use tokio::sync::MutexGuard;

use super::{LOOKED_AT, Letter};
use crate::operations::walk::Walk;
use crate::operations::{Operations, OperationsError};
use crate::stream::{Destination, Order, Range, Stream, StreamError, StreamId};

/// The newest letters, at most [`LOOKED_AT`].
#[derive(Default)]
pub(in crate::operations) struct Known {
    /// Newest first.
    letters: Vec<Letter>,
    complete: bool,
}

impl Known {
    /// Newest first; copies of a letter are not folded.
    pub(super) fn letters(&self) -> impl ExactSizeIterator<Item = &Letter> {
        self.letters.iter()
    }

    /// Whether those are all.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    async fn catch_up(&mut self, stream: &dyn Stream) -> Result<(), StreamError> {
        // Counted before the look: a letter that comes meanwhile makes for a look too many, never for one too few.
        let count = stream.report().await?.dead_letters;
        if self.complete {
            let newest = self.letters.first().and_then(|letter| letter.id.successor());
            let mut came = Self::read(stream, newest.unwrap_or(StreamId::MIN)).await?;
            if came.complete && (came.letters.len() + self.letters.len()) as u64 == count {
                came.letters.append(&mut self.letters);
                *self = came;
                return Ok(());
            }
        }
        *self = Self::read(stream, StreamId::MIN).await?;
        Ok(())
    }

    async fn read(stream: &dyn Stream, from: StreamId) -> Result<Self, StreamError> {
        let range = Range {
            from,
            ..Range::all(Destination::DeadLetters, Order::NewestFirst, usize::MAX)
        };
        let mut walk = Walk::new(stream, range, LOOKED_AT);
        let mut letters = Vec::new();
        while let Some(page) = walk.page().await? {
            letters.extend(page.iter().map(Letter::of));
        }
        Ok(Self {
            letters,
            complete: walk.rest().is_none(),
        })
    }
}

impl Operations {
    /// The letters as they are now. Who has them keeps others from looking: not to be held over a wait.
    pub(super) async fn known_letters(&self) -> Result<MutexGuard<'_, Known>, OperationsError> {
        let mut known = self.known_letters.lock().await;
        known.catch_up(&*self.stream).await?;
        Ok(known)
    }
}

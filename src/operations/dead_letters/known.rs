//! All letters without their content, remembered from one look to the next: causes, and letters about one order, are
//! told by all of them, and to read every letter for that, body included, takes the better part of a second.
//!
//! Invariant: what is answered is what the log holds. Letters are appended under growing ids and removed, nothing else:
//! those behind the newest known one are read, and where the store then counts another number, all are read again.
//! Bounded by the number of letters, about three kilobytes each.

use tokio::sync::MutexGuard;

use super::words::Words;
use super::{LOOKED_AT, Letter};
use crate::operations::content::told;
use crate::operations::walk::Walk;
use crate::operations::{Operations, OperationsError};
use crate::stream::codec::Unpacker;
use crate::stream::{Destination, Entry, Order, Range, Stream, StreamError, StreamId};

/// The newest letters, at most [`LOOKED_AT`].
#[derive(Default)]
pub(in crate::operations) struct Known {
    /// Newest first.
    letters: Vec<KnownLetter>,
    /// Letters in the log that are older than those.
    older: u64,
}

struct KnownLetter {
    letter: Letter,
    words: Words,
}

/// Letters of one look.
struct Came {
    /// Newest first.
    letters: Vec<KnownLetter>,
    /// Whether those are all that were asked for.
    complete: bool,
}

impl Known {
    /// Newest first; copies of a letter are not folded.
    pub(in crate::operations) fn letters(&self) -> impl ExactSizeIterator<Item = &Letter> {
        self.letters.iter().map(|known| &known.letter)
    }

    /// Whether those are all.
    pub(in crate::operations) fn is_complete(&self) -> bool {
        self.older == 0
    }

    /// Ids of that letter and of its copies among those, newest first.
    pub(in crate::operations) fn copies(&self, of: &Letter) -> Vec<StreamId> {
        let copies = self.letters().filter(|letter| letter.is_copy_of(of));
        let mut copies = Vec::from_iter(copies.map(|letter| letter.id));
        // It may be older than all of those.
        if !copies.contains(&of.id) {
            copies.push(of.id);
        }
        copies
    }

    /// Letters that may be about one of these orders, newest first: how many are newer, and the id.
    pub(in crate::operations) fn naming(&self, orders: &[String]) -> Vec<(usize, StreamId)> {
        let may = |known: &KnownLetter| orders.iter().any(|order| known.words.may_name(order));
        let letters = self.letters.iter().enumerate();
        let naming = letters.filter(|(_, known)| may(known));
        naming.map(|(newer, known)| (newer, known.letter.id)).collect()
    }

    async fn catch_up(&mut self, stream: &dyn Stream, body_limit: usize) -> Result<(), StreamError> {
        // Counted before the look: a letter that comes meanwhile makes for a look too many, never for one too few.
        let count = stream.report().await?.dead_letters;
        if let Some(newest) = self.letters.first() {
            let after = newest.letter.id.successor().unwrap_or(StreamId::MAX);
            let mut came = read(stream, after, body_limit).await?;
            let known = (came.letters.len() + self.letters.len()) as u64 + self.older;
            if came.complete && known == count {
                came.letters.append(&mut self.letters);
                self.older += came.letters.len().saturating_sub(LOOKED_AT) as u64;
                came.letters.truncate(LOOKED_AT);
                self.letters = came.letters;
                return Ok(());
            }
        }
        let all = read(stream, StreamId::MIN, body_limit).await?;
        let older = count.saturating_sub(all.letters.len() as u64).max(1);
        self.older = if all.complete { 0 } else { older };
        self.letters = all.letters;
        Ok(())
    }
}

/// Bodies are unpacked off the runtime's threads, while the next page is on its way.
async fn read(stream: &dyn Stream, from: StreamId, body_limit: usize) -> Result<Came, StreamError> {
    let range = Range {
        from,
        ..Range::all(Destination::DeadLetters, Order::NewestFirst, usize::MAX)
    };
    let mut walk = Walk::new(stream, range, LOOKED_AT);
    let mut letters = Vec::new();
    let mut page = walk.page().await?;
    while let Some(entries) = page {
        let unpacking = tokio::task::spawn_blocking(move || known(&entries, body_limit));
        let (known, next) = tokio::join!(unpacking, walk.page());
        letters.extend(known.map_err(|_| StreamError::Unusable("unpacking dead letters panicked".to_owned()))?);
        page = next?;
    }
    Ok(Came {
        letters,
        complete: walk.rest().is_none(),
    })
}

fn known(entries: &[Entry], body_limit: usize) -> Vec<KnownLetter> {
    let mut unpacker = Unpacker::default();
    let known = entries.iter().map(|entry| KnownLetter {
        letter: Letter::of(entry),
        words: Words::of(&told(entry, &mut unpacker, body_limit)),
    });
    known.collect()
}

impl Operations {
    /// The letters as they are now. Who has them keeps others from looking: not to be held over a wait.
    pub(in crate::operations) async fn known_letters(&self) -> Result<MutexGuard<'_, Known>, OperationsError> {
        let mut known = self.known_letters.lock().await;
        known.catch_up(&*self.stream, self.body_limit).await?;
        Ok(known)
    }

    /// Reads the letters that are there, so that the first look at them is as quick as any. Where the stream is away,
    /// that look does it.
    pub async fn warm_up(&self) {
        if let Err(error) = self.known_letters().await.map(drop) {
            tracing::debug!(%error, "dead letters are read at the first look at them");
        }
    }

    /// Removes letters that are resolved, from the log and from memory, which needs not be read afresh then.
    pub(in crate::operations) async fn remove_letters(&self, ids: &[StreamId]) -> Result<(), OperationsError> {
        self.stream.remove_letters(ids).await?;
        let gone = std::collections::HashSet::<&StreamId>::from_iter(ids);
        let mut known = self.known_letters.lock().await;
        known.letters.retain(|known| !gone.contains(&known.letter.id));
        Ok(())
    }
}

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
            let known = (came.len() + self.letters.len()) as u64 + self.older;
            if came.len() <= LOOKED_AT && known == count {
                came.append(&mut self.letters);
                self.keep(came, known);
                return Ok(());
            }
        }
        let all = read(stream, StreamId::MIN, body_limit).await?;
        // One more was read than is kept, so that all of them are known to be all. They may have become fewer meanwhile.
        let count = if all.len() > LOOKED_AT { count } else { 0 };
        self.keep(all, count);
        Ok(())
    }

    /// Keeps the newest of these; the log has so many in all, or at least these.
    fn keep(&mut self, mut letters: Vec<KnownLetter>, count: u64) {
        let count = count.max(letters.len() as u64);
        letters.truncate(LOOKED_AT);
        self.older = count - letters.len() as u64;
        self.letters = letters;
    }
}

/// Letters from that id on, newest first, at most one more than are kept. Bodies are unpacked off the runtime's threads,
/// while the next page is on its way.
async fn read(stream: &dyn Stream, from: StreamId, body_limit: usize) -> Result<Vec<KnownLetter>, StreamError> {
    let range = Range {
        from,
        ..Range::all(Destination::DeadLetters, Order::NewestFirst, usize::MAX)
    };
    let mut walk = Walk::new(stream, range, LOOKED_AT + 1);
    let mut letters = Vec::new();
    let mut page = walk.page().await?;
    while let Some(entries) = page {
        let unpacking = tokio::task::spawn_blocking(move || known(&entries, body_limit));
        let (known, next) = tokio::join!(unpacking, walk.page());
        letters.extend(known.map_err(|_| StreamError::Unusable("unpacking dead letters panicked".to_owned()))?);
        page = next?;
    }
    Ok(letters)
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
        let removed = self.stream.remove_letters(ids).await?;
        let gone = std::collections::HashSet::<&StreamId>::from_iter(ids);
        let mut known = self.known_letters.lock().await;
        // Where some had gone before, which of them is not known: the next look finds another number, and reads all.
        if removed == ids.len() as u64 {
            let oldest = known.letters.last().map(|oldest| oldest.letter.id);
            let older = ids.iter().filter(|id| Some(**id) < oldest).count() as u64;
            known.older = known.older.saturating_sub(older);
        }
        known.letters.retain(|known| !gone.contains(&known.letter.id));
        Ok(())
    }
}

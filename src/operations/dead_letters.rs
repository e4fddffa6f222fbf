//! Dead letters to look at: a list, groups of the same cause, one laid open.
//!
//! Owns what a letter's fields mean. Invariant: a letter that was written more than once (it is written before the ack)
//! shows once, with the ids of all its copies.

use std::collections::hash_map;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::entry_view::{Content, last_text, text};
use super::fingerprint::{fingerprint, pattern};
use super::pager::{Pager, only};
use super::{Operations, OperationsError};
use crate::stream::{Destination, Entry, Order, Range, StreamId};

/// Letters looked at in one call, and their bytes: bodies are most of them.
const LOOKED_AT: usize = 20_000;
/// See [`LOOKED_AT`].
const LOOKED_AT_BYTES: usize = 256 << 20;
/// Letters of one list at most.
const LIST: usize = 200;
/// Causes told apart; letters of further ones are only counted.
const CAUSES: usize = 500;

/// Where a letter was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// At the door: a delivery that cannot become an event.
    Door,
    /// By a worker: an entry that cannot be loaded.
    Worker,
}

/// A letter without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterSummary {
    /// Its id; of several copies in a list, the newest one's.
    pub id: StreamId,
    /// Ids of all copies that were seen, newest first.
    pub copies: Vec<StreamId>,
    /// Where it was written.
    pub origin: Origin,
    /// Why.
    pub error: String,
    /// Stands for the cause; equal for letters with the same one.
    pub fingerprint: String,
    /// When it failed, RFC 3339.
    pub failed_at: Option<String>,
    /// Attempts made.
    pub attempts: u64,
    /// Who gave up.
    pub consumer: Option<String>,
    /// Type of the event.
    pub event_type: Option<String>,
    /// Id of the event.
    pub event_id: Option<String>,
    /// Order it is about, where that can be read.
    pub order_id: Option<String>,
    /// Shop it is about.
    pub shop: Option<String>,
    /// Topic of the webhook.
    pub topic: Option<String>,
    /// Stream that its entry stood in.
    pub original_stream: Option<String>,
    /// Id of its entry.
    pub original_id: Option<String>,
}

impl DeadLetterSummary {
    pub(super) fn of(entry: &Entry) -> Self {
        let error = text(entry, "error").unwrap_or_else(|| "no reason is given".to_owned());
        let original_id = text(entry, "original_id");
        Self {
            id: entry.id,
            copies: vec![entry.id],
            origin: if original_id.is_some() {
                Origin::Worker
            } else {
                Origin::Door
            },
            fingerprint: fingerprint(&error),
            error,
            failed_at: text(entry, "failed_at"),
            attempts: text(entry, "attempts")
                .and_then(|count| count.parse().ok())
                .unwrap_or_default(),
            consumer: text(entry, "consumer"),
            event_type: text(entry, "event_type"),
            event_id: text(entry, "event_id"),
            // What the letter was given stands behind the entry's own.
            order_id: last_text(entry, "order_id"),
            shop: last_text(entry, "shop"),
            topic: text(entry, "topic"),
            original_stream: text(entry, "original_stream"),
            original_id,
        }
    }

    fn is_copy_of(&self, other: &Self) -> bool {
        let is_of_one = self.original_id == other.original_id && self.original_stream == other.original_stream;
        self.id == other.id || self.original_id.is_some() && is_of_one
    }

    /// What all copies have in common; a delivery at the door has only its own id.
    pub(super) fn original(&self) -> (String, String) {
        match &self.original_id {
            Some(id) => (self.original_stream.clone().unwrap_or_default(), id.clone()),
            None => (String::new(), self.id.to_string()),
        }
    }
}

/// What a list is to hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeadLetterQuery {
    /// Only letters of the one cause whose fingerprint begins so.
    pub fingerprint: Option<String>,
    /// Only letters up to this id: the `next` of the page before.
    pub to: Option<StreamId>,
    /// Letters of one page, 1 to 200; 50 where it is not said.
    pub count: Option<usize>,
}

/// A page of letters, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// The letters.
    pub letters: Vec<DeadLetterSummary>,
    /// Letters looked at for this page.
    pub looked_at: u64,
    /// Where the next page starts; null after the last.
    pub next: Option<StreamId>,
}

/// Letters of the same cause.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetterGroup {
    /// Stands for the cause.
    pub fingerprint: String,
    /// The error without what varies.
    pub pattern: String,
    /// How many.
    pub count: u64,
    /// The newest one.
    pub sample: DeadLetterSummary,
    /// `failed_at` of the oldest.
    pub first_seen: Option<String>,
    /// `failed_at` of the newest.
    pub last_seen: Option<String>,
}

/// All causes, the most frequent first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Groups {
    /// The causes.
    pub groups: Vec<DeadLetterGroup>,
    /// Letters looked at, newest first.
    pub looked_at: u64,
    /// Whether that was all of them, and all their causes are here.
    pub complete: bool,
}

/// One letter laid open.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// What is known of it.
    pub letter: DeadLetterSummary,
    /// Whether its entry still stands in the stream; null where it was none.
    pub entry_stands: Option<bool>,
    /// What it holds.
    pub content: Content,
}

impl Operations {
    /// A page of letters, newest first. A letter and its copies are one where they stand on the same page.
    ///
    /// # Errors
    /// The fingerprint fits no cause or more than one, or the stream does not answer.
    pub async fn letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, OperationsError> {
        let _look = self.look().await?;
        let to = query.to.unwrap_or(StreamId::MAX);
        let wanted = match &query.fingerprint {
            Some(prefix) => Some(self.cause(prefix, StreamId::MAX).await?),
            None => None,
        };
        let mut list = List::of(query, wanted.as_deref());
        // One more than is shown: the last one is known to be the last then.
        let count = wanted.as_ref().map_or(list.count + 1, |_| usize::MAX);
        let mut walk = self.walk_letters(to, count);
        while let Some(page) = walk.page().await? {
            for entry in &page {
                if list.add(&DeadLetterSummary::of(entry)) {
                    let is_last = walk.rest().is_none() && page.last().is_some_and(|last| last.id == entry.id);
                    return Ok(list.end(entry.id.predecessor().filter(|_| !is_last)));
                }
            }
        }
        Ok(list.end(walk.rest().map(|rest| rest.to)))
    }

    /// Letters by cause.
    ///
    /// # Errors
    /// The stream does not answer.
    pub async fn letter_groups(&self) -> Result<Groups, OperationsError> {
        let _look = self.look().await?;
        let mut walk = self.walk_letters(StreamId::MAX, usize::MAX);
        let (mut looked_at, mut complete) = (0, true);
        let mut originals = HashSet::new();
        let mut groups: HashMap<String, DeadLetterGroup> = HashMap::new();
        while let Some(page) = walk.page().await? {
            looked_at += page.len() as u64;
            for letter in page.iter().map(DeadLetterSummary::of) {
                // Of a letter and its copies, the newest is counted.
                if originals.insert(letter.original()) {
                    complete &= add(&mut groups, letter);
                }
            }
        }
        let complete = complete && walk.is_at_end().await?;
        let mut groups = Vec::from_iter(groups.into_values());
        groups.sort_by(|a, b| b.count.cmp(&a.count).then(b.sample.id.cmp(&a.sample.id)));
        Ok(Groups {
            groups,
            looked_at,
            complete,
        })
    }

    /// The newest letters, up to `to`, in pages of `count`.
    pub(super) fn walk_letters(&self, to: StreamId, count: usize) -> Pager<'_> {
        let range = Range {
            to,
            ..Range::all(Destination::DeadLetters, Order::NewestFirst, count)
        };
        Pager::new(&*self.stream, range, LOOKED_AT).up_to_bytes(LOOKED_AT_BYTES)
    }

    /// One letter laid open, with the ids of its copies among the newest 20,000.
    ///
    /// # Errors
    /// There is none of that id, or the stream does not answer.
    pub async fn letter(&self, id: StreamId) -> Result<DeadLetterView, OperationsError> {
        let page = self.stream.range(only(Destination::DeadLetters, id)).await?;
        let entry = page.entries.first().ok_or(OperationsError::NotFound("dead letter"))?;
        let mut letter = DeadLetterSummary::of(entry);
        if letter.origin == Origin::Worker {
            let _look = self.look().await?;
            letter.copies = self.copies(&letter).await?;
        }
        Ok(DeadLetterView {
            entry_stands: self.entry_stands(&letter).await?,
            letter,
            content: Content::of(entry, self.body_limit),
        })
    }

    /// Ids of that letter and of its copies among the newest ones, newest first.
    async fn copies(&self, of: &DeadLetterSummary) -> Result<Vec<StreamId>, OperationsError> {
        let mut walk = self.walk_letters(StreamId::MAX, usize::MAX);
        let mut copies = Vec::new();
        while let Some(page) = walk.page().await? {
            let letters = page.iter().filter(|entry| DeadLetterSummary::of(entry).is_copy_of(of));
            copies.extend(letters.map(|entry| entry.id));
        }
        // It may be older than all of those.
        if !copies.contains(&of.id) {
            copies.push(of.id);
        }
        Ok(copies)
    }

    /// A stream of another name may have an entry of the same id, of another event then.
    async fn entry_stands(&self, letter: &DeadLetterSummary) -> Result<Option<bool>, OperationsError> {
        let Some(id) = &letter.original_id else {
            return Ok(None);
        };
        let Ok(id) = id.parse() else {
            return Ok(Some(false));
        };
        let found = self.stream.range(only(Destination::Stream, id)).await?.entries;
        Ok(Some(
            found.iter().any(|entry| text(entry, "event_id") == letter.event_id),
        ))
    }
}

/// Counts a letter for its cause; false where there are too many causes for one more. Letters come newest first.
fn add(groups: &mut HashMap<String, DeadLetterGroup>, letter: DeadLetterSummary) -> bool {
    if !groups.contains_key(&letter.fingerprint) && groups.len() >= CAUSES {
        return false;
    }
    let failed_at = letter.failed_at.clone();
    let group = groups
        .entry(letter.fingerprint.clone())
        .or_insert_with(|| DeadLetterGroup {
            fingerprint: letter.fingerprint.clone(),
            pattern: pattern(&letter.error),
            count: 0,
            last_seen: letter.failed_at.clone(),
            first_seen: None,
            sample: letter,
        });
    group.count += 1;
    group.first_seen = failed_at;
    true
}

/// A page in the making.
struct List<'a> {
    wanted: Option<&'a str>,
    count: usize,
    looked_at: u64,
    found: Folded,
}

impl<'a> List<'a> {
    fn of(query: &DeadLetterQuery, wanted: Option<&'a str>) -> Self {
        Self {
            wanted,
            count: query.count.unwrap_or(50).clamp(1, LIST),
            looked_at: 0,
            found: Folded::default(),
        }
    }

    /// Answers whether the page is full.
    fn add(&mut self, letter: &DeadLetterSummary) -> bool {
        self.looked_at += 1;
        if self.wanted.is_none_or(|wanted| wanted == letter.fingerprint) {
            self.found.add(letter);
        }
        self.found.letters.len() >= self.count
    }

    fn end(self, next: Option<StreamId>) -> DeadLetterPage {
        DeadLetterPage {
            letters: self.found.letters,
            looked_at: self.looked_at,
            next,
        }
    }
}

/// Letters, of which copies of the same are one.
#[derive(Default)]
struct Folded {
    letters: Vec<DeadLetterSummary>,
    places: HashMap<(String, String), usize>,
}

impl Folded {
    fn add(&mut self, letter: &DeadLetterSummary) {
        match self.places.entry(letter.original()) {
            hash_map::Entry::Occupied(place) => self.letters[*place.get()].copies.push(letter.id),
            hash_map::Entry::Vacant(place) => {
                place.insert(self.letters.len());
                self.letters.push(letter.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Fields;

    fn letter(ms: u64, original: &'static str) -> DeadLetterSummary {
        let mut fields = Fields::default();
        fields.push("original_stream", "orders_stream");
        fields.push("original_id", original);
        fields.push("attempts", "3");
        DeadLetterSummary::of(&Entry {
            id: StreamId { ms, seq: 0 },
            fields,
        })
    }

    #[test]
    fn copies_of_a_letter_are_one() {
        let mut list = Folded::default();
        for letter in [
            letter(9, "1-0"),
            letter(8, "2-0"),
            letter(7, "1-0"),
            letter(6, ""),
            letter(5, ""),
        ] {
            list.add(&letter);
        }
        let folded = list
            .letters
            .iter()
            .map(|letter| (letter.id.ms, letter.copies.len(), letter.origin));
        assert_eq!(
            Vec::from_iter(folded),
            [
                (9, 2, Origin::Worker),
                (8, 1, Origin::Worker),
                (6, 1, Origin::Door),
                (5, 1, Origin::Door)
            ]
        );
        assert_eq!(
            (list.letters[0].attempts, &*list.letters[0].error),
            (3, "no reason is given")
        );
    }
}

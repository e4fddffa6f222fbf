//! Dead letters to look at: a list, groups of the same cause, one laid open.
//!
//! Owns what a dead letter's fields mean. Invariant: a dead letter that was written more than once (it is written before the ack)
//! shows once, with the ids of all its copies.

use std::collections::hash_map;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::entry_view::{EntryContent, last_text, text};
use super::fingerprint::{fingerprint, pattern};
use super::pager::{Pager, only};
use super::{Operations, OperationsError};
use crate::stream::{Destination, Entry, Order, Range, StreamId};

/// Dead letters looked at in one call, and their bytes: bodies are most of them.
const LOOKED_AT: usize = 20_000;
/// See [`LOOKED_AT`].
const LOOKED_AT_BYTES: usize = 256 << 20;
/// Dead letters of one list at most.
const LIST: usize = 200;
/// Causes told apart; dead letters of further ones are only counted.
const CAUSES: usize = 500;

/// Where a dead letter was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// At the door: a delivery that cannot become an event.
    Door,
    /// By a worker: an entry that cannot be loaded.
    Worker,
}

/// A dead letter without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its id; of several copies in a list, the newest one's.
    pub id: StreamId,
    /// Ids of all copies that were seen, newest first.
    pub copies: Vec<StreamId>,
    /// Where it was written.
    pub origin: Origin,
    /// Why.
    pub error: String,
    /// Stands for the cause; equal for dead letters with the same one.
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

impl DeadLetter {
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
            // What the dead letter was given stands behind the entry's own.
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
    /// Only dead letters of the one cause whose fingerprint begins so.
    pub fingerprint: Option<String>,
    /// Only dead letters up to this id: the `next` of the page before.
    pub to: Option<StreamId>,
    /// Dead letters of one page, 1 to 200; 50 where it is not said.
    pub count: Option<usize>,
}

/// A page of dead letters, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// The dead letters.
    #[serde(rename = "letters")]
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters looked at for this page.
    pub looked_at: u64,
    /// Where the next page starts; null after the last.
    pub next: Option<StreamId>,
}

/// Dead letters of the same cause.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetterGroup {
    /// Stands for the cause.
    pub fingerprint: String,
    /// The error without what varies.
    pub pattern: String,
    /// How many.
    pub count: u64,
    /// The newest one.
    pub sample: DeadLetter,
    /// `failed_at` of the oldest.
    pub first_seen: Option<String>,
    /// `failed_at` of the newest.
    pub last_seen: Option<String>,
}

/// All causes, the most frequent first.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterGroups {
    /// The causes.
    pub groups: Vec<DeadLetterGroup>,
    /// Dead letters looked at, newest first.
    pub looked_at: u64,
    /// Whether that was all of them, and all their causes are here.
    pub complete: bool,
}

/// One dead letter laid open.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// What is known of it.
    #[serde(rename = "letter")]
    pub dead_letter: DeadLetter,
    /// Whether its entry still stands in the stream; null where it was none.
    pub entry_stands: Option<bool>,
    /// What it holds.
    pub content: EntryContent,
}

impl Operations {
    /// A page of dead letters, newest first. A dead letter and its copies are one where they stand on the same page.
    ///
    /// # Errors
    /// The fingerprint fits no cause or more than one, or the stream does not answer.
    pub async fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, OperationsError> {
        let _look = self.look().await?;
        let to = query.to.unwrap_or(StreamId::MAX);
        let wanted = match &query.fingerprint {
            Some(prefix) => Some(self.cause(prefix, StreamId::MAX).await?),
            None => None,
        };
        let mut list = List::of(query, wanted.as_deref());
        // One more than is shown: the last one is known to be the last then.
        let count = wanted.as_ref().map_or(list.count + 1, |_| usize::MAX);
        let mut pager = self.page_dead_letters(to, count);
        while let Some(page) = pager.page().await? {
            for entry in &page {
                if list.add(&DeadLetter::of(entry)) {
                    let is_last = pager.rest().is_none() && page.last().is_some_and(|last| last.id == entry.id);
                    return Ok(list.end(entry.id.predecessor().filter(|_| !is_last)));
                }
            }
        }
        Ok(list.end(pager.rest().map(|rest| rest.to)))
    }

    /// Dead letters by cause.
    ///
    /// # Errors
    /// The stream does not answer.
    pub async fn dead_letter_groups(&self) -> Result<DeadLetterGroups, OperationsError> {
        let _look = self.look().await?;
        let mut pager = self.page_dead_letters(StreamId::MAX, usize::MAX);
        let (mut looked_at, mut complete) = (0, true);
        let mut originals = HashSet::new();
        let mut groups: HashMap<String, DeadLetterGroup> = HashMap::new();
        while let Some(page) = pager.page().await? {
            looked_at += page.len() as u64;
            for dead_letter in page.iter().map(DeadLetter::of) {
                // Of a dead letter and its copies, the newest is counted.
                if originals.insert(dead_letter.original()) {
                    complete &= add(&mut groups, dead_letter);
                }
            }
        }
        let complete = complete && pager.is_at_end().await?;
        let mut groups = Vec::from_iter(groups.into_values());
        groups.sort_by(|a, b| b.count.cmp(&a.count).then(b.sample.id.cmp(&a.sample.id)));
        Ok(DeadLetterGroups {
            groups,
            looked_at,
            complete,
        })
    }

    /// The newest dead letters, up to `to`, in pages of `count`.
    pub(super) fn page_dead_letters(&self, to: StreamId, count: usize) -> Pager<'_> {
        let range = Range {
            to,
            ..Range::all(Destination::DeadLetters, Order::NewestFirst, count)
        };
        Pager::new(&*self.stream, range, LOOKED_AT).up_to_bytes(LOOKED_AT_BYTES)
    }

    /// One dead letter laid open, with the ids of its copies among the newest 20,000.
    ///
    /// # Errors
    /// There is none of that id, or the stream does not answer.
    pub async fn dead_letter(&self, id: StreamId) -> Result<DeadLetterView, OperationsError> {
        let page = self.stream.range(only(Destination::DeadLetters, id)).await?;
        let entry = page.entries.first().ok_or(OperationsError::NotFound("dead letter"))?;
        let mut dead_letter = DeadLetter::of(entry);
        if dead_letter.origin == Origin::Worker {
            let _look = self.look().await?;
            dead_letter.copies = self.copies(&dead_letter).await?;
        }
        Ok(DeadLetterView {
            entry_stands: self.entry_stands(&dead_letter).await?,
            dead_letter,
            content: EntryContent::of(entry, self.body_limit),
        })
    }

    /// Ids of that dead letter and of its copies among the newest ones, newest first.
    async fn copies(&self, of: &DeadLetter) -> Result<Vec<StreamId>, OperationsError> {
        let mut pager = self.page_dead_letters(StreamId::MAX, usize::MAX);
        let mut copies = Vec::new();
        while let Some(page) = pager.page().await? {
            let dead_letters = page.iter().filter(|entry| DeadLetter::of(entry).is_copy_of(of));
            copies.extend(dead_letters.map(|entry| entry.id));
        }
        // It may be older than all of those.
        if !copies.contains(&of.id) {
            copies.push(of.id);
        }
        Ok(copies)
    }

    /// A stream of another name may have an entry of the same id, of another event then.
    async fn entry_stands(&self, dead_letter: &DeadLetter) -> Result<Option<bool>, OperationsError> {
        let Some(id) = &dead_letter.original_id else {
            return Ok(None);
        };
        let Ok(id) = id.parse() else {
            return Ok(Some(false));
        };
        let found = self.stream.range(only(Destination::Stream, id)).await?.entries;
        Ok(Some(
            found
                .iter()
                .any(|entry| text(entry, "event_id") == dead_letter.event_id),
        ))
    }
}

/// Counts a dead letter for its cause; false where there are too many causes for one more. Dead letters come newest first.
fn add(groups: &mut HashMap<String, DeadLetterGroup>, dead_letter: DeadLetter) -> bool {
    if !groups.contains_key(&dead_letter.fingerprint) && groups.len() >= CAUSES {
        return false;
    }
    let failed_at = dead_letter.failed_at.clone();
    let group = groups
        .entry(dead_letter.fingerprint.clone())
        .or_insert_with(|| DeadLetterGroup {
            fingerprint: dead_letter.fingerprint.clone(),
            pattern: pattern(&dead_letter.error),
            count: 0,
            last_seen: dead_letter.failed_at.clone(),
            first_seen: None,
            sample: dead_letter,
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
    fn add(&mut self, dead_letter: &DeadLetter) -> bool {
        self.looked_at += 1;
        if self.wanted.is_none_or(|wanted| wanted == dead_letter.fingerprint) {
            self.found.add(dead_letter);
        }
        self.found.dead_letters.len() >= self.count
    }

    fn end(self, next: Option<StreamId>) -> DeadLetterPage {
        DeadLetterPage {
            dead_letters: self.found.dead_letters,
            looked_at: self.looked_at,
            next,
        }
    }
}

/// Dead letters, of which copies of the same are one.
#[derive(Default)]
struct Folded {
    dead_letters: Vec<DeadLetter>,
    places: HashMap<(String, String), usize>,
}

impl Folded {
    fn add(&mut self, dead_letter: &DeadLetter) {
        match self.places.entry(dead_letter.original()) {
            hash_map::Entry::Occupied(place) => self.dead_letters[*place.get()].copies.push(dead_letter.id),
            hash_map::Entry::Vacant(place) => {
                place.insert(self.dead_letters.len());
                self.dead_letters.push(dead_letter.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Fields;

    fn dead_letter(ms: u64, original: &'static str) -> DeadLetter {
        let mut fields = Fields::default();
        fields.push("original_stream", "orders_stream");
        fields.push("original_id", original);
        fields.push("attempts", "3");
        DeadLetter::of(&Entry {
            id: StreamId { ms, seq: 0 },
            fields,
        })
    }

    #[test]
    fn copies_of_a_letter_are_one() {
        let mut list = Folded::default();
        for dead_letter in [
            dead_letter(9, "1-0"),
            dead_letter(8, "2-0"),
            dead_letter(7, "1-0"),
            dead_letter(6, ""),
            dead_letter(5, ""),
        ] {
            list.add(&dead_letter);
        }
        let folded = list
            .dead_letters
            .iter()
            .map(|dead_letter| (dead_letter.id.ms, dead_letter.copies.len(), dead_letter.origin));
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
            (list.dead_letters[0].attempts, &*list.dead_letters[0].error),
            (3, "no reason is given")
        );
    }
}

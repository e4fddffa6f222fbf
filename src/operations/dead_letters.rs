//! Dead letters as an operator reads them: pages, groups of one cause, one in full.
//!
//! A cause is the fingerprint of an error, named by as many of its first digits as are unique.
//! Invariants: a dead letter that was written more than once (it is written before the ack) is one,
//! with the ids of all its copies; a cause is acted upon only where what names it fits no other.

use std::collections::{HashMap, HashSet, hash_map};

use serde::{Deserialize, Serialize};

use super::api::{Carrier, Operation};
use super::context::{Operations, OperationsError};
use super::entry_view::{EntryContent, last_text, text};
use super::fingerprint::{FINGERPRINT_DIGITS, fingerprint, pattern};
use super::pager::{Pager, only};
use crate::stream::{Destination, Entry, Range, ReadOrder, StreamId};

/// Dead letters read in one call, and their bytes: bodies are most of them.
const MAX_READ: usize = 20_000;
/// See [`MAX_READ`].
const MAX_READ_BYTES: usize = 256 << 20;
/// Dead letters of one page at most.
const MAX_PAGE: usize = 200;
/// Causes that are distinguished; dead letters of further ones are only counted.
const MAX_CAUSES: usize = 500;

/// Which part of the service wrote a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The intake: a delivery that cannot become an event.
    Door,
    /// A worker: an entry that cannot be loaded.
    Worker,
}

/// A dead letter without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterSummary {
    /// Its id; of several copies in a page, the newest one's.
    pub id: StreamId,
    /// Ids of all copies that were found, newest first.
    pub copies: Vec<StreamId>,
    /// Which part of the service wrote it.
    pub origin: Origin,
    /// Why.
    pub error: String,
    /// Identifies the cause; equal for dead letters with the same one.
    pub fingerprint: String,
    /// When it failed, RFC 3339.
    pub failed_at: Option<String>,
    /// Attempts made.
    pub attempts: u64,
    /// The consumer that made the last attempt.
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
    /// Stream that its entry was in.
    pub original_stream: Option<String>,
    /// Id of its entry.
    pub original_id: Option<String>,
}

/// Asks for a page of dead letters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeadLetterQuery {
    /// Only dead letters of the one cause whose fingerprint begins with this.
    pub fingerprint: Option<String>,
    /// Only dead letters up to this id: the `next` of the page before.
    pub to: Option<StreamId>,
    /// Dead letters of one page, 1 to 200; 50 by default.
    pub count: Option<usize>,
}

/// A page of dead letters, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// The dead letters.
    #[serde(rename = "letters")]
    pub dead_letters: Vec<DeadLetterSummary>,
    /// Dead letters read for this page.
    pub looked_at: u64,
    /// Where the next page starts; null after the last.
    pub next: Option<StreamId>,
}

/// Asks for dead letters by cause.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GroupDeadLetters {}

/// Dead letters of one cause.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetterGroup {
    /// Identifies the cause.
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
pub struct DeadLetterGroups {
    /// The causes.
    pub groups: Vec<DeadLetterGroup>,
    /// Dead letters read, newest first.
    pub looked_at: u64,
    /// Whether that was all of them, and all their causes are listed.
    pub complete: bool,
}

/// Asks for one dead letter in full.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetDeadLetter {
    /// Its id.
    pub id: StreamId,
}

/// One dead letter in full.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// What is known of it; its copies are those among the newest 20,000.
    #[serde(rename = "letter")]
    pub dead_letter: DeadLetterSummary,
    /// Whether its entry is still in the stream; null where it was never an entry.
    pub entry_stands: Option<bool>,
    /// Its fields, event and body.
    pub content: EntryContent,
}

impl DeadLetterSummary {
    pub(super) fn of(entry: &Entry) -> Self {
        let error = text(entry, "error").unwrap_or_else(|| "no reason is given".to_owned());
        let original_id = text(entry, "original_id");
        let attempts = text(entry, "attempts").and_then(|count| count.parse().ok());
        Self {
            id: entry.id,
            copies: vec![entry.id],
            origin: match original_id {
                Some(_) => Origin::Worker,
                None => Origin::Door,
            },
            fingerprint: fingerprint(&error),
            error,
            failed_at: text(entry, "failed_at"),
            attempts: attempts.unwrap_or_default(),
            consumer: text(entry, "consumer"),
            event_type: text(entry, "event_type"),
            event_id: text(entry, "event_id"),
            // The dead letter's own fields come after the entry's, which may have the same names.
            order_id: last_text(entry, "order_id"),
            shop: last_text(entry, "shop"),
            topic: text(entry, "topic"),
            original_stream: text(entry, "original_stream"),
            original_id,
        }
    }

    /// Stream and id of the entry that all copies came from; a quarantined delivery has only its
    /// own id.
    pub(super) fn original(&self) -> (String, String) {
        match &self.original_id {
            Some(id) => (self.original_stream.clone().unwrap_or_default(), id.clone()),
            None => (String::new(), self.id.to_string()),
        }
    }
}

impl Operation for DeadLetterQuery {
    type Answer = DeadLetterPage;
    const PATH: &'static str = "/api/dead-letters";

    /// A dead letter and its copies are one where they are on the same page.
    async fn run(self, operations: &Operations) -> Result<DeadLetterPage, OperationsError> {
        let _permit = operations.read_permit().await?;
        let cause = match &self.fingerprint {
            Some(prefix) => Some(operations.cause(prefix, StreamId::MAX).await?),
            None => None,
        };
        let count = self.count.unwrap_or(50).clamp(1, MAX_PAGE);
        // One more than is shown, so that the last page is known to be the last.
        let page_size = cause.as_ref().map_or(count + 1, |_| usize::MAX);
        let mut pager = operations.page_dead_letters(self.to.unwrap_or(StreamId::MAX), page_size);
        let (mut found, mut looked_at) = (Folded::default(), 0);
        while found.dead_letters.len() < count {
            let Some(entry) = pager.next().await? else { break };
            looked_at += 1;
            let dead_letter = DeadLetterSummary::of(&entry);
            if cause.as_ref().is_none_or(|cause| *cause == dead_letter.fingerprint) {
                found.add(dead_letter);
            }
        }
        Ok(DeadLetterPage {
            dead_letters: found.dead_letters,
            looked_at,
            next: pager.next_id(),
        })
    }
}

impl Operation for GroupDeadLetters {
    type Answer = DeadLetterGroups;
    const PATH: &'static str = "/api/dead-letters/groups";

    async fn run(self, operations: &Operations) -> Result<DeadLetterGroups, OperationsError> {
        let _permit = operations.read_permit().await?;
        let mut pager = operations.page_dead_letters(StreamId::MAX, usize::MAX);
        let (mut looked_at, mut complete) = (0, true);
        let mut originals = HashSet::new();
        let mut groups: HashMap<String, DeadLetterGroup> = HashMap::new();
        while let Some(entry) = pager.next().await? {
            looked_at += 1;
            let dead_letter = DeadLetterSummary::of(&entry);
            // Of a dead letter and its copies, the newest is counted.
            if originals.insert(dead_letter.original()) {
                complete &= count(&mut groups, dead_letter);
            }
        }
        let mut groups = Vec::from_iter(groups.into_values());
        groups.sort_by(|a, b| b.count.cmp(&a.count).then(b.sample.id.cmp(&a.sample.id)));
        Ok(DeadLetterGroups {
            groups,
            looked_at,
            complete: complete && pager.is_at_end().await?,
        })
    }
}

impl Operation for GetDeadLetter {
    type Answer = DeadLetterView;
    const PATH: &'static str = "/api/dead-letters/{id}";
    const CARRIER: Carrier = Carrier::Path;

    async fn run(self, operations: &Operations) -> Result<DeadLetterView, OperationsError> {
        let page = operations.stream.range(only(Destination::DeadLetters, self.id)).await?;
        let entry = page.entries.first().ok_or(OperationsError::NotFound("dead letter"))?;
        let mut dead_letter = DeadLetterSummary::of(entry);
        if dead_letter.origin == Origin::Worker {
            let _permit = operations.read_permit().await?;
            dead_letter.copies = operations.copies(&dead_letter).await?;
        }
        // Of a further partition, as `/api/events` takes it.
        let far = operations.original_entry(&dead_letter).filter(|id| id.part > 0);
        dead_letter.original_id = far.map(|id| id.to_string()).or(dead_letter.original_id);
        Ok(DeadLetterView {
            entry_stands: operations.entry_stands(&dead_letter).await?,
            dead_letter,
            content: EntryContent::of(entry, operations.body_limit),
        })
    }
}

impl DeadLetterGroups {
    /// How many dead letters have the cause whose fingerprint begins with `prefix`; of every cause
    /// without one.
    ///
    /// # Errors
    /// The prefix fits no cause, or more than one. Where not all causes are listed, one that fits
    /// none has 0.
    pub fn count(&self, prefix: Option<&str>) -> Result<u64, OperationsError> {
        let fits = |group: &&DeadLetterGroup| prefix.is_none_or(|prefix| group.fingerprint.starts_with(prefix));
        let counts = Vec::from_iter(self.groups.iter().filter(fits).map(|group| group.count));
        match (prefix, counts.len()) {
            (Some(_), 0) if self.complete => Err(OperationsError::NoSuchCause),
            (Some(_), 2..) => Err(OperationsError::AmbiguousCause),
            _ => Ok(counts.iter().sum()),
        }
    }
}

impl Operations {
    /// The newest dead letters, up to `to`, in pages of `page_size`.
    pub(super) fn page_dead_letters(&self, to: StreamId, page_size: usize) -> Pager<'_> {
        let range = Range {
            to,
            ..Range::all(Destination::DeadLetters, ReadOrder::NewestFirst, page_size)
        };
        Pager::new(&*self.stream, range, MAX_READ).with_max_bytes(MAX_READ_BYTES)
    }

    /// The fingerprint that begins with `prefix`, among the newest dead letters up to `to`. Where
    /// there are more dead letters than are read, a whole fingerprint is taken as it is.
    ///
    /// # Errors
    /// The prefix fits no cause, or more than one; or the stream does not answer.
    pub(super) async fn cause(&self, prefix: &str, to: StreamId) -> Result<String, OperationsError> {
        if prefix.is_empty() {
            return Err(OperationsError::NoSuchCause);
        }
        let mut pager = self.page_dead_letters(to, usize::MAX);
        let mut found: Option<String> = None;
        while let Some(entry) = pager.next().await? {
            let fingerprint = DeadLetterSummary::of(&entry).fingerprint;
            if fingerprint == prefix {
                return Ok(fingerprint);
            }
            if fingerprint.starts_with(prefix) {
                if found.as_ref().is_some_and(|found| *found != fingerprint) {
                    return Err(OperationsError::AmbiguousCause);
                }
                found = Some(fingerprint);
            }
        }
        let is_whole = prefix.len() == FINGERPRINT_DIGITS;
        match found {
            Some(found) => Ok(found),
            None if is_whole && !pager.is_at_end().await? => Ok(prefix.to_owned()),
            None => Err(OperationsError::NoSuchCause),
        }
    }

    /// Ids of that dead letter and of its copies among the newest ones, newest first.
    async fn copies(&self, of: &DeadLetterSummary) -> Result<Vec<StreamId>, OperationsError> {
        let mut pager = self.page_dead_letters(StreamId::MAX, usize::MAX);
        let mut copies = Vec::new();
        while let Some(entry) = pager.next().await? {
            if entry.id == of.id || DeadLetterSummary::of(&entry).original() == of.original() {
                copies.push(entry.id);
            }
        }
        // It may be older than all of those.
        if !copies.contains(&of.id) {
            copies.push(of.id);
        }
        Ok(copies)
    }

    /// The entry that a dead letter came from.
    pub(super) fn original_entry(&self, dead_letter: &DeadLetterSummary) -> Option<StreamId> {
        let log = dead_letter.original_stream.as_deref().unwrap_or_default();
        let id: StreamId = dead_letter.original_id.as_deref()?.parse().ok()?;
        Some(id.with_part(self.stream.partition_named(log)))
    }

    /// A stream of another name may have an entry of the same id, of another event then.
    async fn entry_stands(&self, dead_letter: &DeadLetterSummary) -> Result<Option<bool>, OperationsError> {
        let Some(id) = self.original_entry(dead_letter) else {
            return Ok(dead_letter.original_id.as_ref().map(|_| false));
        };
        let found = self.stream.range(only(Destination::Stream, id)).await?.entries;
        let is_it = |entry: &Entry| text(entry, "event_id") == dead_letter.event_id;
        Ok(Some(found.iter().any(is_it)))
    }
}

/// Counts a dead letter for its cause; false where there are too many causes for one more. They
/// come newest first.
fn count(groups: &mut HashMap<String, DeadLetterGroup>, dead_letter: DeadLetterSummary) -> bool {
    if !groups.contains_key(&dead_letter.fingerprint) && groups.len() >= MAX_CAUSES {
        return false;
    }
    let failed_at = dead_letter.failed_at.clone();
    let cause = dead_letter.fingerprint.clone();
    let group = groups.entry(cause).or_insert_with(|| DeadLetterGroup {
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

/// Dead letters, of which copies of the same are one.
#[derive(Default)]
struct Folded {
    dead_letters: Vec<DeadLetterSummary>,
    places: HashMap<(String, String), usize>,
}

impl Folded {
    fn add(&mut self, dead_letter: DeadLetterSummary) {
        match self.places.entry(dead_letter.original()) {
            hash_map::Entry::Occupied(place) => self.dead_letters[*place.get()].copies.push(dead_letter.id),
            hash_map::Entry::Vacant(place) => {
                place.insert(self.dead_letters.len());
                self.dead_letters.push(dead_letter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Fields;

    fn dead_letter(ms: u64, original: &'static str) -> DeadLetterSummary {
        let mut fields = Fields::default();
        fields.push("original_stream", "orders_stream");
        fields.push("original_id", original);
        fields.push("attempts", "3");
        DeadLetterSummary::of(&Entry {
            id: StreamId::new(ms, 0),
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
            list.add(dead_letter);
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

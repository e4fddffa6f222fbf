//! A trace's search through the stream: entries, how far each group came with them, and dead
//! letters.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::dead_letters::{DeadLetterFilter, shop};
use super::search::{Search, entry_of, key};
use super::timeline::TimelineEvent;
use crate::operations::context::{Operations, OperationsError};
use crate::operations::dead_letters::DeadLetterSummary;
use crate::operations::events::{EntrySummary, GroupProgress, appended_at};
use crate::operations::pager::{Pager, only};
use crate::stream::{Destination, Range, ReadOrder, StreamId};

/// Entries of the stream read, from its newest on.
const MAX_ENTRIES: usize = 5_000;
/// Entries shown beside one for each event that was found elsewhere.
const MAX_FURTHER: usize = 200;
/// Events whose entries are looked up one by one, beyond those that the search found.
const MAX_LOOKUPS: usize = 50;
/// Dead letters decoded however long it takes, and further ones for [`DECODE_TIME`].
const MIN_DECODED: usize = 100;
/// See [`MIN_DECODED`].
const DECODE_TIME: Duration = Duration::from_millis(150);

impl Operations {
    pub(super) async fn search_stream(&self, search: &mut Search<'_>) -> Result<(), OperationsError> {
        self.search_entries(search).await?;
        self.find_entries(search).await?;
        self.search_dead_letters(search).await
    }

    async fn search_entries(&self, search: &mut Search<'_>) -> Result<(), OperationsError> {
        let range = Range::all(Destination::Stream, ReadOrder::NewestFirst, usize::MAX);
        let mut pager = Pager::new(&*self.stream, range, MAX_ENTRIES);
        let (mut further, mut has_more) = (0, false);
        while let Some(entry) = pager.next().await? {
            search.trace.entries_looked_at += 1;
            search.trace.looked_back_to = appended_at(entry.id).or(search.trace.looked_back_to.take());
            let Some(found) = entry_of(&entry, &search.orders).filter(|found| search.is_of_shop(found.shop.as_ref()))
            else {
                continue;
            };
            // The newest entry of each event that was found elsewhere is shown in any case.
            let known = search.events.get(&key(&found));
            if known.is_none_or(|known| !known.entries.is_empty()) {
                if further >= MAX_FURTHER {
                    has_more = true;
                    continue;
                }
                further += 1;
            }
            search.event_of(&found).entries.push((found, Vec::new()));
        }
        if has_more {
            search.unknown(format!(
                "Of the entries beside one for each loaded event shown, only the newest {MAX_FURTHER} are shown."
            ));
        }
        if pager.rest().is_some() {
            let count = search.trace.entries_looked_at;
            search.unknown(format!(
                "Only the newest {count} entries of the stream were read; older ones show where they were loaded."
            ));
        }
        Ok(())
    }

    /// Whether the entries of loaded events are still in the stream, and how far each group came
    /// with those that are.
    async fn find_entries(&self, search: &mut Search<'_>) -> Result<(), OperationsError> {
        let mut lookups = MAX_LOOKUPS;
        for known in search.events.values_mut() {
            if let (Some(id), Some(left)) = (known.loaded_from(), lookups.checked_sub(1)) {
                lookups = left;
                let page = self.stream.range(only(Destination::Stream, id)).await?;
                let found = page.entries.first().map(EntrySummary::of);
                known.is_gone = found.is_none();
                known.entries.extend(found.map(|entry| (entry, Vec::new())));
            }
            for (entry, groups) in &mut known.entries {
                let found = self.stream.entry_states(entry.id).await?;
                *groups = found.into_iter().map(GroupProgress::from).collect();
            }
        }
        Ok(())
    }

    async fn search_dead_letters(&self, search: &mut Search<'_>) -> Result<(), OperationsError> {
        let mut filter = DeadLetterFilter::new(&search.orders, self.body_limit);
        let (mut decoded, mut skipped, mut spent) = (0, 0_u64, Duration::ZERO);
        let mut originals = HashSet::new();
        let mut pager = self.page_dead_letters(StreamId::MAX, usize::MAX);
        while let Some(entry) = pager.next().await? {
            let trace = &mut search.trace;
            trace.letters_looked_at += 1;
            trace.letters_looked_back_to = appended_at(entry.id).or(trace.letters_looked_back_to.take());
            let is_about = match filter.by_id(&entry) {
                Some(is_about) => is_about,
                None if decoded >= MIN_DECODED && spent >= DECODE_TIME => {
                    skipped += 1;
                    false
                }
                None => {
                    let began = Instant::now();
                    let is_about = filter.by_content(&entry);
                    (decoded, spent) = (decoded + 1, spent + began.elapsed());
                    is_about
                }
            };
            if is_about && search.is_of_shop(shop(&entry).as_ref()) {
                let dead_letter = DeadLetterSummary::of(&entry);
                // Of a dead letter and its copies, the newest is shown.
                if originals.insert(dead_letter.original()) {
                    search.trace.timeline.push(TimelineEvent::of_dead_letter(dead_letter));
                }
            }
        }
        let count = search.trace.letters_looked_at;
        if !pager.is_at_end().await? {
            search.unknown(format!(
                "Only the newest {count} dead letters were read; an older one may be about this order."
            ));
        }
        if skipped > 0 {
            search.unknown(format!(
                "{skipped} of the {count} dead letters were not decoded: their order_id is missing, or is not the name \
                 that was asked for. Ask by the order's id, or read `dead-letters list`."
            ));
        }
        Ok(())
    }
}

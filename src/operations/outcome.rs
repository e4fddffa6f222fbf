//! What became of entries that our group has settled: loaded, or dead-lettered.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::context::{Operations, OperationsError};
use super::dead_letters::DeadLetterSummary;
use super::entry_view::has_nul;
use super::events::EntrySummary;
use super::pager::Pager;
use crate::stream::{Destination, Range, ReadOrder, StreamId};

/// Dead letters that are searched for the entries of a page.
const DEAD_LETTERS: usize = 1_000;

/// What became of an entry that our group has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryOutcome {
    /// The warehouse has its event.
    Loaded,
    /// It is among the newest 1,000 dead letters.
    DeadLettered,
}

impl Operations {
    /// What became of those that our group has settled. Newest first, as they are listed.
    pub(super) async fn find_outcomes(&self, entries: &mut [EntrySummary]) -> Result<(), OperationsError> {
        let is_settled = |entry: &&mut EntrySummary| entry.state.as_ref().is_some_and(|state| state.stage == "settled");
        let mut settled = Vec::from_iter(entries.iter_mut().filter(is_settled));
        let Some(oldest) = settled.last().map(|entry| entry.id) else {
            return Ok(());
        };
        let dead_letters = self.dead_lettered_since(oldest).await?;
        let ids = settled.iter().filter_map(|entry| entry.event_id.clone());
        let ids = Vec::from_iter(ids.filter(|id| !has_nul(id)));
        let loaded = match &self.warehouse {
            Some(warehouse) => warehouse.loaded(&ids).await,
            None => Ok(Vec::new()),
        };
        let loaded = loaded.inspect_err(|error| tracing::warn!(%error, "whether entries were loaded is unknown"));
        let loaded = HashSet::<String>::from_iter(loaded.unwrap_or_default());
        for entry in &mut settled {
            let is_loaded = entry.event_id.as_ref().is_some_and(|id| loaded.contains(id));
            entry.outcome = match dead_letters.contains(&entry.id) {
                true => Some(EntryOutcome::DeadLettered),
                false => is_loaded.then_some(EntryOutcome::Loaded),
            };
        }
        Ok(())
    }

    /// The entries from that one on that became one of the newest dead letters.
    async fn dead_lettered_since(&self, oldest: StreamId) -> Result<HashSet<StreamId>, OperationsError> {
        let range = Range {
            // Its id is no older: it was written later, by the clock of the same store.
            from: StreamId::new(oldest.ms, 0),
            ..Range::all(Destination::DeadLetters, ReadOrder::NewestFirst, DEAD_LETTERS)
        };
        let mut pager = Pager::new(&*self.stream, range, DEAD_LETTERS);
        let mut entries = HashSet::new();
        while let Some(entry) = pager.next().await? {
            entries.extend(self.original_entry(&DeadLetterSummary::of(&entry)));
        }
        Ok(entries)
    }
}

//! A trace's search through the spool of this node, from its newest event on.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::dead_letters::DeadLetterFilter;
use super::search::{Search, entry_of};
use super::timeline::TimelineEvent;
use crate::ingest::{SpoolReader, SpooledEntry};
use crate::operations::context::{Operations, OperationsError};
use crate::operations::dead_letters::DeadLetterSummary;
use crate::operations::events::{EntrySummary, appended_at};
use crate::stream::Destination;

/// Events read: after a long outage there are more.
const MAX_READ: u64 = 20_000;
/// Events read however long it takes, and further ones for [`READ_TIME`].
const MIN_READ: u64 = 1_000;
/// See [`MIN_READ`].
const READ_TIME: Duration = Duration::from_millis(150);
/// Events of one order.
const MAX_FOUND: usize = 200;

/// A search under way, which runs on a thread of the spool's own.
struct SpoolSearch {
    orders: Vec<String>,
    shop: Option<String>,
    filter: DeadLetterFilter,
    began: Instant,
    looked_at: u64,
    looked_back_to: Option<String>,
    entries: Vec<EntrySummary>,
    dead_letters: Vec<DeadLetterSummary>,
    is_cut_short: bool,
}

impl Operations {
    pub(super) async fn search_spool(
        &self,
        spool: &SpoolReader,
        search: &mut Search<'_>,
    ) -> Result<(), OperationsError> {
        let started = SpoolSearch {
            orders: search.orders.clone(),
            shop: search.query.shop.clone(),
            filter: DeadLetterFilter::new(&search.orders, self.body_limit),
            began: Instant::now(),
            looked_at: 0,
            looked_back_to: None,
            entries: Vec::new(),
            dead_letters: Vec::new(),
            is_cut_short: false,
        };
        let found = spool.scan(started, SpoolSearch::read).await?;
        search.trace.spooled_looked_at = Some(found.looked_at);
        search.trace.spooled_looked_back_to = found.looked_back_to;
        for entry in found.entries {
            search.event_of(&entry).spooled.push(entry);
        }
        let quarantined = found
            .dead_letters
            .into_iter()
            .map(TimelineEvent::of_spooled_dead_letter);
        search.trace.timeline.extend(quarantined);
        if found.is_cut_short {
            let count = found.looked_at;
            search.unknown(format!(
                "Only the newest {count} events of the spool were read; an older one may be about this order."
            ));
        }
        Ok(())
    }
}

impl SpoolSearch {
    fn read(&mut self, SpooledEntry { destination, entry }: SpooledEntry) -> ControlFlow<()> {
        let is_late = self.looked_at >= MIN_READ && self.began.elapsed() >= READ_TIME;
        if is_late || self.looked_at >= MAX_READ || self.entries.len() + self.dead_letters.len() >= MAX_FOUND {
            self.is_cut_short = true;
            return ControlFlow::Break(());
        }
        self.looked_at += 1;
        self.looked_back_to = appended_at(entry.id);
        let is_of_shop = |shop: &Option<String>| self.shop.is_none() || self.shop == *shop;
        match destination {
            Destination::Stream => {
                let found = entry_of(&entry, &self.orders).filter(|found| is_of_shop(&found.shop));
                self.entries.extend(found);
            }
            Destination::DeadLetters if self.filter.is_about(&entry) => {
                let found = Some(DeadLetterSummary::of(&entry)).filter(|found| is_of_shop(&found.shop));
                self.dead_letters.extend(found);
            }
            Destination::DeadLetters => {}
        }
        ControlFlow::Continue(())
    }
}

//! What the spool of this node holds of an order.
//!
//! Owns how far it is looked into.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::dead_letters::DeadLetterFilter;
use super::timeline::{KnownEvent, from_spooled};
use super::{Trace, TraceQuery, is_of_any};
use crate::ingest::{SpoolReader, SpooledEntry};
use crate::operations::dead_letters::DeadLetter;
use crate::operations::events::{EntrySummary, appended_at};
use crate::operations::{Operations, OperationsError};
use crate::stream::Destination;

/// Events of the spool looked at, from its newest on: after a long outage there are more.
const MOST: u64 = 20_000;
/// So many of them however long it takes, and further ones for [`TIME`].
const AT_LEAST: u64 = 1_000;
/// See [`AT_LEAST`].
const TIME: Duration = Duration::from_millis(150);
/// Events of one order.
const FOUND: usize = 200;

/// A look, and what it found.
struct Look {
    orders: Vec<String>,
    shop: Option<String>,
    filter: DeadLetterFilter,
    began: Instant,
    looked_at: u64,
    looked_back_to: Option<String>,
    entries: Vec<EntrySummary>,
    dead_letters: Vec<DeadLetter>,
    is_cut_short: bool,
}

impl Operations {
    pub(super) async fn search_spool(
        &self,
        spool: &SpoolReader,
        query: &TraceQuery,
        wanted: &[String],
        trace: &mut Trace,
        events: &mut BTreeMap<String, KnownEvent>,
    ) -> Result<(), OperationsError> {
        let look = Look {
            orders: wanted.to_vec(),
            shop: query.shop.clone(),
            filter: DeadLetterFilter::new(wanted, self.body_limit),
            began: Instant::now(),
            looked_at: 0,
            looked_back_to: None,
            entries: Vec::new(),
            dead_letters: Vec::new(),
            is_cut_short: false,
        };
        let look = spool.scan(look, Look::at).await?;
        trace.spooled_looked_at = Some(look.looked_at);
        trace.spooled_looked_back_to = look.looked_back_to;
        for line in look.entries {
            let id = line.event_id.clone().unwrap_or_else(|| line.id.to_string());
            events.entry(id).or_default().spooled.push(line);
        }
        trace.moments.extend(look.dead_letters.into_iter().map(from_spooled));
        if look.is_cut_short {
            trace.unknown.push(format!(
                "Only the newest {} events of the spool were looked through; an older one may be about this order.",
                look.looked_at
            ));
        }
        Ok(())
    }
}

impl Look {
    fn at(&mut self, SpooledEntry { destination, entry }: SpooledEntry) -> ControlFlow<()> {
        let took_its_time = self.looked_at >= AT_LEAST && self.began.elapsed() >= TIME;
        if took_its_time || self.looked_at >= MOST || self.entries.len() + self.dead_letters.len() >= FOUND {
            self.is_cut_short = true;
            return ControlFlow::Break(());
        }
        self.looked_at += 1;
        self.looked_back_to = appended_at(entry.id);
        let is_of_shop = |shop: &Option<String>| self.shop.is_none() || self.shop == *shop;
        match destination {
            Destination::Stream => {
                let line = is_of_any(&entry, &self.orders).filter(|line| is_of_shop(&line.shop));
                self.entries.extend(line);
            }
            Destination::DeadLetters if self.filter.is_about(&entry) => {
                let dead_letter = Some(DeadLetter::of(&entry)).filter(|dead_letter| is_of_shop(&dead_letter.shop));
                self.dead_letters.extend(dead_letter);
            }
            Destination::DeadLetters => {}
        }
        ControlFlow::Continue(())
    }
}

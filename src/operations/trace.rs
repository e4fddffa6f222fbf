//! One order from webhook to row: what stream, spool, dead letters and warehouse retain of it, as
//! one timeline.
//!
//! Invariants: every search is bounded, and the answer says how far it went and what it cannot
//! know; a store that does not answer costs only what it knows; nothing personal is answered.

mod dead_letters;
mod search;
mod spool;
mod stream;
mod timeline;
mod warehouse;

pub use self::search::{Trace, TraceQuery};
pub use self::timeline::{TimelineEvent, TimelineStep};

use self::search::Search;
use super::api::Operation;
use super::context::Operations;
use super::entry_view::has_nul;
use super::error::OperationsError;

impl Operation for TraceQuery {
    type Answer = Trace;
    const PATH: &'static str = "/api/trace";

    async fn run(self, operations: &Operations) -> Result<Trace, OperationsError> {
        if self.order.trim().is_empty() || has_nul(&self.order) || self.shop.as_deref().is_some_and(has_nul) {
            return Err(OperationsError::Invalid("give the id of an order, or its name"));
        }
        let _permit = operations.read_permit().await?;
        let mut search = Search::new(&self);
        let mut stores = AskedStores::default();
        if operations.warehouse.is_some() {
            let found = operations.search_warehouse(&mut search).await;
            let lacks = "The warehouse does not answer, so whether anything was loaded is not known";
            stores.asked(found, lacks, &mut search);
        } else {
            search.unknown("This process has no warehouse: whether anything was loaded is not known.");
        }
        // Before the stream: what the drainer moves meanwhile is found twice then, and not missed.
        if let Some(spool) = &operations.spool {
            let found = operations.search_spool(spool, &mut search).await;
            stores.asked(found, "The spool of this node cannot be read", &mut search);
        }
        let found = operations.search_stream(&mut search).await;
        let lacks = "The stream does not answer, so what it and the dead letters hold is not known";
        stores.asked(found, lacks, &mut search);
        stores.one_answered()?;
        search.unknown("Deliveries that were refused, or answered as duplicates, leave no trace.");
        search.unknown(match operations.spool {
            Some(_) => "Only the spool of this node was read: events that another node spooled show once they are in the stream.",
            None => "This node has no spool to read: events that another node spooled show once they are in the stream.",
        });
        Ok(search.finish())
    }
}

/// Whether any of the stores that were asked answered.
#[derive(Default)]
struct AskedStores {
    answered: bool,
    failure: Option<OperationsError>,
}

impl AskedStores {
    fn asked(&mut self, found: Result<(), OperationsError>, lacks: &str, search: &mut Search<'_>) {
        match found {
            Ok(()) => self.answered = true,
            Err(error) => {
                search.unknown(format!("{lacks}: {error}."));
                self.failure.get_or_insert(error);
            }
        }
    }

    /// # Errors
    /// None answered; the first failure.
    fn one_answered(self) -> Result<(), OperationsError> {
        match self.failure {
            Some(error) if !self.answered => Err(error),
            _ => Ok(()),
        }
    }
}

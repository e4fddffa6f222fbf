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
use super::context::{Operations, OperationsError};
use super::entry_view::has_nul;

impl Operation for TraceQuery {
    type Answer = Trace;
    const PATH: &'static str = "/api/trace";

    async fn run(self, operations: &Operations) -> Result<Trace, OperationsError> {
        if self.order.trim().is_empty() || has_nul(&self.order) || self.shop.as_deref().is_some_and(has_nul) {
            return Err(OperationsError::Invalid("give the id of an order, or its name"));
        }
        let _permit = operations.read_permit().await?;
        let mut search = Search::new(&self);
        let mut asked = Vec::new();
        if operations.warehouse.is_some() {
            let lacks = "The warehouse does not answer, so whether anything was loaded is not known";
            asked.push((operations.search_warehouse(&mut search).await, lacks));
        } else {
            search.unknown("This process has no warehouse: whether anything was loaded is not known.");
        }
        // Before the stream: what the drainer moves meanwhile is found twice then, and not missed.
        if let Some(spool) = &operations.spool {
            let found = operations.search_spool(spool, &mut search).await;
            asked.push((found, "The spool of this node cannot be read"));
        }
        let lacks = "The stream does not answer, so what it and the dead letters hold is not known";
        asked.push((operations.search_stream(&mut search).await, lacks));
        let one_answers = asked.iter().any(|(found, _)| found.is_ok());
        for (found, lacks) in asked {
            match found {
                Err(error) if one_answers => search.unknown(format!("{lacks}: {error}.")),
                found => found?,
            }
        }
        search.unknown("Deliveries that were refused, or answered as duplicates, leave no trace.");
        search.unknown(match operations.spool {
            Some(_) => {
                "Only the spool of this node was read: events that another node spooled show once they are in the \
                 stream."
            }
            None => {
                "This node has no spool to read: events that another node spooled show once they are in the stream."
            }
        });
        Ok(search.finish())
    }
}

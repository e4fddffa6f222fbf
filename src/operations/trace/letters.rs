//! Dead letters about one order.
//!
//! What is remembered of all letters tells which of them may be; those are looked into.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::way::buried;
use super::{Trace, TraceQuery, is_about};
use crate::operations::dead_letters::Letter;
use crate::operations::events::moment;
use crate::operations::walk::only;
use crate::operations::{Operations, OperationsError};
use crate::stream::Destination;
use crate::stream::codec::Unpacker;

/// Letters looked into however long it takes, and further ones for [`TIME`]: nearly always that is all that may be about
/// the order.
const AT_LEAST: usize = 100;
/// See [`AT_LEAST`].
const TIME: Duration = Duration::from_millis(150);

impl Operations {
    pub(super) async fn look_through_letters(
        &self,
        query: &TraceQuery,
        wanted: &[String],
        trace: &mut Trace,
    ) -> Result<(), OperationsError> {
        let known = self.known_letters().await?;
        let naming = known.naming(wanted);
        trace.letters_looked_at = known.letters().len() as u64;
        trace.letters_looked_back_to = known.letters().last().and_then(|oldest| moment(oldest.id));
        let mut complete = known.is_complete();
        drop(known);
        let mut unpacker = Unpacker::default();
        let since = Instant::now();
        let mut told = HashSet::new();
        for (at, (newer, id)) in naming.into_iter().enumerate() {
            if at >= AT_LEAST && since.elapsed() >= TIME {
                trace.letters_looked_at = newer as u64;
                trace.letters_looked_back_to = moment(id);
                complete = false;
                break;
            }
            for letter in self.stream.range(only(Destination::DeadLetters, id)).await?.entries {
                let known = Letter::of(&letter);
                let is_of_shop = query.shop.is_none() || query.shop == known.shop;
                let is_of_order = is_of_shop && is_about(&letter, wanted, &mut unpacker, self.body_limit);
                // Of a letter and its copies, the newest is told.
                if is_of_order && told.insert(known.original()) {
                    trace.moments.push(buried(known));
                }
            }
        }
        if !complete {
            let count = trace.letters_looked_at;
            trace.unknown.push(format!(
                "Only the newest {count} dead letters were looked through; an older one may be about this order."
            ));
        }
        Ok(())
    }
}

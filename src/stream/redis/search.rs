//! The search of the stream's tail for entries whose append was given up with an unknown outcome.

use std::collections::HashMap;

use bytes::Bytes;

use super::pages;
use super::server::Server;
use crate::stream::{Destination, Fields, NewEntry, PAGE, Range, ReadOrder, StreamError, StreamId};

/// Entries that are looked at; what stands behind them is not found, and is appended again.
const MOST: usize = 20_000;

/// How far a reservation's time, which its writer estimated, may be ahead of the server's clock.
const CLOCK_ERROR_MS: u64 = 50;

/// Those of the entries at `places` that stand in that log from `since` on (Unix milliseconds),
/// with their ids there. Only the same event with the same payload counts.
pub(super) async fn stored_since(
    server: &Server,
    log: &str,
    since: u64,
    entries: &[NewEntry],
    places: &[usize],
) -> Result<Vec<(usize, StreamId)>, StreamError> {
    let identified = |place: &usize| Some((identity(&entries.get(*place)?.fields)?, *place));
    let mut wanted: HashMap<_, _> = places.iter().filter_map(identified).collect();
    let tail = Range::all(Destination::Stream, ReadOrder::OldestFirst, PAGE);
    let mut rest = Some(tail.between(since.saturating_sub(CLOCK_ERROR_MS), u64::MAX));
    let (mut found, mut looked_at) = (Vec::new(), 0);
    while let Some(range) = rest.filter(|_| looked_at < MOST && !wanted.is_empty()) {
        let page = pages::range(server, log, range).await?;
        for entry in &page.entries {
            let place = identity(&entry.fields).and_then(|identity| wanted.remove(&identity));
            found.extend(place.map(|place| (place, entry.id)));
        }
        looked_at += page.entries.len();
        rest = page.next;
    }
    Ok(found)
}

/// What makes two entries the same event: its id and all that is known of it.
fn identity(fields: &Fields) -> Option<(Bytes, Bytes)> {
    fields.get("event_id").cloned().zip(fields.get("payload").cloned())
}

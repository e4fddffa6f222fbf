//! `send --verify`: whether what was promised landed.
//!
//! Looks events up until all are found or nothing more lands; `checklist.rs` decides what must be
//! where. Reads only.

mod checklist;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::checklist::{Checklist, SentEvent, Verified};
use crate::cli::Failure;
use crate::cli::backend::Backend;
use crate::cli::output::progress;
use crate::operations::{DeadLetterQuery, DeliveryQuery};

/// Events of one request.
const EVENTS: usize = 1000;
/// Orders of one request, whose shops may have long names.
const ORDERS: usize = 200;
/// Dead letters of one request.
const DEAD_LETTERS: usize = 200;
/// Between two look-ups of what is missing.
const PAUSE: Duration = Duration::from_millis(500);

/// Looks up what is missing until all is found, nothing more landed for `patience`, or `stop`
/// fires; then checks everything once.
pub(super) async fn verify(
    mut checklist: Checklist,
    backend: &Backend,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Verified, Failure> {
    let bar = progress(Some(checklist.promised()));
    let mut missing = checklist.missing();
    let mut since = Instant::now();
    loop {
        find_rows(&mut checklist, backend, &missing).await?;
        let mut still = checklist.missing();
        if !still.is_empty() {
            find_dead_letters(&mut checklist, backend).await?;
            still = checklist.missing();
        }
        bar.set_position(checklist.promised().saturating_sub(still.len() as u64));
        if still.len() < missing.len() {
            since = Instant::now();
        }
        missing = still;
        if missing.is_empty() || since.elapsed() >= patience {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => break,
        }
    }
    bar.finish_and_clear();
    // Once more, now with what must not be there, or not twice.
    let all = checklist.ids();
    find_rows(&mut checklist, backend, &all).await?;
    find_dead_letters(&mut checklist, backend).await?;
    for keys in checklist.orders().chunks(ORDERS) {
        let query = DeliveryQuery {
            orders: keys.to_vec(),
            ..DeliveryQuery::default()
        };
        checklist.judge(keys, &backend.call(query).await?.orders);
    }
    Ok(checklist.close())
}

async fn find_rows(checklist: &mut Checklist, backend: &Backend, ids: &[String]) -> Result<(), Failure> {
    for ids in ids.chunks(EVENTS) {
        let query = DeliveryQuery {
            events: ids.to_vec(),
            ..DeliveryQuery::default()
        };
        checklist.found(ids, &backend.call(query).await?.events);
    }
    Ok(())
}

async fn find_dead_letters(checklist: &mut Checklist, backend: &Backend) -> Result<(), Failure> {
    let mut query = DeadLetterQuery {
        count: Some(DEAD_LETTERS),
        ..DeadLetterQuery::default()
    };
    loop {
        let page = backend.call(query.clone()).await?;
        for dead_letter in page.dead_letters {
            if let Some(event_id) = &dead_letter.event_id {
                let origin = dead_letter.original_id.unwrap_or_else(|| dead_letter.id.to_string());
                checklist.add_dead_letter(event_id, origin);
            }
        }
        let Some(next) = page.next else { return Ok(()) };
        query.to = Some(next);
    }
}

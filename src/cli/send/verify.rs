//! `--verify`: whether what was promised is there.
//!
//! Owns how that is looked up and how long it is waited for; what it means stands in the `ledger`. Reads only.

mod ledger;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::ledger::{Claim, Ledger, Verified};
use crate::cli::Failure;
use crate::cli::backend::Backend;
use crate::cli::progress::progress;
use crate::operations::{DeadLetterQuery, DeliveryQuery};

/// Events of one question.
const EVENTS: usize = 1000;
/// Orders of one question, whose shops may have long names.
const ORDERS: usize = 200;
/// Dead letters of one question.
const LETTERS: usize = 200;
/// Between two looks at what is missing.
const PAUSE: Duration = Duration::from_millis(500);

/// Looks until all is there, or nothing more landed for so long, or `stop` fires; then says what came of it.
///
/// # Errors
/// There is nothing to look at, or it cannot be had.
pub(super) async fn verify(
    mut ledger: Ledger,
    backend: &Backend,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Verified, Failure> {
    let bar = progress(Some(ledger.promised()));
    let mut missing = ledger.missing();
    let mut since = Instant::now();
    loop {
        find_rows(&mut ledger, backend, &missing).await?;
        let mut still = ledger.missing();
        if !still.is_empty() {
            find_dead_letters(&mut ledger, backend).await?;
            still = ledger.missing();
        }
        bar.set_position(ledger.promised().saturating_sub(still.len() as u64));
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
    // Once more, and now also what must not be there, or not twice.
    let all = ledger.ids();
    find_rows(&mut ledger, backend, &all).await?;
    find_dead_letters(&mut ledger, backend).await?;
    for keys in ledger.orders().chunks(ORDERS) {
        let landing = DeliveryQuery {
            orders: keys.to_vec(),
            ..DeliveryQuery::default()
        };
        ledger.judge(keys, &backend.landed(&landing).await?.orders);
    }
    Ok(ledger.close())
}

async fn find_rows(ledger: &mut Ledger, backend: &Backend, ids: &[String]) -> Result<(), Failure> {
    for ids in ids.chunks(EVENTS) {
        let landing = DeliveryQuery {
            events: ids.to_vec(),
            ..DeliveryQuery::default()
        };
        ledger.found(ids, &backend.landed(&landing).await?.events);
    }
    Ok(())
}

async fn find_dead_letters(ledger: &mut Ledger, backend: &Backend) -> Result<(), Failure> {
    let mut query = DeadLetterQuery {
        count: Some(LETTERS),
        ..DeadLetterQuery::default()
    };
    loop {
        let page = backend.dead_letters(&query).await?;
        for dead_letter in page.dead_letters {
            if let Some(event_id) = &dead_letter.event_id {
                let origin = dead_letter.original_id.unwrap_or_else(|| dead_letter.id.to_string());
                ledger.buried(event_id, origin);
            }
        }
        let Some(next) = page.next else { return Ok(()) };
        query.to = Some(next);
    }
}

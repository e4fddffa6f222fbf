//! The laws of the seam: what tables and views hold, whatever comes in whatever order, and how the tables come to be.

mod arrivals;
mod captured;
mod details;
mod exact;
mod forgotten;
mod histories;
mod history;
mod lives;
mod money;
mod schema;
mod tables;
mod upgrade;

pub use arrivals::*;
pub use captured::*;
pub use details::*;
pub use exact::*;
pub use forgotten::*;
pub use histories::*;
pub use history::*;
pub use lives::*;
pub use money::*;
pub use schema::*;
pub use tables::*;
pub use upgrade::*;

use super::Store;
use super::events::{Sample, records};

/// Loads them in one batch.
async fn load(store: &dyn Store, samples: &[Sample]) {
    store.open().load(&records(samples)).await.unwrap();
}

/// As [`super::store::Answer::text`].
async fn rows(store: &dyn Store, sql: &str) -> String {
    store.query(sql).await.text()
}

/// Leaves the tables without rows.
async fn empty(store: &dyn Store) {
    store
        .change(
            "DELETE FROM order_events; DELETE FROM orders; DELETE FROM order_items; DELETE FROM order_refunds; \
             DELETE FROM order_refund_items; DELETE FROM order_sale_rows; DELETE FROM order_transactions",
        )
        .await;
}

//! Takes out of `order_events` what is older than it is to be kept: statements over
//! [`ReconciliationRecord`], one text for every store. Each changes a bounded number of rows, so that
//! loads do not wait.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::WarehouseError;
use super::history::Param;
use super::reconciliations::ReconciliationRecord;

/// Rows of one statement.
const ROWS: usize = 1000;
/// Length of the spans that are gone through.
const SPAN: time::Duration = time::Duration::DAY;

/// A warehouse that forgets with time.
#[async_trait]
pub trait RowRetention: ReconciliationRecord {
    /// Takes the bodies of events that were received in that span; answers of how many.
    ///
    /// # Errors
    /// The warehouse does not answer; what was done stays done.
    async fn drop_bodies(&self, from: OffsetDateTime, before: OffsetDateTime) -> Result<u64, WarehouseError> {
        let sql = "UPDATE {schema}.order_events SET raw = NULL WHERE event_id IN (\
                   SELECT event_id FROM {schema}.order_events \
                   WHERE raw IS NOT NULL AND received_at >= $1 AND received_at < $2 LIMIT $3)";
        self.each_day(sql, from, before).await
    }

    /// Takes events that were received before that time, of orders without an event since. Those of an
    /// order whose sales are worked out of all its events stay, and so do privacy requests. Answers how
    /// many went.
    ///
    /// # Errors
    /// The warehouse does not answer; what was done stays done.
    async fn drop_events(&self, before: OffsetDateTime) -> Result<u64, WarehouseError> {
        let sql = "DELETE FROM {schema}.order_events WHERE event_id IN (\
                   SELECT e.event_id FROM {schema}.order_events e \
                   WHERE e.received_at >= $1 AND e.received_at < $2 AND e.order_id <> '' \
                   AND NOT EXISTS (SELECT 1 FROM {schema}.order_events n \
                   WHERE n.order_id = e.order_id AND n.shop = e.shop AND n.received_at >= $4) \
                   AND NOT EXISTS (SELECT 1 FROM {schema}.orders o \
                   WHERE o.shop = e.shop AND o.order_id = e.order_id AND o.has_sale_rows) LIMIT $3)";
        self.each_day(sql, OffsetDateTime::UNIX_EPOCH, before).await
    }

    /// Runs a statement over each day of the span until it finds no more rows there: `$1` and `$2` are
    /// the day, `$3` the rows, `$4` the end of the span.
    async fn each_day(&self, sql: &str, from: OffsetDateTime, before: OffsetDateTime) -> Result<u64, WarehouseError> {
        let (mut at, mut total) = (from, 0);
        while let Some(first) = self.first(at, before).await? {
            let end = (first + SPAN).min(before);
            let params = [
                Param::Time(first),
                Param::Time(end),
                Param::count(ROWS),
                Param::Time(before),
            ];
            let params = if sql.contains("$4") { &params[..] } else { &params[..3] };
            loop {
                let changed = self.write(sql, params).await?;
                total += changed;
                if changed < ROWS as u64 {
                    break;
                }
            }
            at = end;
        }
        Ok(total)
    }
}

impl<T: ReconciliationRecord + ?Sized> RowRetention for T {}

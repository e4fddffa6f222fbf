//! The tombstones in PostgreSQL, and what is taken out of rows for them.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};

use super::columns::{self, ArrayColumn, insert, params};
use super::error::PostgresError;
use super::schema::Schema;
use crate::event::EventRecord;
use crate::warehouse::ForgottenSubject;
use crate::warehouse::forgotten::{Forgotten, SINCE, Tombstone, is_newest};
use crate::warehouse::rows::Column as _;

/// The newest tombstone that is known, and those behind it.
pub(super) async fn tombstones(
    transaction: &Transaction<'_>,
    schema: &Schema,
    newest: &Tombstone,
) -> Result<Vec<Tombstone>, Error> {
    let statement = schema.sql(SINCE);
    let rows = transaction.query_typed(&statement, &[(&newest.0, Type::INT8)]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Longest wait for the loads under way. The next ones wait behind it, so that it is short: a dump
/// of the database holds the lock off for as long as it runs.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout = '2s'";

/// Adds tombstones. The lock waits for the loads that have read the table, and the next ones read
/// what was added.
pub(super) async fn forget(
    client: &mut Client,
    schema: &Schema,
    limits: &str,
    known: &Forgotten,
    subjects: &[ForgottenSubject],
) -> Result<(), PostgresError> {
    let transaction = client.build_transaction().read_only(false).start().await?;
    transaction.batch_execute(limits).await?;
    let lock = schema.sql(&format!(
        "{LOCK_LIMIT}; LOCK TABLE {{schema}}.forgotten IN ACCESS EXCLUSIVE MODE"
    ));
    transaction.batch_execute(&lock).await?;
    loop {
        let newest = known.newest();
        let rows = tombstones(&transaction, schema, &newest).await?;
        if is_newest(&newest, &rows) {
            break;
        }
        known.learn(rows).map_err(PostgresError::Operator)?;
    }
    let rows = known.rows(subjects).map_err(PostgresError::Operator)?;
    let columns = [
        ArrayColumn::text("shop", rows.iter().map(|(shop, _)| Some(shop.as_str()))),
        ArrayColumn::text("subject", rows.iter().map(|(_, subject)| Some(subject.as_str()))),
    ];
    let statement = insert(schema, "forgotten", &columns) + " ON CONFLICT (subject) DO NOTHING";
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(transaction.commit().await?)
}

/// Takes what is personal out of rows that are there; their events are without it.
pub(super) async fn erase_stored<'a>(
    transaction: &Transaction<'_>,
    schema: &Schema,
    records: impl Iterator<Item = &'a EventRecord<'a>> + Clone,
) -> Result<(), Error> {
    if records.clone().next().is_none() {
        return Ok(());
    }
    let columns = [
        ArrayColumn::text(
            "event_id",
            records.clone().map(|record| Some(record.event.event_id.as_str())),
        ),
        ArrayColumn::json("payload", records.map(|record| Some(record.payload))),
    ];
    let statement = schema.sql(&format!(
        "UPDATE {{schema}}.order_events t SET customer_id = NULL, raw = NULL, payload = v.payload::jsonb \
         FROM {} WHERE t.event_id = v.event_id",
        columns::rows(&columns)
    ));
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(())
}

//! Sales of orders that were changed after they were placed, dated one by one.
//!
//! Owns `order_sale_rows` and the column `orders.has_sale_rows`. Such orders are few; for each, all
//! its events are read and its sales are worked out anew, within the load's transaction. The
//! order's row is locked by then, so that of two loads which touch one order the second sees the
//! events of the first.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::{Error, Transaction};

use super::columns::{self, ArrayColumn, insert, params};
use super::error::PostgresError;
use super::history;
use super::schema::Schema;
use crate::event::EventRecord;
use crate::warehouse::fold::{Effects, OrderRef, order_key};
use crate::warehouse::history::{EVENT, StoredEvent};
use crate::warehouse::ledger::{OrderLedger, Units, may_be_dated, order_ledger, removes_shipping, units};
use crate::warehouse::rows::{self, Column as _, SaleRow};
use crate::warehouse::upsert;

/// Orders whose row was written, and whether their sales are dated one by one.
pub(super) type Upserted<'a> = HashMap<OrderRef<'a>, bool>;

/// Locks the rows of edited orders and makes later states look at the edit.
pub(super) async fn mark_edited(
    transaction: &Transaction<'_>,
    schema: &Schema,
    edited: &[OrderRef<'_>],
) -> Result<(), Error> {
    if edited.is_empty() {
        return Ok(());
    }
    let columns = rows::edited_orders(edited);
    let statement = insert(schema, "orders", &columns) + upsert::EDITED_ORDER;
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(())
}

/// The orders whose sales may be on more than one day, as far as this load changes that: those that
/// were edited, have such sales already, show more than they did, or of which an older state came
/// late.
pub(super) fn keys_to_date<'a>(
    effects: &Effects<'a>,
    upserted: &Upserted<'_>,
    replaced: &HashMap<OrderRef<'_>, Vec<Units>>,
) -> Vec<OrderRef<'a>> {
    let is_dated = |record: &&&EventRecord<'_>| {
        let key = order_key(record);
        let older = replaced.get(&key).map(Vec::as_slice).unwrap_or_default();
        upserted.get(&key).is_none_or(|has_rows| {
            *has_rows || removes_shipping(&record.event) || may_be_dated(older, &units(&record.event))
        })
    };
    let mut keys: BTreeSet<OrderRef<'_>> = effects
        .orders
        .iter()
        .filter(is_dated)
        .map(|record| order_key(record))
        .collect();
    keys.extend(&effects.edited);
    keys.extend(&effects.changed);
    keys.into_iter().collect()
}

/// Works out the sales of these orders from all their events.
pub(super) async fn date_sales(
    transaction: &Transaction<'_>,
    schema: &Schema,
    keys: &[OrderRef<'_>],
) -> Result<(), PostgresError> {
    if keys.is_empty() {
        return Ok(());
    }
    let events = events_of(transaction, schema, keys).await?;
    let mut by_order: HashMap<OrderRef<'_>, Vec<EventRecord<'_>>> = keys.iter().map(|key| (*key, Vec::new())).collect();
    for event in &events {
        if let Ok(record) = event.record() {
            by_order.entry((&event.shop, &event.order_id)).or_default().push(record);
        }
    }
    let ledgers: Vec<(OrderRef<'_>, OrderLedger)> = by_order
        .iter()
        .map(|(key, events)| (*key, order_ledger(events)))
        .collect();
    let rows: Vec<SaleRow<'_>> = ledgers
        .iter()
        .flat_map(|(order, ledger)| ledger.sales.iter().map(|sale| SaleRow { order: *order, sale }))
        .collect();
    replace_rows(transaction, schema, keys, &rows).await?;
    let flags: Vec<ArrayColumn> = vec![
        ArrayColumn::text("shop", ledgers.iter().map(|((shop, _), _)| Some(*shop))),
        ArrayColumn::text("order_id", ledgers.iter().map(|((_, order_id), _)| Some(*order_id))),
        ArrayColumn::boolean("flag", ledgers.iter().map(|(_, ledger)| Some(ledger.has_rows))),
    ];
    let statement = schema.sql(&format!(
        "UPDATE {{schema}}.orders t SET has_sale_rows = v.flag FROM {} \
         WHERE t.shop = v.shop AND t.order_id = v.order_id AND t.has_sale_rows <> v.flag",
        columns::rows(&flags)
    ));
    transaction.execute_typed(&statement, &params(&flags)).await?;
    mark_exact_refunds(transaction, schema, &ledgers).await?;
    date_lines(transaction, schema, keys).await?;
    Ok(())
}

/// Marks the refunds whose reversals Shopify's books have. Their rows were written before.
async fn mark_exact_refunds(
    transaction: &Transaction<'_>,
    schema: &Schema,
    ledgers: &[(OrderRef<'_>, OrderLedger)],
) -> Result<(), Error> {
    let refunds = || {
        ledgers
            .iter()
            .flat_map(|((shop, _), ledger)| ledger.exact_refunds.iter().map(|id| (*shop, id.as_str())))
    };
    if refunds().next().is_none() {
        return Ok(());
    }
    let columns = vec![
        ArrayColumn::text("shop", refunds().map(|(shop, _)| Some(shop))),
        ArrayColumn::text("refund_id", refunds().map(|(_, id)| Some(id))),
    ];
    let statement = schema.sql(&format!(
        "UPDATE {{schema}}.order_refunds t SET has_exact_sales = true FROM {} \
         WHERE t.shop = v.shop AND t.refund_id = v.refund_id AND NOT t.has_exact_sales",
        columns::rows(&columns)
    ));
    transaction.execute_typed(&statement, &params(&columns)).await?;
    Ok(())
}

/// Says of each line of these orders on which day its first units were sold.
async fn date_lines(transaction: &Transaction<'_>, schema: &Schema, keys: &[OrderRef<'_>]) -> Result<(), Error> {
    let orders: Vec<ArrayColumn> = rows::order_keys(keys);
    let statement = schema.sql(&format!(
        "UPDATE {{schema}}.order_items t SET added_on = COALESCE((\
             SELECT min(r.local_date) FROM {{schema}}.order_sale_rows r \
             WHERE r.shop = t.shop AND r.order_id = t.order_id AND r.line_id = t.line_id), o.local_date) \
         FROM {} JOIN {{schema}}.orders o USING (shop, order_id) \
         WHERE t.shop = v.shop AND t.order_id = v.order_id",
        columns::rows(&orders)
    ));
    transaction.execute_typed(&statement, &params(&orders)).await?;
    Ok(())
}

async fn events_of(
    transaction: &Transaction<'_>,
    schema: &Schema,
    keys: &[OrderRef<'_>],
) -> Result<Vec<StoredEvent>, PostgresError> {
    let columns: Vec<ArrayColumn> = rows::order_keys(keys);
    let statement = schema.sql(&format!(
        "{} WHERE (order_id, shop) IN (SELECT v.order_id, v.shop FROM {}) \
         AND (total_amount IS NOT NULL OR event_type = 'order.edited')",
        EVENT,
        columns::rows(&columns)
    ));
    let rows = transaction.query_typed(&statement, &params(&columns)).await?;
    history::events(&rows)
}

async fn replace_rows(
    transaction: &Transaction<'_>,
    schema: &Schema,
    keys: &[OrderRef<'_>],
    rows: &[SaleRow<'_>],
) -> Result<(), Error> {
    let orders: Vec<ArrayColumn> = rows::order_keys(keys);
    let delete = schema.sql(&format!(
        "DELETE FROM {{schema}}.order_sale_rows t USING {} WHERE t.shop = v.shop AND t.order_id = v.order_id",
        columns::rows(&orders)
    ));
    transaction.execute_typed(&delete, &params(&orders)).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let columns = rows::order_sale_rows(rows);
    let write = insert(schema, "order_sale_rows", &columns);
    transaction.execute_typed(&write, &params(&columns)).await?;
    Ok(())
}

//! Sales of orders that were changed after they were placed, dated one by one.
//!
//! Owns `order_sale_rows` and the column `orders.has_sale_rows`. Such orders are few; for each, all
//! its events are read and its sales are worked out anew, within the load's transaction.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::error::WarehouseFileError;
use super::history;
use super::load::{Rows, write_all};
use crate::event::EventRecord;
use crate::warehouse::fold::order_key;
use crate::warehouse::history::{EVENT, OrderKey, StoredEvent, UNREADABLE, stored_event};
use crate::warehouse::ledger::{Units, may_be_dated, order_ledger, removes_shipping, units};
use crate::warehouse::rows::{self, SaleRow};

/// Says of each line of an order on which day its first units were sold.
const DATE_LINES: &str = "UPDATE order_items AS t SET added_on = COALESCE(\
         (SELECT min(r.local_date) FROM order_sale_rows r \
          WHERE r.shop = t.shop AND r.order_id = t.order_id AND r.line_id = t.line_id), \
         (SELECT o.local_date FROM orders o WHERE o.shop = t.shop AND o.order_id = t.order_id)) \
     WHERE shop = ?1 AND order_id = ?2";

/// What of a state its sales' days depend on.
pub(super) struct State {
    pub(super) key: OrderKey,
    units: Vec<Units>,
    removes_shipping: bool,
}

impl State {
    pub(super) fn of(record: &EventRecord<'_>) -> Self {
        let (shop, order_id) = order_key(record);
        Self {
            key: (shop.to_owned(), order_id.to_owned()),
            units: units(&record.event),
            removes_shipping: removes_shipping(&record.event),
        }
    }

    /// Whether the order's sales may have happened on more than one day, given the lines it had
    /// before.
    pub(super) fn may_be_dated(&self, older: &[Units]) -> bool {
        self.removes_shipping || may_be_dated(older, &self.units)
    }
}

/// Whether the order's sales are dated one by one already.
pub(super) fn is_dated(connection: &Connection, (shop, order_id): &OrderKey) -> Result<bool, WarehouseFileError> {
    let mut query = connection.prepare_cached("SELECT has_sale_rows FROM orders WHERE shop = ?1 AND order_id = ?2")?;
    Ok(query.query_row((shop, order_id), |row| row.get(0))?)
}

/// Works out the sales of these orders from all their events.
pub(super) fn date_sales(connection: &Connection, keys: &BTreeSet<OrderKey>) -> Result<(), WarehouseFileError> {
    if keys.is_empty() {
        return Ok(());
    }
    let sql = history::dialect(&format!(
        "{EVENT} WHERE order_id = $2 AND shop = $1 AND (total_amount IS NOT NULL OR event_type = 'order.edited')"
    ));
    let mut delete = connection.prepare("DELETE FROM order_sale_rows WHERE shop = ?1 AND order_id = ?2")?;
    let mut mark = connection
        .prepare("UPDATE orders SET has_sale_rows = ?3 WHERE shop = ?1 AND order_id = ?2 AND has_sale_rows <> ?3")?;
    let mut date_lines = connection.prepare(DATE_LINES)?;
    let mut mark_refund = connection.prepare(
        "UPDATE order_refunds SET has_exact_sales = 1 WHERE shop = ?1 AND refund_id = ?2 AND has_exact_sales = 0",
    )?;
    for (shop, order_id) in keys {
        let stored = history::rows(connection, &sql, (shop, order_id))?;
        let stored = stored
            .into_iter()
            .map(stored_event)
            .collect::<Option<Vec<StoredEvent>>>();
        let stored = stored.ok_or_else(|| WarehouseFileError::Operator(UNREADABLE.to_owned()))?;
        let records: Vec<EventRecord<'_>> = stored.iter().filter_map(|event| event.record().ok()).collect();
        let ledger = order_ledger(&records);
        delete.execute((shop, order_id))?;
        let order = (shop.as_str(), order_id.as_str());
        let rows: Vec<SaleRow<'_>> = ledger.sales.iter().map(|sale| SaleRow { order, sale }).collect();
        let rows = Rows::new(rows::order_sale_rows(&rows))?;
        write_all(connection, &rows, &rows.insert("order_sale_rows"))?;
        mark.execute((shop, order_id, ledger.has_rows))?;
        for refund_id in &ledger.exact_refunds {
            mark_refund.execute((shop, refund_id))?;
        }
        date_lines.execute((shop, order_id))?;
    }
    Ok(())
}

//! Which part of an event goes into which column: the same for every store.
//!
//! Pure. Owns names and order of the columns that a load writes, and the lines of an order as rows.
//! A store says by its own [`Column`] what a text, an amount or a time looks like there.

mod money;

use rust_decimal::Decimal;
use serde::Serialize;
use time::{Date, OffsetDateTime};

pub(super) use self::money::{
    RefundItemRow, order_refund_items, order_refunds, order_transactions, refund_items, refund_transactions,
    test_refunds,
};
use super::fold::{OrderRef, local_date, order_key};
use super::ledger::{DatedSale, LineSale, OrderSale, line_sales};
use super::status::status;
use super::version::{Version, micros};
use crate::event::{Amount, Details, EventRecord, Id, Item, OrderEvent, ShippingLine, Text, Timestamp};

/// One column of all rows of a statement, as a store binds it.
pub(super) trait Column<'a>: Sized {
    fn text(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Self;
    fn json(name: &'static str, values: impl Iterator<Item = Option<&'a str>>) -> Self;
    fn bytes(name: &'static str, values: impl Iterator<Item = Option<&'a [u8]>>) -> Self;
    fn numeric(name: &'static str, values: impl Iterator<Item = Option<Decimal>>) -> Self;
    fn int4(name: &'static str, values: impl Iterator<Item = i32>) -> Self;
    fn int8(name: &'static str, values: impl Iterator<Item = Option<i64>>) -> Self;
    fn boolean(name: &'static str, values: impl Iterator<Item = Option<bool>>) -> Self;
    fn date(name: &'static str, values: impl Iterator<Item = Date>) -> Self;
    fn instant(name: &'static str, values: impl Iterator<Item = Option<OffsetDateTime>>) -> Self;
    /// As an instant, but `None` is earlier than every time.
    fn version(name: &'static str, values: impl Iterator<Item = Option<OffsetDateTime>>) -> Self;
}

/// Indexes of the events in order of id; those of one id in the order of the batch.
pub(super) fn by_id(events: &[EventRecord<'_>]) -> Vec<usize> {
    let mut indexes = Vec::from_iter(0..events.len());
    indexes.sort_by_key(|&index| events[index].event.event_id.as_str());
    indexes
}

/// Rows of `order_events`.
pub(super) fn order_events<'a, C: Column<'a>>(records: &'a [&EventRecord<'_>]) -> Vec<C> {
    let each = || records.iter().copied();
    let events = || each().map(|record| &record.event);
    vec![
        C::text("event_id", events().map(|e| Some(e.event_id.as_str()))),
        C::text("event_type", events().map(|e| Some(e.event_type.as_str()))),
        C::text("source", each().map(|r| text(r.provenance.source.as_ref()))),
        C::text("shop", each().map(|r| Some(r.shop()))),
        C::text("order_id", events().map(|e| Some(e.order_id.as_str()))),
        C::text("customer_id", events().map(customer_id)),
        C::numeric("total_amount", events().map(|e| decimal(e.total_amount))),
        C::text("currency", events().map(|e| text(e.currency.as_ref()))),
        C::int8("item_count", events().map(|e| e.items.as_ref().map(|_| e.item_count()))),
        C::boolean("test", events().map(|e| Some(e.test.unwrap_or_default()))),
        C::instant("occurred_at", events().map(|e| Some(micros(e.timestamp.instant())))),
        C::instant("triggered_at", each().map(|r| r.triggered_at.map(micros))),
        C::instant("received_at", each().map(|r| Some(micros(r.received_at)))),
        C::text("stream_id", each().map(|r| Some(r.stream_id.as_str()))),
        C::text("topic", each().map(|r| text(r.provenance.topic.as_ref()))),
        C::text("webhook_id", each().map(|r| text(r.provenance.webhook_id.as_ref()))),
        C::text("api_version", each().map(|r| text(r.provenance.api_version.as_ref()))),
        C::json("payload", each().map(|r| Some(r.payload))),
        C::bytes("raw", each().map(|r| r.raw.as_deref())),
    ]
}

/// Rows of `orders`, of events that carry the whole order; `details` is that of each ([`details`]).
/// The first two columns are the key.
pub(super) fn orders<'a, C: Column<'a>>(records: &'a [&EventRecord<'_>], details: &'a [Option<String>]) -> Vec<C> {
    let each = || records.iter().copied();
    let events = || each().map(|record| &record.event);
    let instant_of = |at: Option<&Timestamp<'_>>| at.map(|at| micros(at.instant()));
    let mut columns = vec![
        C::text("shop", each().map(|r| Some(r.shop()))),
        C::text("order_id", events().map(|e| Some(e.order_id.as_str()))),
        C::text("name", events().map(|e| text(e.name.as_ref()))),
        C::text("customer_id", events().map(customer_id)),
        C::text(
            "status",
            records.iter().map(|record| {
                let source = record.provenance.source.as_ref();
                Some(status(&record.event, source.map(Text::as_str)))
            }),
        ),
        C::numeric("total_amount", events().map(|e| decimal(e.total_amount))),
        C::text("currency", events().map(|e| text(e.currency.as_ref()))),
        C::int8("item_count", events().map(|e| Some(e.item_count()))),
        C::date("local_date", each().map(local_date)),
        C::instant("created_at", events().map(|e| instant_of(e.created_at.as_ref()))),
        C::instant("processed_at", events().map(|e| instant_of(e.processed_at.as_ref()))),
        C::instant("updated_at", events().map(|e| instant_of(e.updated_at.as_ref()))),
        C::instant("cancelled_at", events().map(|e| instant_of(e.cancelled_at.as_ref()))),
        C::text("financial_status", events().map(|e| text(e.financial_status.as_ref()))),
        C::text(
            "fulfillment_status",
            events().map(|e| text(e.fulfillment_status.as_ref())),
        ),
    ];
    columns.extend(order_amounts(records));
    columns.extend(current_amounts(records));
    columns.extend(order_sales(records));
    columns.extend(order_marks(records));
    columns.push(C::json("details", details.iter().map(Option::as_deref)));
    columns.extend([
        C::text("source_name", events().map(|e| text(e.source_name.as_ref()))),
        C::boolean("test", events().map(|e| Some(e.test.unwrap_or_default()))),
    ]);
    columns.extend(version_columns(records.iter().copied()));
    columns
}

fn order_amounts<'a, C: Column<'a>>(records: &'a [&EventRecord<'_>]) -> [C; 8] {
    let events = || records.iter().map(|record| &record.event);
    let amount = |name, of: fn(&OrderEvent<'_>) -> Option<Amount>| C::numeric(name, events().map(|e| decimal(of(e))));
    [
        amount("subtotal", |e| e.subtotal),
        amount("total_discounts", |e| e.total_discounts),
        amount("total_shipping", |e| e.total_shipping),
        amount("total_tax", |e| e.total_tax),
        C::boolean("taxes_included", events().map(|e| e.taxes_included)),
        amount("current_total_amount", |e| e.current_total_amount),
        C::text(
            "presentment_currency",
            events().map(|e| text(e.presentment_currency.as_ref())),
        ),
        amount("presentment_total_amount", |e| e.presentment_total_amount),
    ]
}

/// Where no other amount is stated, it is as ordered.
fn current_amounts<'a, C: Column<'a>>(records: &'a [&EventRecord<'_>]) -> [C; 8] {
    let events = || records.iter().map(|record| &record.event);
    let amount = |name, of: fn(&OrderEvent<'_>) -> Option<Amount>| C::numeric(name, events().map(|e| decimal(of(e))));
    [
        amount("current_subtotal", |e| e.current_subtotal.or(e.subtotal)),
        amount("current_total_discounts", |e| {
            e.current_total_discounts.or(e.total_discounts)
        }),
        amount("current_total_shipping", |e| {
            e.current_total_shipping.or(e.total_shipping)
        }),
        amount("current_total_tax", |e| e.current_total_tax.or(e.total_tax)),
        amount("current_total_duties", |e| e.current_total_duties.or(e.total_duties)),
        amount("current_total_fees", |e| e.current_total_fees.or(e.total_fees)),
        amount("rounding", |e| e.rounding),
        amount("refund_rounding", |e| e.refund_rounding),
    ]
}

/// The key of an order.
fn order_marks<'a, C: Column<'a>>(records: &'a [&EventRecord<'_>]) -> [C; 8] {
    let events = || records.iter().map(|record| &record.event);
    [
        C::int8("order_number", events().map(|e| e.order_number)),
        C::text("cancel_reason", events().map(|e| text(e.cancel_reason.as_ref()))),
        C::instant(
            "closed_at",
            events().map(|e| e.closed_at.as_ref().map(|at| micros(at.instant()))),
        ),
        C::int8("utc_offset_minutes", events().map(utc_offset_minutes)),
        C::text("app_id", events().map(|e| id(e.app_id.as_ref()))),
        C::text("location_id", events().map(|e| id(e.location_id.as_ref()))),
        C::text("billing_country", events().map(|e| text(e.billing_country.as_ref()))),
        C::text("shipping_country", events().map(|e| text(e.shipping_country.as_ref()))),
    ]
}

/// The shop's, as the order's own times are written with it; the time of an event need not be.
fn utc_offset_minutes(event: &OrderEvent<'_>) -> Option<i64> {
    let written = event.processed_at.as_ref().or(event.created_at.as_ref())?;
    Some(written.instant().offset().whole_minutes().into())
}

/// `orders.details`.
#[derive(Serialize)]
struct OrderDetails<'a> {
    #[serde(flatten)]
    details: Option<&'a Details<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shipping_lines: &'a [ShippingLine<'a>],
}

/// `orders.details` of each; none where an order says nothing of the kind.
pub(super) fn details(records: &[&EventRecord<'_>]) -> Vec<Option<String>> {
    let of = |event: &OrderEvent<'_>| {
        let details = OrderDetails {
            details: event.details.as_ref(),
            shipping_lines: event.shipping_lines.as_deref().unwrap_or_default(),
        };
        serde_json::to_string(&details).ok().filter(|json| json != "{}")
    };
    records.iter().map(|record| of(&record.event)).collect()
}

/// The order's sales, as if everything was sold on its own day.
fn order_sales<'a, C: Column<'a>>(records: &'a [&EventRecord<'_>]) -> [C; 9] {
    let sales: Vec<OrderSale> = records.iter().map(|record| OrderSale::of(&record.event)).collect();
    let amount = |name, of: fn(&OrderSale) -> Decimal| C::numeric(name, sales.iter().map(|sale| Some(of(sale))));
    [
        amount("sale_gross", |sale| sale.gross),
        amount("sale_discounts", |sale| sale.discounts),
        amount("sale_shipping", |sale| sale.shipping),
        amount("sale_shipping_tax", |sale| sale.shipping_tax),
        amount("sale_tax", |sale| sale.tax),
        amount("sale_duties", |sale| sale.duties),
        amount("sale_fees", |sale| sale.fees),
        amount("sale_tips", |sale| sale.tips),
        amount("sale_gift_cards", |sale| sale.gift_cards),
    ]
}

/// Rows of `orders` that say only that an order was edited. The first two columns are the key.
pub(super) fn edited_orders<'a, C: Column<'a>>(keys: &'a [OrderRef<'_>]) -> Vec<C> {
    let mut columns = order_keys(keys);
    columns.push(C::boolean("has_sale_rows", keys.iter().map(|_| Some(true))));
    columns
}

/// Keys of `orders`.
pub(super) fn order_keys<'a, C: Column<'a>>(keys: &'a [OrderRef<'_>]) -> Vec<C> {
    vec![
        C::text("shop", keys.iter().map(|(shop, _)| Some(*shop))),
        C::text("order_id", keys.iter().map(|(_, order_id)| Some(*order_id))),
    ]
}

/// Rows of `orders` that say only that an order was deleted. The first two columns are the key.
pub(super) fn deletions<'a, C: Column<'a>>(deletions: &'a [(OrderRef<'_>, OffsetDateTime)]) -> Vec<C> {
    vec![
        C::text("shop", deletions.iter().map(|((shop, _), _)| Some(*shop))),
        C::text("order_id", deletions.iter().map(|((_, order_id), _)| Some(*order_id))),
        C::instant("deleted_at", deletions.iter().map(|(_, at)| Some(*at))),
    ]
}

/// One row of `order_sale_rows`.
pub(super) struct SaleRow<'a> {
    pub(super) order: OrderRef<'a>,
    pub(super) sale: &'a DatedSale,
}

/// Rows of `order_sale_rows`. The first three columns are the key.
pub(super) fn order_sale_rows<'a, C: Column<'a>>(rows: &'a [SaleRow<'_>]) -> Vec<C> {
    let each = || rows.iter();
    let sales = || rows.iter().map(|row| row.sale);
    vec![
        C::text("shop", each().map(|row| Some(row.order.0))),
        C::text("order_id", each().map(|row| Some(row.order.1))),
        C::text("sale_key", sales().map(|sale| Some(sale.sale_key.as_str()))),
        C::instant("happened_at", sales().map(|sale| Some(sale.happened_at))),
        C::date("local_date", sales().map(|sale| sale.local_date)),
        C::text("reason", sales().map(|sale| Some(sale.reason))),
        C::text("action", sales().map(|sale| sale.action)),
        C::text("line_type", sales().map(|sale| Some(sale.line_type))),
        C::text("line_id", sales().map(|sale| sale.line_id.as_deref())),
        C::int8("quantity", sales().map(|sale| Some(sale.quantity))),
        C::numeric("gross", sales().map(|sale| Some(sale.gross))),
        C::numeric("discount", sales().map(|sale| Some(sale.discount))),
        C::numeric("tax", sales().map(|sale| Some(sale.tax))),
        C::text("refund_id", sales().map(|sale| sale.refund_id.as_deref())),
        C::text("origin", sales().map(|sale| Some(sale.origin))),
    ]
}

fn version_columns<'a, C: Column<'a>>(records: impl Iterator<Item = &'a EventRecord<'a>> + Clone) -> [C; 3] {
    let versions = || records.clone().map(Version::of);
    [
        C::text("last_event_id", versions().map(|v| Some(v.event_id))),
        C::version("version_at", versions().map(|v| Some(v.at))),
        C::version("version_triggered_at", versions().map(|v| v.triggered_at)),
    ]
}

/// One row of `order_items`.
pub(super) struct ItemRow<'a> {
    order: OrderRef<'a>,
    /// The order's own day.
    day: Date,
    /// JSON.
    properties: Option<String>,
    /// From 1.
    no: i32,
    item: &'a Item<'a>,
    sale: LineSale,
}

/// The lines of an order, as they were sent.
pub(super) fn lines<'a>(record: &'a EventRecord<'_>) -> impl Iterator<Item = ItemRow<'a>> {
    let items = record.event.items.iter().flatten().zip(line_sales(&record.event));
    let day = local_date(record);
    (1..).zip(items).map(move |(no, (item, sale))| ItemRow {
        order: order_key(record),
        day,
        properties: (!item.properties.is_empty())
            .then(|| serde_json::to_string(&item.properties).ok())
            .flatten(),
        no,
        item,
        sale,
    })
}

/// Rows of `order_items`. Each line counts as of the order's own day until it is known to be added
/// later.
pub(super) fn order_items<'a, C: Column<'a>>(lines: &'a [ItemRow<'_>]) -> Vec<C> {
    let each = || lines.iter();
    let items = || lines.iter().map(|line| line.item);
    vec![
        C::text("shop", each().map(|line| Some(line.order.0))),
        C::text("order_id", each().map(|line| Some(line.order.1))),
        C::int4("line_no", each().map(|line| line.no)),
        C::text("line_id", items().map(|i| id(i.line_id.as_ref()))),
        C::text("sku", items().map(|i| id(i.sku.as_ref()))),
        C::text("variant_id", items().map(|i| id(i.variant_id.as_ref()))),
        C::text("product_id", items().map(|i| id(i.product_id.as_ref()))),
        C::text("title", items().map(|i| text(i.title.as_ref()))),
        C::text("variant_title", items().map(|i| text(i.variant_title.as_ref()))),
        C::text("vendor", items().map(|i| text(i.vendor.as_ref()))),
        C::boolean("taxable", items().map(|i| i.taxable)),
        C::boolean("requires_shipping", items().map(|i| i.requires_shipping)),
        C::int8("fulfillable_qty", items().map(|i| i.fulfillable_qty)),
        C::date("added_on", each().map(|line| line.day)),
        C::json("properties", each().map(|line| line.properties.as_deref())),
        C::int8("qty", items().map(|i| Some(i.qty))),
        C::int8("current_qty", items().map(|i| i.current_qty)),
        C::numeric("price", items().map(|i| decimal(Some(i.price)))),
        C::numeric("discount", items().map(|i| decimal(i.discount))),
        C::numeric("tax", items().map(|i| decimal(i.tax))),
        C::boolean("gift_card", items().map(|i| Some(i.gift_card.unwrap_or_default()))),
        C::boolean("tip", items().map(|i| Some(i.tip.unwrap_or_default()))),
        C::numeric("sale_gross", each().map(|line| Some(line.sale.gross))),
        C::numeric("sale_discount", each().map(|line| Some(line.sale.discount))),
        C::numeric("sale_tax", each().map(|line| Some(line.sale.tax))),
    ]
}

fn customer_id<'a>(event: &'a OrderEvent<'_>) -> Option<&'a str> {
    id(event.customer_id.as_ref())
}

fn id<'a>(id: Option<&'a Id<'_>>) -> Option<&'a str> {
    id.map(Id::as_str)
}

fn text<'a>(text: Option<&'a Text<'_>>) -> Option<&'a str> {
    text.map(Text::as_str)
}

fn decimal(amount: Option<Amount>) -> Option<Decimal> {
    amount.map(|amount| amount.0)
}

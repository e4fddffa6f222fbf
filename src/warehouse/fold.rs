//! What a batch of new events does to the state tables, worked out before any table is touched.
//!
//! Pure, and the same for every store. Invariants: at most one row a key comes out, so that one
//! set-based statement can take all; rows come out in key order, so that concurrent loads lock in
//! the same order; and the result does not depend on the order of the events.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use time::{Date, OffsetDateTime};

use super::ledger::shows_same_sales;
use super::version::{Version, micros};
use crate::event::{EventRecord, Refund, Timestamp, Transaction};

/// The key of an order: shop and order id.
pub type OrderRef<'a> = (&'a str, &'a str);

/// Changes to the state tables.
#[derive(Debug, Default)]
pub struct Effects<'a> {
    /// The newest whole state of each order.
    pub orders: Vec<&'a EventRecord<'a>>,
    /// The earliest deletion of each order.
    pub deletions: Vec<(OrderRef<'a>, OffsetDateTime)>,
    /// The newest statement about each refund.
    pub refunds: Vec<RefundRow<'a>>,
    /// The newest statement about each transaction.
    pub transactions: Vec<TransactionRow<'a>>,
    /// Orders that an event of their own says were edited.
    pub edited: Vec<OrderRef<'a>>,
    /// Orders of which the batch has states with different lines.
    pub changed: Vec<OrderRef<'a>>,
}

/// One refund, of the newest event that states it.
#[derive(Debug, Clone, Copy)]
pub struct RefundRow<'a> {
    /// The event that states it.
    pub record: &'a EventRecord<'a>,
    /// The refund itself.
    pub refund: &'a Refund<'a>,
    /// Whether any event of the batch said that it is of a test order: a refund event of its own
    /// cannot say, so that nothing takes it back.
    pub test: bool,
}

impl RefundRow<'_> {
    /// When the money went back; the time of the event where the refund does not say.
    #[must_use]
    pub fn processed_at(&self) -> &Timestamp<'_> {
        self.refund
            .processed_at
            .as_ref()
            .unwrap_or(&self.record.event.timestamp)
    }

    /// ISO 4217; the order's where the refund does not say.
    #[must_use]
    pub fn currency(&self) -> Option<&str> {
        let currency = self.refund.currency.as_ref().or(self.record.event.currency.as_ref());
        currency.map(|text| text.as_str())
    }
}

/// One transaction, of the newest event that states it.
#[derive(Debug, Clone, Copy)]
pub struct TransactionRow<'a> {
    /// The event that states it.
    pub record: &'a EventRecord<'a>,
    /// The transaction itself.
    pub transaction: &'a Transaction<'a>,
    /// The refund that it stands in.
    refund: Option<&'a Refund<'a>>,
    /// The refund that it stands in, in any event of the batch.
    pub refund_id: Option<&'a str>,
}

impl<'a> TransactionRow<'a> {
    /// All transactions of an event.
    fn of(record: &'a EventRecord<'a>) -> impl Iterator<Item = Self> {
        let row = move |refund: Option<&'a Refund<'a>>| {
            move |transaction| Self {
                record,
                transaction,
                refund,
                refund_id: refund.map(|refund| refund.refund_id.as_str()),
            }
        };
        let refunds = record.event.refunds.iter().flatten();
        let refunds = refunds.flat_map(move |refund| refund.transactions.iter().map(row(Some(refund))));
        refunds.chain(record.event.transactions.iter().map(row(None)))
    }

    /// A final status is newer than any other, whenever it came: the times of the events that state
    /// it are those of orders and refunds.
    fn age(&self) -> (bool, Version<'a>) {
        (self.transaction.is_final(), Version::of(self.record))
    }

    /// When it was processed; with its refund, or at the time of the event, where it does not say.
    #[must_use]
    pub fn processed_at(&self) -> &Timestamp<'_> {
        let own = self.transaction.processed_at.as_ref();
        own.or_else(|| self.refund?.processed_at.as_ref())
            .unwrap_or(&self.record.event.timestamp)
    }

    /// ISO 4217; that of the refund or order around it where it does not say.
    #[must_use]
    pub fn currency(&self) -> Option<&str> {
        let own = self.transaction.currency.as_ref();
        let currency = own
            .or_else(|| self.refund?.currency.as_ref())
            .or(self.record.event.currency.as_ref());
        currency.map(|text| text.as_str())
    }
}

impl<'a> Effects<'a> {
    /// Folds events that are new, or known with the payload they have here. One that is there twice
    /// counts once.
    #[must_use]
    pub fn of(records: impl IntoIterator<Item = &'a EventRecord<'a>>) -> Self {
        let mut orders: BTreeMap<OrderRef<'a>, &EventRecord<'_>> = BTreeMap::new();
        let mut deletions: BTreeMap<OrderRef<'a>, OffsetDateTime> = BTreeMap::new();
        let mut refunds: BTreeMap<(&str, &str), RefundRow<'_>> = BTreeMap::new();
        let mut transactions: BTreeMap<(&str, &str), TransactionRow<'_>> = BTreeMap::new();
        let (mut edited, mut changed) = (BTreeSet::new(), BTreeSet::new());
        for record in records {
            let event = &record.event;
            let key = order_key(record);
            if event.is_whole() {
                let newest = match orders.entry(key) {
                    Entry::Vacant(vacant) => vacant.insert(record),
                    Entry::Occupied(occupied) => {
                        if !shows_same_sales(&occupied.get().event, event) {
                            changed.insert(key);
                        }
                        occupied.into_mut()
                    }
                };
                if Version::of(record) >= Version::of(newest) {
                    *newest = record;
                }
            }
            if event.sales.is_some() {
                changed.insert(key);
            }
            if event.is_edit() {
                edited.insert(key);
            }
            if event.is_deletion() {
                let at = micros(event.timestamp.instant());
                let earliest = deletions.entry(key).or_insert(at);
                *earliest = at.min(*earliest);
            }
            for refund in event.refunds.iter().flatten() {
                let test = event.test.unwrap_or_default();
                let row = RefundRow { record, refund, test };
                let newest = refunds.entry((key.0, refund.refund_id.as_str())).or_insert(row);
                let test = test || newest.test;
                if Version::of(record) >= Version::of(newest.record) {
                    *newest = row;
                }
                newest.test = test;
            }
            for row in TransactionRow::of(record) {
                let id = row.transaction.transaction_id.as_str();
                let newest = transactions.entry((key.0, id)).or_insert(row);
                let refund_id = newest.refund_id.or(row.refund_id);
                if row.age() >= newest.age() {
                    *newest = row;
                }
                newest.refund_id = refund_id;
            }
        }
        Self {
            orders: orders.into_values().collect(),
            deletions: deletions.into_iter().collect(),
            refunds: refunds.into_values().collect(),
            transactions: transactions.into_values().collect(),
            edited: edited.into_iter().collect(),
            changed: changed.into_iter().collect(),
        }
    }
}

/// The key of the order that an event is about.
#[must_use]
pub fn order_key<'a>(record: &'a EventRecord<'_>) -> OrderRef<'a> {
    (record.shop(), record.event.order_id.as_str())
}

/// The day an order counts on, as written, in the shop's offset: `processed_at`, which imported
/// orders set to their real day and which Shopify's own reports use; else `created_at`; else the
/// time of the event.
#[must_use]
pub fn local_date(record: &EventRecord<'_>) -> Date {
    let event = &record.event;
    let written = event.processed_at.as_ref().or(event.created_at.as_ref());
    written.unwrap_or(&event.timestamp).local_date()
}

//! The record of reconciliations, who may make one, and what they compare: statements over [`History`],
//! one text for every store.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rust_decimal::Decimal;
use time::{Date, OffsetDateTime};

use super::WarehouseError;
use super::history::{History, Param, Row, each};

/// Runs that are read at most: those of more than a week.
const RECENT: usize = 1000;

/// A comparison of a shop's orders with the warehouse that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconciliationRun {
    /// Domain of the shop.
    pub shop: String,
    /// Orders that changed from then on,
    pub since: OffsetDateTime,
    /// and before then.
    pub until: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
    /// Whether an operator asked for it.
    pub by_hand: bool,
    /// What it found and took, by column.
    pub counts: Vec<(&'static str, u64)>,
}

/// A former run of the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRun {
    /// Orders that changed from then on,
    pub since: OffsetDateTime,
    /// and before then.
    pub until: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
    /// Orders that the warehouse lacked, had in an older state or had not deleted.
    pub found: i64,
}

/// Amounts of `daily_sales`, by the names of its columns.
pub const FIGURES: [&str; 9] = [
    "gross",
    "discounts",
    "reversals",
    "net",
    "shipping",
    "tax",
    "duties",
    "fees",
    "total",
];

/// Amounts in the order of [`FIGURES`].
pub type SalesFigures = [Decimal; FIGURES.len()];

/// `order_sales` of one day by order, in the columns of `daily_sales` that are no sums of others.
const SALES_BY_ORDER: &str = "SELECT order_id,
    sum(CASE WHEN line_type = 'product' AND action <> 'return' THEN gross ELSE 0 END) AS gross,
    sum(CASE WHEN line_type = 'product' AND action <> 'return' THEN discount ELSE 0 END) AS discounts,
    sum(CASE WHEN line_type = 'adjustment' OR (line_type = 'product' AND action = 'return')
             THEN discount - gross ELSE 0 END) AS reversals,
    sum(CASE WHEN line_type = 'shipping' THEN gross ELSE 0 END) AS shipping,
    sum(tax) AS tax,
    sum(CASE WHEN line_type = 'duty' THEN gross ELSE 0 END) AS duties,
    sum(CASE WHEN line_type = 'fee' THEN gross ELSE 0 END) AS fees
    FROM {schema}.order_sales WHERE shop = $1 AND currency = $2 AND local_date = $3 GROUP BY order_id";

/// A warehouse as `reconcile` notes its runs there.
#[async_trait]
pub trait ReconciliationRecord: History {
    /// Runs a statement of this module that writes; answers how many rows it wrote.
    async fn write(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, WarehouseError>;

    /// The newest runs of the role, the newest first.
    async fn past_reconciliations(&self, shop: &str) -> Result<Vec<PastRun>, WarehouseError> {
        let sql = "SELECT since, until, ended_at, missing + stale + deleted FROM {schema}.reconciliations \
                   WHERE shop = $1 AND NOT by_hand ORDER BY ended_at DESC LIMIT $2";
        each(
            self.read(sql, &[Param::text(shop), Param::count(RECENT)]).await?,
            past_run,
        )
    }

    /// Notes a run that ended.
    async fn note_reconciliation(&self, run: &ReconciliationRun) -> Result<(), WarehouseError> {
        let columns = Vec::from_iter(run.counts.iter().map(|(column, _)| *column)).join(", ");
        let places = Vec::from_iter((0..run.counts.len()).map(|place| format!("${}", place + 5))).join(", ");
        let by_hand = run.by_hand;
        let sql = format!(
            "INSERT INTO {{schema}}.reconciliations (shop, since, until, ended_at, by_hand, {columns}) \
             VALUES ($1, $2, $3, $4, {by_hand}, {places}) ON CONFLICT DO NOTHING"
        );
        let times = [run.since, run.until, run.ended_at].map(Param::Time);
        let counts = run
            .counts
            .iter()
            .map(|(_, count)| Param::Integer(i64::try_from(*count).unwrap_or(i64::MAX)));
        let params = Vec::from_iter([Param::text(&run.shop)].into_iter().chain(times).chain(counts));
        self.write(&sql, &params).await?;
        Ok(())
    }

    /// Takes or keeps the lock on a shop's reconciliations until then; `false` where another has it.
    async fn lock_reconciliation(
        &self,
        shop: &str,
        holder: &str,
        until: OffsetDateTime,
    ) -> Result<bool, WarehouseError> {
        let sql = "INSERT INTO {schema}.reconcile_locks AS l (shop, holder, until) VALUES ($1, $2, $3) \
                   ON CONFLICT (shop) DO UPDATE SET holder = excluded.holder, until = excluded.until \
                   WHERE l.until < $4 OR l.holder = excluded.holder";
        let now = OffsetDateTime::now_utc();
        let params = [
            Param::text(shop),
            Param::text(holder),
            Param::Time(until),
            Param::Time(now),
        ];
        Ok(self.write(sql, &params).await? > 0)
    }

    /// Gives the lock back.
    async fn unlock_reconciliation(&self, shop: &str, holder: &str) -> Result<(), WarehouseError> {
        let sql = "DELETE FROM {schema}.reconcile_locks WHERE shop = $1 AND holder = $2";
        self.write(sql, &[Param::text(shop), Param::text(holder)]).await?;
        Ok(())
    }

    /// `daily_sales` of a shop from one day to another, by day (`2026-01-31`). Reads all of the shop's
    /// orders where the store cannot do better.
    async fn figures_by_day(
        &self,
        shop: &str,
        currency: &str,
        first: Date,
        last: Date,
    ) -> Result<BTreeMap<String, SalesFigures>, WarehouseError> {
        let columns = FIGURES.map(as_text).join(", ");
        let sql = format!(
            "SELECT CAST(local_date AS text), {columns} FROM {{schema}}.daily_sales \
             WHERE shop = $1 AND currency = $2 AND local_date >= $3 AND local_date <= $4"
        );
        let days = [Param::Day(first), Param::Day(last)];
        let params = [Param::text(shop), Param::text(currency), days[0], days[1]];
        Ok(each(self.read(&sql, &params).await?, figures)?.into_iter().collect())
    }

    /// What the orders of a shop contribute to a day of `daily_sales`, by order.
    async fn figures_by_order(
        &self,
        shop: &str,
        currency: &str,
        day: Date,
    ) -> Result<BTreeMap<String, SalesFigures>, WarehouseError> {
        let columns = FIGURES.map(as_text).join(", ");
        let sql = format!(
            "SELECT order_id, {columns} FROM (SELECT s.*, net + shipping + tax + duties + fees AS total \
             FROM (SELECT b.*, gross - discounts - reversals AS net FROM ({SALES_BY_ORDER}) AS b) AS s) AS o"
        );
        let params = [Param::text(shop), Param::text(currency), Param::Day(day)];
        Ok(each(self.read(&sql, &params).await?, figures)?.into_iter().collect())
    }

    /// Ids of a shop's orders that are not deleted and whose newest state is from that span. Reads all
    /// of the shop's orders.
    async fn orders_changed(
        &self,
        shop: &str,
        since: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<String>, WarehouseError> {
        let sql = "SELECT order_id FROM {schema}.orders \
                   WHERE shop = $1 AND deleted_at IS NULL AND version_at >= $2 AND version_at < $3 ORDER BY order_id";
        let params = [Param::text(shop), Param::Time(since), Param::Time(until)];
        each(self.read(sql, &params).await?, |mut row| row.text())
    }

    /// Whether a delivery of that topic was received since then. Reads all events since then where none
    /// was.
    async fn was_delivered(&self, shop: &str, topic: &str, since: OffsetDateTime) -> Result<bool, WarehouseError> {
        let sql = "SELECT event_id FROM {schema}.order_events \
                   WHERE received_at >= $1 AND shop = $2 AND topic = $3 ORDER BY received_at DESC LIMIT 1";
        let params = [Param::Time(since), Param::text(shop), Param::text(topic)];
        Ok(!self.read(sql, &params).await?.is_empty())
    }
}

fn as_text(column: &str) -> String {
    format!("CAST({column} AS text)")
}

/// A key and the amounts of [`FIGURES`].
fn figures(mut row: Row) -> Option<(String, SalesFigures)> {
    let key = row.text()?;
    let mut amounts = SalesFigures::default();
    for amount in &mut amounts {
        *amount = row.amount()?;
    }
    Some((key, amounts))
}

fn past_run(mut row: Row) -> Option<PastRun> {
    Some(PastRun {
        since: row.time()?,
        until: row.time()?,
        ended_at: row.time()?,
        found: row.integer()?,
    })
}

//! The record of reconciliations, and who may make one: statements over [`History`], one text for
//! every store.

use async_trait::async_trait;
use time::OffsetDateTime;

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
}

fn past_run(mut row: Row) -> Option<PastRun> {
    Some(PastRun {
        since: row.time()?,
        until: row.time()?,
        ended_at: row.time()?,
        found: row.integer()?,
    })
}

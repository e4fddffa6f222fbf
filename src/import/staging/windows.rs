//! Tables `plan` and `bulk_window`: which windows of a shop's history there are, and how far each is.
//!
//! A window is removed when all of its orders are appended. Times are seconds since 1970.

use rusqlite::{Connection, OptionalExtension as _, params};
use time::OffsetDateTime;

use super::{Staging, signed};
use crate::import::ImportError;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS plan (
    shop TEXT PRIMARY KEY, since INTEGER NOT NULL, until INTEGER NOT NULL, started_at INTEGER NOT NULL, orders INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS bulk_window (
    shop TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, orders INTEGER NOT NULL,
    asked INTEGER NOT NULL DEFAULT 0, operation TEXT, PRIMARY KEY (shop, since)
);
";

/// What an import of a shop's history is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportPlan {
    /// Orders that were created from then on,
    pub since: OffsetDateTime,
    /// and before then.
    pub until: OffsetDateTime,
    /// When it was begun.
    pub started_at: OffsetDateTime,
    /// Orders that Shopify counted.
    pub orders: u64,
}

/// A part of it, which one bulk operation brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkWindow {
    /// Orders that were created from then on,
    pub since: OffsetDateTime,
    /// and before then.
    pub until: OffsetDateTime,
    /// Orders that Shopify counted.
    pub orders: u64,
    /// Whether an operation was asked for, which may have been started.
    pub is_asked: bool,
    /// The gid of the operation, once it is known.
    pub operation: Option<String>,
}

impl BulkWindow {
    /// One that is not asked for.
    #[must_use]
    pub fn new(since: OffsetDateTime, until: OffsetDateTime, orders: u64) -> Self {
        Self {
            since,
            until,
            orders,
            is_asked: false,
            operation: None,
        }
    }
}

/// The windows of one shop. Every call fails where the file cannot be used.
pub struct WindowTable<'i> {
    pub(in crate::import) staging: &'i mut Staging,
    pub(in crate::import) shop: &'i str,
}

impl WindowTable<'_> {
    /// What the last import was over, whether it is finished or not.
    ///
    /// # Errors
    /// As of each call.
    pub fn plan(&self) -> Result<Option<ImportPlan>, ImportError> {
        let sql = "SELECT since, until, started_at, orders FROM plan WHERE shop = ?1";
        let mut query = self.staging.connection.prepare(sql).map_err(self.staging.failed())?;
        let plan = query.query_row([self.shop], |row| {
            Ok(ImportPlan {
                since: instant(row.get(0)?),
                until: instant(row.get(1)?),
                started_at: instant(row.get(2)?),
                orders: row.get::<_, i64>(3)?.unsigned_abs(),
            })
        });
        plan.optional().map_err(self.staging.failed())
    }

    /// Begins another import, which has these windows.
    ///
    /// # Errors
    /// As of each call.
    pub fn set_plan(&mut self, plan: ImportPlan, windows: &[BulkWindow]) -> Result<(), ImportError> {
        let (failed, shop) = (self.staging.failed(), self.shop);
        let set = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM bulk_window WHERE shop = ?1", [shop])?;
            let (since, until) = (seconds(plan.since), seconds(plan.until));
            transaction.execute(
                "INSERT OR REPLACE INTO plan (shop, since, until, started_at, orders) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![shop, since, until, seconds(plan.started_at), signed(plan.orders)],
            )?;
            windows.iter().try_for_each(|window| put(&transaction, shop, window))?;
            transaction.commit()
        };
        set(&mut self.staging.connection).map_err(failed)
    }

    /// Those that are left, the oldest first.
    ///
    /// # Errors
    /// As of each call.
    pub fn left(&self) -> Result<Vec<BulkWindow>, ImportError> {
        let sql = "SELECT since, until, orders, asked, operation FROM bulk_window WHERE shop = ?1 ORDER BY since";
        let mut query = self
            .staging
            .connection
            .prepare_cached(sql)
            .map_err(self.staging.failed())?;
        let windows = query.query_map([self.shop], |row| {
            Ok(BulkWindow {
                since: instant(row.get(0)?),
                until: instant(row.get(1)?),
                orders: row.get::<_, i64>(2)?.unsigned_abs(),
                is_asked: row.get(3)?,
                operation: row.get(4)?,
            })
        });
        windows.and_then(Iterator::collect).map_err(self.staging.failed())
    }

    /// Puts these in the place of a window: itself in another state, its halves, or none.
    ///
    /// # Errors
    /// As of each call.
    pub fn replace(&mut self, window: &BulkWindow, by: &[BulkWindow]) -> Result<(), ImportError> {
        let (failed, shop) = (self.staging.failed(), self.shop);
        let replace = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "DELETE FROM bulk_window WHERE shop = ?1 AND since = ?2",
                params![shop, seconds(window.since)],
            )?;
            by.iter().try_for_each(|window| put(&transaction, shop, window))?;
            transaction.commit()
        };
        replace(&mut self.staging.connection).map_err(failed)
    }
}

fn put(connection: &Connection, shop: &str, window: &BulkWindow) -> rusqlite::Result<()> {
    let insert =
        "INSERT INTO bulk_window (shop, since, until, orders, asked, operation) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (since, until) = (seconds(window.since), seconds(window.until));
    let row = params![
        shop,
        since,
        until,
        signed(window.orders),
        window.is_asked,
        window.operation
    ];
    connection.execute(insert, row).map(|_| ())
}

fn seconds(at: OffsetDateTime) -> i64 {
    at.unix_timestamp()
}

fn instant(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

//! Reads orders by the user's query, in a snapshot that holds what caused the read.
//!
//! Invariant: nothing is answered before it is visible. The walsender sends a commit before other
//! sessions see it (and with a synchronous standby before that confirmed it), so each read asks its
//! snapshot whether the transactions are in.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};

use super::catalog::{Catalog, KeyType};
use super::session::{SourceSession, array, type_of};
use crate::capture::convert::ReadResult;
use crate::capture::pgoutput::CommitRecord;
use crate::capture::plan::{OrderTable, Plan, quoted};
use crate::postgres::{SourceError, Target};

/// Pauses between reads of what is not visible yet.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How far a replica has replayed; asked before the snapshot is taken.
const REPLAYED: &str = "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::text";
/// The snapshot, the database's clock in microseconds, and times as the shop's clocks show them.
const SNAPSHOT: &str = "
    SELECT pg_current_snapshot()::text, pg_is_in_recovery(), n.now, (
        SELECT json_object_agg(t, timestamptz '1970-01-01 00:00:00Z' + t * interval '1 microsecond')
        FROM unnest($1 || n.now) t
    ) FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now OFFSET 0) n";
/// Orders that are read to rehearse.
const SAMPLE: usize = 5;
const NOTHING: &str = "SELECT WHERE false";

/// Reads orders over one session, which is made anew after each error.
pub(in crate::capture) struct OrderReader {
    target: Target,
    connect_timeout: Duration,
    session: Option<SourceSession>,
    /// Begins each read: `row_security = off` makes a policy that would hide rows an error, not a
    /// deletion.
    begin: String,
    query: String,
    /// Table of the orders and its key, as SQL has them.
    table: String,
    key: String,
    kind: KeyType,
    /// A replica must have replayed more than this: what was read before must not be taken back.
    pub(in crate::capture) floor: u64,
}

impl OrderReader {
    /// Reads by that plan; connects when first asked.
    pub(in crate::capture) fn new(target: Target, connect_timeout: Duration, plan: &Plan, kind: KeyType) -> Self {
        let of_orders = |text: fn(&OrderTable) -> String| plan.orders.as_ref().map(text).unwrap_or_default();
        Self {
            target,
            connect_timeout,
            session: None,
            begin: format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL row_security = off; SET LOCAL TimeZone = '{}'; \
                 SET LOCAL statement_timeout = '30s'; SET LOCAL datestyle = 'ISO'; SET LOCAL extra_float_digits = 1",
                plan.timezone
            ),
            query: of_orders(|orders| {
                format!("SELECT q.key::text, row_to_json(q)::text FROM ({}\n) q", orders.query.0)
            }),
            table: of_orders(|orders| orders.table.sql()),
            key: of_orders(|orders| quoted(&orders.key)),
            kind,
            floor: 0,
        }
    }

    async fn session(&mut self) -> Result<&SourceSession, SourceError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => SourceSession::connect(&self.target, self.connect_timeout).await?,
        };
        Ok(self.session.insert(session))
    }

    /// Reads these orders after these commits, each of which its snapshot holds. Those whose values
    /// the database cannot compute are found by halving. Of `clock` and the commits' times the
    /// answer has the local form.
    ///
    /// # Errors
    /// The source's; the session is given up.
    pub(in crate::capture) async fn read(
        &mut self,
        keys: &[&str],
        commits: &[CommitRecord],
        clock: i64,
    ) -> Result<ReadResult, SourceError> {
        let mut answer = ReadResult::default();
        let (query, kind) = (self.query.clone(), type_of(self.kind.array));
        let mut left = vec![keys];
        while let Some(keys) = left.pop() {
            let asked = array(keys.iter().copied());
            let params = [(&*asked, kind.clone())];
            let (sql, params) = if keys.is_empty() {
                (NOTHING, &[][..])
            } else {
                (&*query, &params[..])
            };
            match self.transaction(sql, params, commits, clock, &mut answer).await {
                Ok(rows) => {
                    for row in rows {
                        let null_key = "the query returns a NULL as `key`".to_owned();
                        let key: Option<String> = row.try_get(0)?;
                        let key = key.ok_or(SourceError::Misconfigured(null_key))?;
                        answer.rows.insert(key, row.try_get(1)?);
                    }
                }
                Err(error) if error.is_poison() => match keys {
                    [] => return Err(error),
                    [key] => drop(answer.poison.insert((*key).to_owned(), error.to_string())),
                    keys => {
                        let (first, second) = keys.split_at(keys.len() / 2);
                        left.extend([second, first]);
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    }

    /// Keys of orders that these values of a watched table lead to.
    pub(in crate::capture) async fn resolve(
        &mut self,
        sql: &str,
        kind: KeyType,
        values: &[&str],
        commits: &[CommitRecord],
    ) -> Result<Vec<String>, SourceError> {
        let sql = format!("SELECT q.key::text FROM ({sql}\n) q(key) WHERE q.key IS NOT NULL");
        self.keys(&sql, &[(&array(values.iter().copied()), type_of(kind.array))], commits)
            .await
    }

    /// The next keys of a walk.
    pub(in crate::capture) async fn page(
        &mut self,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<String>, SourceError> {
        let filter = after.map_or_else(|| "true".to_owned(), |_| format!("o.{} > $1", self.key));
        let params = Vec::from_iter(after.map(|after| (after, type_of(self.kind.scalar))));
        self.keys(&self.walk(&filter, count), &params, &[]).await
    }

    /// Keys that an operator named, as the database writes them, and whether each is an order's. A
    /// text that cannot be one is none.
    pub(in crate::capture) async fn known(&mut self, keys: &[String]) -> Result<Vec<(String, bool)>, SourceError> {
        let Self { table, key, .. } = self;
        let sql = format!(
            "SELECT k::text, EXISTS (SELECT FROM {table} o WHERE o.{key} = k) FROM unnest($1) WITH ORDINALITY u(k, n) ORDER BY n"
        );
        let (kind, mut known, mut left) = (type_of(self.kind.array), Vec::new(), vec![keys]);
        while let Some(keys) = left.pop() {
            let params = [(&*array(keys.iter().map(String::as_str)), kind.clone())];
            match (
                self.transaction(&sql, &params, &[], 0, &mut ReadResult::default())
                    .await,
                keys,
            ) {
                (Ok(rows), _) => {
                    for row in rows {
                        known.push((row.try_get(0)?, row.try_get(1)?));
                    }
                }
                (Err(error), [key]) if error.is_poison() => known.push((key.clone(), false)),
                (Err(error), keys) if error.is_poison() => {
                    let (first, second) = keys.split_at(keys.len() / 2);
                    left.extend([second, first]);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(known)
    }

    /// Runs every query of the plan on a few orders, or on none: types and rights are checked.
    pub(in crate::capture) async fn rehearse(&mut self, plan: &Plan, catalog: &Catalog) -> Result<(), SourceError> {
        if plan.orders.is_none() {
            return Ok(());
        }
        let broken = |error: SourceError| match error.is_poison() {
            true => SourceError::Misconfigured(format!("{}: the query fails without any order: {error}", plan.file)),
            false => error,
        };
        self.explain(&[]).await.map_err(broken)?;
        let keys = self.page(None, SAMPLE).await?;
        self.read(&Vec::from_iter(keys.iter().map(String::as_str)), &[], 0)
            .await?;
        for (watch, kind) in plan.watches.iter().zip(&catalog.watches) {
            if let Some(query) = &watch.orders {
                self.resolve(&query.0, *kind, &[], &[]).await?;
            }
        }
        Ok(())
    }

    /// How the server would read these orders.
    pub(in crate::capture) async fn explain(&mut self, keys: &[String]) -> Result<Value, SourceError> {
        let sql = format!("EXPLAIN (VERBOSE, FORMAT JSON) {}", self.query);
        let asked = array(keys.iter().map(String::as_str));
        let params = [(&*asked, type_of(self.kind.array))];
        let rows = self
            .transaction(&sql, &params, &[], 0, &mut ReadResult::default())
            .await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }

    /// Keys of orders for which a condition of SQL holds.
    pub(in crate::capture) async fn matching(
        &mut self,
        condition: &str,
        count: usize,
    ) -> Result<Vec<String>, SourceError> {
        self.keys(&self.walk(condition, count), &[], &[]).await
    }

    fn walk(&self, condition: &str, count: usize) -> String {
        let Self { key, table, .. } = self;
        // Qualified: a bare name would be the answer's column, and text has another order.
        format!("SELECT o.{key}::text FROM {table} o WHERE ({condition}) ORDER BY o.{key} LIMIT {count}")
    }

    async fn keys(
        &mut self,
        sql: &str,
        params: &[(&str, Type)],
        commits: &[CommitRecord],
    ) -> Result<Vec<String>, SourceError> {
        let mut answer = ReadResult::default();
        let rows = self.transaction(sql, params, commits, 0, &mut answer).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Runs a statement in a transaction whose snapshot holds these commits; notes its clock. The
    /// session is given up after an error, unless an order's values are at fault.
    async fn transaction(
        &mut self,
        sql: &str,
        params: &[(&str, Type)],
        commits: &[CommitRecord],
        clock: i64,
        answer: &mut ReadResult,
    ) -> Result<Vec<Row>, SourceError> {
        let done = async {
            self.open(commits, clock, answer).await?;
            let session = self.session().await?;
            let (rows, ended) = tokio::join!(session.rows(sql, params), session.client.batch_execute("COMMIT"));
            let rows = rows?;
            ended?;
            Ok(rows)
        };
        let done: Result<_, SourceError> = done.await;
        if done.as_ref().is_err_and(|error| !error.is_poison()) {
            self.session = None;
        }
        done
    }

    /// Opens a transaction whose snapshot holds all of these.
    async fn open(&mut self, commits: &[CommitRecord], clock: i64, answer: &mut ReadResult) -> Result<(), SourceError> {
        let newest = commits.iter().map(|commit| commit.lsn).fold(self.floor, u64::max);
        let times = Vec::from_iter(
            commits
                .iter()
                .map(|commit| commit.time.to_string())
                .chain([clock.to_string()]),
        );
        let times = array(times.iter().map(String::as_str));
        let asked = [(&*times, Type::INT8_ARRAY)];
        let begin = self.begin.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let session = self.session().await?;
            let (replayed, began, snapshot) = tokio::join!(
                session.rows(REPLAYED, &[]),
                session.client.batch_execute(&begin),
                session.rows(SNAPSHOT, &asked)
            );
            let (replayed, snapshot) = (replayed?, began.map_err(SourceError::from).and(snapshot)?);
            let (Some(replayed), Some(row)) = (replayed.first(), snapshot.first()) else {
                return Err(SourceError::Unreachable("no snapshot".to_owned()));
            };
            let replayed: Option<String> = replayed.try_get(0)?;
            let (snapshot, is_replica): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
            let Json(local) = row.try_get(3)?;
            (answer.now, answer.local) = (row.try_get(2)?, local);
            let is_visible = if is_replica {
                replayed
                    .and_then(|lsn| lsn.parse().ok())
                    .is_some_and(|replayed: u64| replayed > newest)
            } else {
                commits.iter().all(|commit| is_in(&snapshot, commit.xid))
            };
            if is_visible {
                return Ok(());
            }
            session.client.batch_execute("ROLLBACK").await?;
            answer.invisible += 1;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether a snapshot (`xmin:xmax:xip,...`, of 64 bits) holds a transaction, of which the lower 32
/// bits are known.
fn is_in(snapshot: &str, xid: u32) -> bool {
    let low = |text: &str| text.parse::<u64>().ok().map(|full| (full & u64::from(u32::MAX)) as u32);
    let mut parts = snapshot.split(':').skip(1);
    let Some(xmax) = parts.next().and_then(low) else {
        return false;
    };
    let mut open = parts.next().unwrap_or_default().split(',').filter_map(low);
    // Wrapping: what is below is at most half the circle behind.
    let is_below = xid.wrapping_sub(xmax) > u32::MAX / 2;
    is_below && !open.any(|open| open == xid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_what_is_below_it_and_not_open() {
        for (snapshot, xid, expected) in [
            ("10:20:", 19, true),
            ("10:20:", 20, false),
            ("10:20:12,15", 15, false),
            ("10:20:12,15", 14, true),
            ("10:20:12,15", 9, true),
            // After the counter of 32 bits began anew.
            ("4294967290:4294967300:4294967298", u32::MAX, true),
            ("4294967290:4294967300:4294967298", 1, true),
            ("4294967290:4294967300:4294967298", 2, false),
            ("4294967290:4294967300:4294967298", 4, false),
        ] {
            assert_eq!(is_in(snapshot, xid), expected, "{snapshot} {xid}");
        }
    }
}

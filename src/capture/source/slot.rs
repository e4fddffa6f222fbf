//! The replication slot as an ordinary session sees it, and the canary.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::session::SourceSession;
use crate::capture::standing::SlotState;
use crate::postgres::{SourceError, Target};

/// The slot as it is; `None` where there is none.
///
/// # Errors
/// It is another program's, or the source's.
pub(in crate::capture) async fn slot(session: &SourceSession, name: &str) -> Result<Option<SlotState>, SourceError> {
    let sql = "SELECT pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::text, \
               coalesce(wal_status, '') <> 'lost' AND to_jsonb(s)->>'invalidation_reason' IS NULL \
                   AND coalesce(to_jsonb(s)->>'conflicting', 'false') <> 'true', \
               coalesce(plugin::text, ''), coalesce(database::text, ''), \
               pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                   ELSE pg_current_wal_lsn() END, restart_lsn)::bigint, safe_wal_size, wal_status, \
               (to_jsonb(s)->>'failover')::boolean, current_database()::text \
               FROM pg_replication_slots s WHERE slot_name = $1";
    let rows = session.rows(sql, &[(name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (plugin, database, here): (String, String, String) = (row.try_get(2)?, row.try_get(3)?, row.try_get(8)?);
    if plugin != "pgoutput" || database != here {
        return Err(SourceError::Misconfigured(format!(
            "the replication slot {name} belongs to the database \"{database}\" and the plugin \"{plugin}\", not to \
             \"{here}\" and pgoutput: slots are the server's, so choose another `source` in the mapping"
        )));
    }
    let confirmed: Option<String> = row.try_get(0)?;
    let bytes = |column| Ok::<_, SourceError>(row.try_get::<_, Option<i64>>(column)?.and_then(|n| n.try_into().ok()));
    Ok(Some(SlotState {
        confirmed: confirmed.and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
        is_usable: row.try_get(1)?,
        retained_bytes: bytes(4)?,
        safe_bytes: bytes(5)?,
        wal_status: row.try_get(6)?,
        is_failover: row.try_get(7)?,
    }))
}

/// Whether a standby among the hosts of the URL holds a copy of the slot that outlives a failover; `None` where none of
/// them answers as one, and before PostgreSQL 17.
pub(in crate::capture) async fn is_synced(target: &Target, within: Duration, name: &str) -> Option<bool> {
    if target.config().get_hosts().len() < 2 {
        return None;
    }
    let session = SourceSession::connect_to_standby(target, within).await.ok()?;
    // A copy is temporary until the standby has caught up with it.
    let sql = "SELECT coalesce(bool_or((to_jsonb(s)->>'synced')::boolean AND NOT temporary \
               AND to_jsonb(s)->>'invalidation_reason' IS NULL), false) \
               FROM pg_replication_slots s WHERE slot_name = $1 AND pg_is_in_recovery() \
               HAVING current_setting('server_version_num')::int >= 170000";
    let rows = session.rows(sql, &[(name, Type::TEXT)]).await.ok()?;
    rows.first()?.try_get(0).ok()
}

/// Prefix of the message that is sent through the WAL.
pub(in crate::capture) const CANARY: &str = "orderstream.canary";

/// Sends it; false on a standby, which writes no WAL.
pub(in crate::capture) async fn send_canary(session: &SourceSession) -> Result<bool, SourceError> {
    let sql =
        "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_logical_emit_message(false, $1, '') END IS NOT NULL";
    let rows = session.rows(sql, &[(CANARY, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

/// Removes the slot, where there is one.
///
/// # Errors
/// The source's: 55006 while a process streams from it.
pub(in crate::capture) async fn drop_slot(session: &SourceSession, name: &str) -> Result<(), SourceError> {
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    session.rows(sql, &[(name, Type::TEXT)]).await.map(drop)
}

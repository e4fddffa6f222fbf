//! The tombstones in the file.

use rusqlite::{Connection, TransactionBehavior};

use super::error::WarehouseFileError;
use super::history;
use crate::warehouse::ForgottenSubject;
use crate::warehouse::forgotten::{Forgotten, SINCE, Tombstone, is_newest};

/// The newest tombstone that is known, and those behind it.
pub(super) fn tombstones(connection: &Connection, newest: &Tombstone) -> rusqlite::Result<Vec<Tombstone>> {
    let mut query = connection.prepare_cached(&history::dialect(SINCE))?;
    let rows = query.query_map([newest.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Adds tombstones. Loads and this take turns.
pub(super) fn forget(
    connection: &mut Connection,
    known: &Forgotten,
    subjects: &[ForgottenSubject],
) -> Result<(), WarehouseFileError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    loop {
        let newest = known.newest();
        let rows = tombstones(&transaction, &newest)?;
        if is_newest(&newest, &rows) {
            break;
        }
        known.learn(rows).map_err(WarehouseFileError::Operator)?;
    }
    for (shop, subject) in known.rows(subjects).map_err(WarehouseFileError::Operator)? {
        let insert = "INSERT INTO forgotten (shop, subject) VALUES (?1, ?2) ON CONFLICT (subject) DO NOTHING";
        transaction.execute(insert, (shop, subject))?;
    }
    Ok(transaction.commit()?)
}

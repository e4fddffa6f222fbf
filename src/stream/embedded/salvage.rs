//! ReadConnection what can be read of a damaged file.
//!
//! Invariants: the damaged file is not changed; only a row whose checksum holds is moved; what cannot be read for a
//! reason that passes is not taken for damage.

use std::collections::VecDeque;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params};

use super::append::ROW_BYTES;
use super::error::{self, FileError};
use super::recovery;
use super::row::unpack;
use crate::stream::Destination;

/// Places that may turn out unreadable before the rest is given up: while they are looked at, callers wait.
const MOST_FAILURES: u32 = 2_000;
/// Rows read at once, and of one transaction of the new file.
const PAGE: i64 = 500;
/// Bytes of a remembered key, and of a digest.
const KEY_BYTES: usize = 16;

/// How a table is read, upwards and downwards between two ids, and how a row of it is written.
struct Table {
    upwards: &'static str,
    downwards: &'static str,
    insert: &'static str,
}

const ENTRIES: Table = Table {
    upwards: "SELECT id, checksum, fields FROM entries WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
    downwards: "SELECT id, checksum, fields FROM entries WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?3",
    insert: "INSERT OR IGNORE INTO entries (id, checksum, fields) VALUES (?1, ?2, ?3)",
};
const LETTERS: Table = Table {
    upwards: "SELECT id, checksum, fields FROM dead_letters WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
    downwards: "SELECT id, checksum, fields FROM dead_letters WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?3",
    insert: "INSERT OR IGNORE INTO dead_letters (id, checksum, fields) VALUES (?1, ?2, ?3)",
};
const DEDUPE: Table = Table {
    upwards: "SELECT id, key, digest FROM dedupe WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
    downwards: "SELECT id, key, digest FROM dedupe WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?3",
    // It was remembered when its id says, but for one of a clock that was ahead.
    insert: "INSERT OR IGNORE INTO dedupe (id, key, digest, remembered_at)
        VALUES (?1, ?2, ?3, MIN(?1 >> 20, 1000 * unixepoch()))",
};
const AUDIT: Table = Table {
    upwards: "SELECT id, checksum, fields FROM audit WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
    downwards: "SELECT id, checksum, fields FROM audit WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?3",
    insert: "INSERT OR IGNORE INTO audit (id, checksum, fields) VALUES (?1, ?2, ?3)",
};
const ATTEMPTS: &str = "SELECT group_name, id, failed, unfinished FROM attempts";
const INSERT_ATTEMPTS: &str =
    "INSERT OR IGNORE INTO attempts (group_name, id, failed, unfinished) VALUES (?1, ?2, ?3, ?4)";
const GROUPS: &str = "SELECT name FROM consumer_groups";

/// What was moved of one table.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) rows: i64,
    pub(super) bytes: i64,
    pub(super) last_id: i64,
}

/// What was moved.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    pub(super) entries: Moved,
    pub(super) letters: Moved,
    /// Names of groups that can be read.
    pub(super) groups: Vec<String>,
}

/// Moves what can be read.
///
/// # Errors
/// The new file cannot be written, or the damaged one not be read for now; what can never be read is no error.
pub(super) fn move_rows(damaged: &Path, fresh: &mut Connection) -> Result<Salvaged, FileError> {
    let mut salvaged = Salvaged::default();
    if !recovery::exists(damaged)? {
        return Ok(salvaged);
    }
    let source = match connect(damaged) {
        Err(error) if error::is_damage(&error) => return Ok(salvaged),
        connected => connected?,
    };
    let is_entry_of = |log: Destination| {
        move |(id, checksum, fields): &Raw| match checksum {
            Value::Integer(checksum) => unpack(log, *id, blob(fields), *checksum).is_some(),
            Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => false,
        }
    };
    salvaged.entries = move_table(&source, fresh, &ENTRIES, is_entry_of(Destination::Stream))?;
    salvaged.letters = move_table(&source, fresh, &LETTERS, is_entry_of(Destination::DeadLetters))?;
    move_table(&source, fresh, &DEDUPE, |(_, key, digest)| {
        blob(key).len() == KEY_BYTES && blob(digest).len() == KEY_BYTES
    })?;
    move_table(&source, fresh, &AUDIT, is_entry_of(Destination::Stream))?;
    // Small tables, of use but not needed.
    let _ = move_attempts(&source, fresh);
    salvaged.groups = groups(&source).unwrap_or_default();
    Ok(salvaged)
}

/// `writable_schema` lets a file be read that is shorter than it says.
fn connect(damaged: &Path) -> rusqlite::Result<Connection> {
    let source = Connection::open_with_flags(
        damaged,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    source.execute_batch("PRAGMA writable_schema = ON; PRAGMA cell_size_check = ON;")?;
    Ok(source)
}

/// A row as it was read: its id and its two other columns.
type Raw = (i64, Value, Value);

/// How a page of rows ended.
enum End {
    /// There may be more.
    Open,
    /// There are no more.
    Done,
    /// The next one cannot be read.
    Damaged,
}

/// Moves a table. Where reading up from a place fails, it reads down to it from the other end, and what is left between
/// is cut in halves, the widest first: what lies between two damaged places is found that way.
fn move_table(
    source: &Connection,
    fresh: &mut Connection,
    table: &Table,
    is_sound: impl Fn(&Raw) -> bool,
) -> rusqlite::Result<Moved> {
    let mut moved = Moved::default();
    let mut gaps = VecDeque::from([(0_i64, i64::MAX)]);
    let mut failures = 0;
    'gaps: while let Some((mut first, mut last)) = gaps.pop_front() {
        for upwards in [true, false] {
            loop {
                let sql = if upwards { table.upwards } else { table.downwards };
                let (mut rows, end) = read_page(source, sql, first, last)?;
                match rows.last() {
                    Some((id, ..)) if upwards => first = id.saturating_add(1),
                    Some((id, ..)) => last = id.saturating_sub(1),
                    None => {}
                }
                rows.retain(&is_sound);
                moved.write(fresh, table, rows)?;
                match end {
                    End::Open if first <= last => {}
                    End::Open | End::Done => continue 'gaps,
                    End::Damaged => break,
                }
            }
        }
        failures += 1;
        if failures < MOST_FAILURES && first < last {
            let middle = first + (last - first) / 2;
            gaps.extend([(first, middle), (middle + 1, last)]);
        }
    }
    Ok(moved)
}

fn read_page(source: &Connection, sql: &str, first: i64, last: i64) -> rusqlite::Result<(Vec<Raw>, End)> {
    let mut page = Vec::new();
    let read = source.prepare_cached(sql).and_then(|mut query| {
        let mut rows = query.query([first, last, PAGE])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            // A row out of its order would lead back to where reading began, for ever.
            if !(first..=last).contains(&id) {
                return Ok(false);
            }
            page.push((id, row.get(1)?, row.get(2)?));
        }
        Ok(true)
    });
    let end = match read {
        Err(error) if error::is_passing(&error) => return Err(error),
        Err(_) | Ok(false) => End::Damaged,
        Ok(true) if (page.len() as i64) < PAGE => End::Done,
        Ok(true) => End::Open,
    };
    Ok((page, end))
}

impl Moved {
    fn write(&mut self, fresh: &mut Connection, table: &Table, rows: Vec<Raw>) -> rusqlite::Result<()> {
        let transaction = fresh.transaction()?;
        for (id, first, second) in rows {
            if transaction
                .prepare_cached(table.insert)?
                .execute(params![id, first, second])?
                == 1
            {
                self.rows += 1;
                self.bytes += ROW_BYTES + i64::try_from(blob(&second).len()).unwrap_or_default();
                self.last_id = self.last_id.max(id);
            }
        }
        transaction.commit()
    }
}

fn blob(value: &Value) -> &[u8] {
    match value {
        Value::Blob(blob) => blob,
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) => &[],
    }
}

fn move_attempts(source: &Connection, fresh: &Connection) -> rusqlite::Result<()> {
    let mut query = source.prepare(ATTEMPTS)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (group, id): (String, i64) = (row.get(0)?, row.get(1)?);
        let (failed, unfinished): (u32, u32) = (row.get(2)?, row.get(3)?);
        fresh.execute(INSERT_ATTEMPTS, params![group, id, failed, unfinished])?;
    }
    Ok(())
}

fn groups(source: &Connection) -> rusqlite::Result<Vec<String>> {
    source.prepare(GROUPS)?.query_map([], |row| row.get(0))?.collect()
}

//! Pages of a log for those who only look. What is damaged is left out, and said.

use rusqlite::{Connection, params};

use super::group::PAGE_BYTES;
use super::row::{id_of, row_from, row_up_to, unpack};
use crate::stream::{Destination, Order, Page, Range};

const ENTRIES: &str = "SELECT id, checksum, fields FROM entries WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3";
const NEWEST_ENTRIES: &str =
    "SELECT id, checksum, fields FROM entries WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?3";
const LETTERS: &str = "SELECT id, checksum, fields FROM dead_letters WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3";
const NEWEST_LETTERS: &str =
    "SELECT id, checksum, fields FROM dead_letters WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?3";

pub(super) fn range(connection: &Connection, range: Range) -> rusqlite::Result<Page> {
    let mut query = connection.prepare_cached(match (range.log, range.order) {
        (Destination::Stream, Order::OldestFirst) => ENTRIES,
        (Destination::Stream, Order::NewestFirst) => NEWEST_ENTRIES,
        (Destination::DeadLetters, Order::OldestFirst) => LETTERS,
        (Destination::DeadLetters, Order::NewestFirst) => NEWEST_LETTERS,
    })?;
    let most = i64::try_from(range.page()).unwrap_or(i64::MAX);
    let mut rows = query.query(params![row_from(range.from), row_up_to(range.to), most])?;
    let mut page = Page::default();
    let (mut seen, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let (id, checksum, blob) = (row.get(0)?, row.get(1)?, row.get_ref(2)?.as_bytes()?);
        (seen, bytes) = (seen + 1, bytes + blob.len());
        match unpack(range.log, id, blob, checksum) {
            Some(entry) => page.entries.push(entry),
            None => tracing::error!(id = %id_of(id), "an entry is damaged on disk: left out of what is shown"),
        }
        if seen == most || bytes > PAGE_BYTES {
            page.next = range.behind(id_of(id));
            break;
        }
    }
    Ok(page)
}

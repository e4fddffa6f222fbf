//! Reads the files of the data folder as anybody may, by plain SQL: what is left to do, and where everything ended.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row};

use super::ends::{self, Columns};
use super::oracle::{Ends, Letter, OrderState};

const ROWS: &str = "SELECT event_id, event_type, order_id, COALESCE(customer_id, ''), COALESCE(total_amount, ''), \
                    COALESCE(currency, ''), payload, raw FROM order_events";
const ORDERS: &str = "SELECT order_id, COALESCE(last_event_id, ''), (SELECT count(*) FROM order_items i \
                      WHERE i.shop = o.shop AND i.order_id = o.order_id) FROM orders o";
const BACKLOG: &str = "SELECT pending = 0 AND NOT EXISTS (SELECT 1 FROM entries WHERE id > last_delivered) \
                       FROM consumer_groups";
const OFF: &str = "SELECT count(*) FROM order_events WHERE abs(julianday(received_at) - julianday('now')) > 0.25";

fn open(file: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn all<T>(file: &Path, sql: &str, read: impl Fn(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let connection = open(file).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| read(row)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Moves what stands in a file's log into the file.
pub fn fold(file: &Path) {
    let connection = Connection::open(file).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
}

/// Whether the one group of a stream has nothing left to do.
pub fn is_read_and_acked(stream: &Path) -> bool {
    open(stream).is_ok_and(|stream| stream.query_row(BACKLOG, [], |row| row.get(0)).unwrap_or(false))
}

/// Events that were received at a time hours away from now.
pub fn received_off_the_clock(warehouse: &Path) -> u64 {
    let off = open(warehouse).unwrap().query_row(OFF, [], |row| row.get::<_, i64>(0));
    off.unwrap().try_into().unwrap()
}

/// The tables of a warehouse; no letters.
pub fn warehouse(file: &Path) -> Ends {
    let columns = |row: &Row<'_>| {
        Ok(Columns {
            event_id: row.get(0)?,
            event_type: row.get(1)?,
            order: row.get(2)?,
            customer: row.get(3)?,
            amount: row.get(4)?,
            currency: row.get(5)?,
            payload: row.get(6)?,
            raw: row.get(7)?,
        })
    };
    let state = |row: &Row<'_>| {
        Ok(OrderState {
            order: row.get(0)?,
            last_event_id: row.get(1)?,
            lines: usize::try_from(row.get::<_, i64>(2)?).unwrap(),
        })
    };
    Ends {
        rows: all(file, ROWS, columns).into_iter().map(Columns::read).collect(),
        orders: all(file, ORDERS, state),
        letters: Vec::new(),
    }
}

/// The dead letters of a stream.
pub fn letters(stream: &Path) -> Vec<Letter> {
    let blobs: Vec<Vec<u8>> = all(stream, "SELECT fields FROM dead_letters", |row| row.get(0));
    let read = blobs.iter().map(|blob| {
        let parts = parts(blob);
        let fields = parts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        ends::letter(&fields.collect())
    });
    read.collect()
}

/// A blob holds each name and each value behind its length (LEB128).
fn parts(blob: &[u8]) -> Vec<String> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < blob.len() {
        let mut length = 0;
        for shift in (0..).step_by(7) {
            let byte = blob[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        parts.push(String::from_utf8_lossy(&blob[at..at + length]).into_owned());
        at += length;
    }
    parts
}

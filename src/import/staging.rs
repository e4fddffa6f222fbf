//! `import.db`: the pieces of one file at a time, which files were imported, and the windows of a
//! shop's history that are left.
//!
//! Owns the tables. What is committed outlives the process; that it outlives the machine is not
//! needed, since the file can be read again.

mod windows;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};

pub use self::windows::{BulkWindow, ImportPlan, WindowTable};
use super::{FileState, ImportError, Piece, staging_error};
use crate::sqlite;

const TABLES: &str = "
PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = OFF;
CREATE TABLE IF NOT EXISTS file (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('staged', 'done'))
);
CREATE TABLE IF NOT EXISTS piece (
    n INTEGER PRIMARY KEY, line INTEGER NOT NULL, id TEXT, parent TEXT, is_event INTEGER NOT NULL, json TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS piece_of_parent ON piece (parent);
";
/// Pieces of one transaction.
const CHUNK: u64 = 10_000;

pub(super) struct Staging {
    path: PathBuf,
    connection: Connection,
    /// Released after the connection is closed.
    _lock: File,
}

/// The first piece of an order.
#[derive(Debug)]
pub(super) struct Root {
    n: i64,
    id: Option<String>,
    pub(super) line: u64,
    /// The event, where it is made already.
    pub(super) event: Option<String>,
    /// Else the node.
    json: String,
}

impl Staging {
    pub(super) fn open(path: &Path, restart: bool) -> Result<Self, ImportError> {
        let lock = path.with_extension("lock");
        let lock = sqlite::lock(&lock).map_err(staging_error(path))?;
        let open = || {
            crate::folder::open_file(path).map_err(sqlite::io(path))?;
            let connection = Connection::open(path)?;
            connection.execute_batch(TABLES)?;
            connection.execute_batch(windows::TABLES)?;
            if restart {
                connection.execute_batch("DELETE FROM file; DELETE FROM piece;")?;
            }
            Ok(connection)
        };
        Ok(Self {
            connection: open().map_err(staging_error(path))?,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> ImportError + use<> {
        let failed = staging_error(&self.path);
        move |error| failed(error.into())
    }

    /// What was done of a file; none where it is to be read.
    pub(super) fn state_of(&self, file: &Path, size: u64) -> Result<Option<FileState>, ImportError> {
        let mut query = self
            .connection
            .prepare("SELECT state FROM file WHERE path = ?1 AND size = ?2")
            .map_err(self.failed())?;
        let state: Option<String> = query
            .query_row(params![file.to_string_lossy(), signed(size)], |row| row.get(0))
            .optional()
            .map_err(self.failed())?;
        Ok(match state.as_deref() {
            Some("done") => Some(FileState::Done),
            Some(_) => Some(FileState::Staged(self.left()?)),
            None => None,
        })
    }

    fn left(&self) -> Result<u64, ImportError> {
        let count = "SELECT count(*) FROM piece WHERE parent IS NULL";
        let count: i64 = self
            .connection
            .query_row(count, [], |row| row.get(0))
            .map_err(self.failed())?;
        Ok(count.unsigned_abs())
    }

    /// Begins to read a file: what is left of another that was not read to its end goes.
    pub(super) fn begin(&mut self) -> Result<PieceWriter<'_>, ImportError> {
        let failed = self.failed();
        let begin = "DELETE FROM piece; DELETE FROM file WHERE state = 'staged'; BEGIN IMMEDIATE";
        self.connection.execute_batch(begin).map_err(&failed)?;
        Ok(PieceWriter {
            staging: self,
            written: 0,
        })
    }

    pub(super) fn roots(&self, most: usize) -> Result<Vec<Root>, ImportError> {
        let sql = "SELECT n, id, line, is_event, json FROM piece WHERE parent IS NULL ORDER BY n LIMIT ?1";
        let mut query = self.connection.prepare_cached(sql).map_err(self.failed())?;
        let roots = query.query_map([signed(most as u64)], |row| {
            let (is_event, json): (bool, String) = (row.get(3)?, row.get(4)?);
            Ok(Root {
                n: row.get(0)?,
                id: row.get(1)?,
                line: row.get::<_, i64>(2)?.unsigned_abs(),
                event: is_event.then(|| json.clone()),
                json,
            })
        });
        roots.and_then(Iterator::collect).map_err(self.failed())
    }

    /// The node of an order with its children; none where a piece is damaged.
    pub(super) fn order(&self, root: &Root) -> Result<Option<Value>, ImportError> {
        let Some(mut order) = serde_json::from_str::<Value>(&root.json).ok() else {
            return Ok(None);
        };
        let (mut lines, mut shipping, mut agreements) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, mut node) in self.children(root.id.as_deref())? {
            match kind.as_str() {
                "LineItem" => lines.push(node),
                "ShippingLine" => shipping.push(node),
                kind if kind.ends_with("Agreement") => {
                    let sales = self.children(node["id"].as_str())?;
                    node["sales"] = sales.into_iter().map(|(_, sale)| sale).collect();
                    agreements.push(node);
                }
                _ => {}
            }
        }
        order["lineItems"] = lines.into();
        order["shippingLines"] = shipping.into();
        // Each order has an agreement; a file without any comes from a query that did not ask.
        if !agreements.is_empty() {
            order["agreements"] = json!(agreements);
        }
        Ok(Some(order))
    }

    /// With their types: as the query names them, else by their ids.
    fn children(&self, parent: Option<&str>) -> Result<Vec<(String, Value)>, ImportError> {
        let sql = "SELECT json FROM piece WHERE parent = ?1 ORDER BY n";
        let mut query = self.connection.prepare_cached(sql).map_err(self.failed())?;
        let rows = query.query_map([parent], |row| row.get::<_, String>(0));
        let rows: Vec<String> = rows.and_then(Iterator::collect).map_err(self.failed())?;
        let nodes = rows.iter().filter_map(|json| serde_json::from_str::<Value>(json).ok());
        Ok(nodes
            .map(|node| {
                let of_id = || node["id"].as_str()?.strip_prefix("gid://shopify/")?.split('/').next();
                let kind = node["__typename"].as_str().or_else(of_id).unwrap_or_default();
                (kind.to_owned(), node)
            })
            .collect())
    }

    pub(super) fn remove(&mut self, roots: &[Root]) -> Result<(), ImportError> {
        let failed = self.failed();
        let remove = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for root in roots {
                transaction
                    .prepare_cached(
                        "DELETE FROM piece WHERE parent IN (SELECT id FROM piece WHERE parent = ?1) OR parent = ?1",
                    )?
                    .execute([&root.id])?;
                transaction
                    .prepare_cached("DELETE FROM piece WHERE n = ?1")?
                    .execute([root.n])?;
            }
            transaction.commit()
        };
        remove(&mut self.connection).map_err(failed)
    }

    pub(super) fn finish(&mut self, file: &Path) -> Result<u64, ImportError> {
        let failed = self.failed();
        let finish = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let orphans = transaction.execute("DELETE FROM piece", [])?;
            let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
            transaction.execute(
                "UPDATE file SET state = 'done' WHERE path = ?1",
                [path.to_string_lossy()],
            )?;
            transaction.commit()?;
            Ok(orphans as u64)
        };
        finish(&mut self.connection).map_err(failed)
    }
}

/// Writes the pieces of a file that is being read.
pub(super) struct PieceWriter<'s> {
    staging: &'s mut Staging,
    written: u64,
}

impl PieceWriter<'_> {
    pub(super) fn add(&mut self, line: u64, piece: &Piece) -> Result<(), ImportError> {
        let write = |connection: &Connection, renew: bool| {
            let insert = "INSERT INTO piece (line, id, parent, is_event, json) VALUES (?1, ?2, ?3, ?4, ?5)";
            let row = params![signed(line), piece.id, piece.parent, piece.is_event, piece.json];
            connection.prepare_cached(insert)?.execute(row)?;
            if renew {
                connection.execute_batch("COMMIT; BEGIN IMMEDIATE")
            } else {
                Ok(())
            }
        };
        self.written += 1;
        let renew = self.written.is_multiple_of(CHUNK);
        write(&self.staging.connection, renew).map_err(self.staging.failed())
    }

    pub(super) fn commit(self, file: &Path, size: u64) -> Result<FileState, ImportError> {
        let insert = "INSERT OR REPLACE INTO file (path, size, state) VALUES (?1, ?2, 'staged')";
        let connection = &self.staging.connection;
        let row = params![file.to_string_lossy(), signed(size)];
        let committed = connection
            .execute(insert, row)
            .and_then(|_| connection.execute_batch("COMMIT"));
        committed.map_err(self.staging.failed())?;
        Ok(FileState::Staged(self.staging.left()?))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

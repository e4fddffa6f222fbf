//! The file: opened when it is needed, one connection, one job at a time on a thread that may
//! block.
//!
//! Invariants: what was committed is on disk (`synchronous=FULL`), in a file that its name led to
//! at that time; waits for other programs' locks end; a damaged file is left as it is until a load
//! sets it aside.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::WarehouseFileError;
use crate::metrics::Metrics;
use crate::sqlite::{self, ErrorCause, FileError, LeftLog, LogBound, LossCount, Moved, OpenFile, Options, cause};
use crate::telemetry::PanicPlace;

/// Longest wait for another program's write lock; after it the entries stay pending, and the load
/// is tried again.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

const OPTIONS: Options = Options {
    busy: BUSY_LIMIT,
    new_file: "",
    connection: "PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -32768;",
};

const EVENTS: &str = "SELECT COUNT(*) FROM order_events";
/// Rows are only ever appended, so that the last one's number is that of all.
const LAST_ROW: &str = "SELECT MAX(rowid) FROM order_events";

/// A file, and its connection as soon as there is one.
pub(super) struct DatabaseFile {
    path: PathBuf,
    slot: Arc<Mutex<Slot>>,
    metrics: Option<Metrics>,
}

/// What is known of the file.
#[derive(Default)]
struct Slot {
    open: Option<OpenDatabase>,
    left_log: LeftLog,
    /// What was found, where it is damaged and has not been set aside.
    damage: Option<FileError>,
}

impl DatabaseFile {
    /// Touches nothing yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            slot: Arc::default(),
            metrics: None,
        }
    }

    /// Counts there what a damaged file loses.
    pub(super) fn counted(self, metrics: &Metrics) -> Self {
        Self {
            metrics: Some(metrics.clone()),
            ..self
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the job with the connection. It runs to its end even where the caller does not wait for
    /// it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, WarehouseFileError> + Send + 'static,
    ) -> Result<T, WarehouseFileError> {
        let (path, metrics) = (self.path.clone(), self.metrics.clone());
        self.blocking(move |slot| slot.run(&path, metrics.as_ref(), job)).await
    }

    /// Gives a damaged file another name: the next job makes a new one. Says and counts what it
    /// held.
    pub(super) async fn set_aside(&self) -> Result<(), WarehouseFileError> {
        let (path, metrics) = (self.path.clone(), self.metrics.clone());
        self.blocking(move |slot| slot.set_aside(&path, metrics.as_ref())).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Slot) -> Result<T, WarehouseFileError> + Send + 'static,
    ) -> Result<T, WarehouseFileError> {
        let mut slot: OwnedMutexGuard<Slot> = Arc::clone(&self.slot).lock_owned().await;
        let running = tokio::task::spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| job(&mut slot))).map_err(|panic| PanicPlace::of(&*panic))
        });
        match running.await {
            Ok(Ok(outcome)) => outcome,
            // Whoever asked for the job panics, as if it had run there.
            Ok(Err(place)) => resume_unwind(Box::<PanicPlace>::new(place)),
            Err(_) => Err(WarehouseFileError::Stopping),
        }
    }
}

impl Slot {
    fn run<T>(
        &mut self,
        path: &Path,
        metrics: Option<&Metrics>,
        job: impl FnOnce(&mut Connection) -> Result<T, WarehouseFileError>,
    ) -> Result<T, WarehouseFileError> {
        if let Some(damage) = &self.damage {
            return Err(WarehouseFileError::Damaged(damage.to_string()));
        }
        self.watch()?;
        let kept = self.open.take();
        let opened = kept.map_or_else(|| OpenDatabase::new(path, &mut self.left_log, metrics), Ok);
        let mut open = match opened {
            Err(error) if error.is_damage() => return Err(self.found(error)),
            opened => opened.map_err(WarehouseFileError::File)?,
        };
        let outcome = job(&mut open.connection);
        match outcome {
            Err(WarehouseFileError::File(error)) if error.is_damage() => Err(self.found(error)),
            outcome => {
                if outcome
                    .as_ref()
                    .err()
                    .is_none_or(WarehouseFileError::leaves_connection_sound)
                {
                    open.log.enforce(&open.connection);
                    self.open = Some(open);
                }
                // What is confirmed is in a file that can be found.
                self.watch()?;
                outcome
            }
        }
    }

    /// Sees whether the names still lead to the files that are open. Where they do not, nothing is
    /// loaded: what is written into a removed file is lost. It stays open, so that what it holds
    /// can be saved.
    fn watch(&mut self) -> Result<(), WarehouseFileError> {
        let Some(open) = &self.open else { return Ok(()) };
        match open.files.moved() {
            None => Ok(()),
            Some(Moved::LogRemoved) if sqlite::empty_log(&open.connection, BUSY_LIMIT)? => {
                tracing::warn!("the warehouse's write-ahead log was removed: what was in it is in the file");
                self.open = None;
                Ok(())
            }
            Some(moved) => Err(WarehouseFileError::Moved(moved)),
        }
    }

    fn found(&mut self, damage: FileError) -> WarehouseFileError {
        let failure = WarehouseFileError::Damaged(damage.to_string());
        self.damage = Some(damage);
        failure
    }

    fn set_aside(&mut self, path: &Path, metrics: Option<&Metrics>) -> Result<(), WarehouseFileError> {
        let Some(damage) = &self.damage else { return Ok(()) };
        let lost = match damage {
            FileError::Lost(_) => LossCount::Unknown,
            FileError::Sql(_)
            | FileError::Damaged(_)
            | FileError::Foreign(_)
            | FileError::Owned
            | FileError::NoWal(_)
            | FileError::Io { .. } => held(path)?,
        };
        tracing::error!(
            file = %path.display(), %damage, %lost,
            "the warehouse file is damaged: it is set aside and a new one is begun; the events that were loaded are lost \
             from here, and `orderstream replay` loads again what the stream still has"
        );
        let aside = sqlite::set_aside(path).map_err(WarehouseFileError::File)?;
        tracing::error!(
            file = %path.display(), set_aside = %aside.display(),
            "a damaged file was set aside: `sqlite3 FILE .recover` shows what it holds (OPERATIONS.md)"
        );
        count(metrics, lost);
        self.damage = None;
        self.left_log = LeftLog::Whole;
        Ok(())
    }
}

/// How many events a damaged file has.
fn held(path: &Path) -> Result<LossCount, WarehouseFileError> {
    let number = |connection: &Connection, sql: &str| {
        let read = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        match read {
            Ok(number) => Ok(Some(number.unwrap_or_default().unsigned_abs())),
            Err(error) if matches!(cause(&error), ErrorCause::Damaged | ErrorCause::Statement) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let connection = sqlite::open_damaged(path)?;
    if let Some(events) = number(&connection, EVENTS)? {
        return Ok(LossCount::Exactly(events));
    }
    Ok(number(&connection, LAST_ROW)?.map_or(LossCount::Unknown, LossCount::AtMost))
}

fn count(metrics: Option<&Metrics>, lost: LossCount) {
    if let Some(metrics) = metrics {
        metrics.entries_lost.inc_by(lost.entries());
        metrics.losses_unknown.inc_by(lost.is_unknown().into());
    }
}

/// An open file.
struct OpenDatabase {
    connection: Connection,
    files: OpenFile,
    log: LogBound,
}

impl OpenDatabase {
    fn new(path: &Path, left: &mut LeftLog, metrics: Option<&Metrics>) -> Result<Self, FileError> {
        let connection = sqlite::open(path, &OPTIONS, left, |_| Ok(()))?;
        if left.take_cut() {
            let lost = LossCount::Unknown;
            tracing::error!(
                file = %path.display(), %lost,
                "the warehouse's write-ahead log has lost its end: the newest loads are lost; `orderstream replay` \
                 loads again what the stream still has"
            );
            count(metrics, lost);
        }
        Ok(Self {
            connection,
            files: OpenFile::at(path).map_err(sqlite::io(path))?,
            log: LogBound::new(path, BUSY_LIMIT),
        })
    }
}

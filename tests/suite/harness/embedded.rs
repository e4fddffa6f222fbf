//! A stream in a file of one's own, and what happens to that file from outside.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use orderstream::config::StreamConfig;
use orderstream::metrics::Metrics;
use orderstream::stream::StreamId;
use orderstream::stream::embedded::EmbeddedStream;
use rusqlite::Connection;
use tempfile::TempDir;

use super::folder;

pub struct EmbeddedFile {
    folder: TempDir,
    open: OnceLock<EmbeddedStream>,
}

impl EmbeddedFile {
    /// In memory where that can be had: what a commit means to a disk is no concern of most tests.
    pub fn new() -> Self {
        Self {
            folder: folder::temporary("embedded-"),
            open: OnceLock::new(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("stream.db")
    }

    /// The stream in it; opened once, seen through many configurations.
    pub fn stream(&self, config: &StreamConfig) -> EmbeddedStream {
        let open = || EmbeddedStream::open(&self.path(), config, None, Metrics::new()).unwrap();
        self.open.get_or_init(open).with(config)
    }

    /// Changes the file behind the stream's back.
    pub fn tamper(&self, sql: &str) {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        let sql = format!("BEGIN IMMEDIATE; {sql}; COMMIT;");
        connection.execute_batch(&sql).unwrap();
    }
}

/// The row of an entry.
pub fn row(id: StreamId) -> u64 {
    id.ms << 20 | id.seq
}

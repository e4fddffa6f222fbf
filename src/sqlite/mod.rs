//! SQLite files: what the embedded stream, the spool and the embedded warehouse have in common.
//!
//! Owns how a file is opened, what an error code means, when a file counts as damaged and what happens to it
//! then, and the size of the write-ahead log. Must not know any table.
//!
//! Layout on disk: `NAME`, `NAME-wal` (the write-ahead log: commits that are not in `NAME` yet) and `NAME-shm`
//! (SQLite's index of the log, shared memory). A damaged file keeps all three under `NAME.damaged-<unix seconds>`.
//!
//! Invariants:
//! - A commit has reached the disk when it returns (WAL mode, `synchronous=FULL`).
//! - The log is at most 64 MiB, unless another program keeps one transaction open.
//! - Nothing is deleted: a damaged file is renamed.
//! - Only what SQLite calls damage is damage. Missing rights, descriptors, memory or disk space, and locks of other
//!   programs, are waited for.
//!
//! Absent, and why: no checksum of pages (SQLite has none; the stream checks each entry), no second record of what
//! was committed (it would be written with each commit). That a log has lost its end is seen by SQLite's own index of
//! the log, which a killed process leaves behind.

mod checkpoint;
mod damage;
mod error;
mod identity;
mod log_index;
mod open;

pub(crate) use self::checkpoint::{LogBound, checkpoint, empty_log};
pub(crate) use self::damage::{Count, open_damaged, set_aside};
pub(crate) use self::error::{Cause, FileError, cause, io};
pub(crate) use self::identity::{Moved, OpenFile};
pub(crate) use self::open::{Opened, Opening, Options, inspect, lock, open_read_only};

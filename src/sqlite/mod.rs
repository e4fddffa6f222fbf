//! SQLite files: what the embedded stream, the spool and the embedded warehouse have in common.
//!
//! Owns how a file is opened and checked, what an error code means, what happens to a damaged file,
//! and the size of the write-ahead log. Must not know any table.
//!
//! Layout on disk: `NAME`; `NAME-wal`, the write-ahead log (commits that are not in `NAME` yet);
//! `NAME-shm`, SQLite's index of the log (shared memory). A damaged file keeps all three under
//! `NAME.damaged-<unix seconds>`.
//!
//! Invariants:
//! - A commit has reached the disk when it returns (WAL mode, `synchronous=FULL`).
//! - The log is at most 64 MiB, unless another program keeps one transaction open.
//! - Nothing is deleted: a damaged file is renamed.
//! - Only what SQLite calls damage is damage. Missing rights, descriptors, memory or disk space,
//!   and locks of other programs, are errors that pass: the caller tries again.
//!
//! Order of opening: the owner's lock, the check for a log without a file, the connection, the
//! check for a log that has lost its end, the caller's own check (is the file ours?), WAL mode,
//! SQLite's check of the pages.
//!
//! Absent, and why: no checksum of pages (SQLite has none; the stream checks each entry), no second
//! record of what was committed (it would be written with each commit). Whether a log has lost its
//! end is seen by SQLite's own index of the log, which a killed process leaves behind.

mod error;
mod open;
mod paths;
mod wal;

pub(crate) use self::error::{ErrorCause, FileError, cause, io};
pub(crate) use self::open::{Options, inspect, lock, open, open_damaged, open_read_only, overwrite_deleted};
pub(crate) use self::paths::{LossCount, Moved, OpenFile, set_aside};
pub(crate) use self::wal::{LeftLog, LogBound, checkpoint, empty_log};

//! The stream in a file: SQLite in the data folder. The only place below `stream/` with SQL.
//!
//! It serves the embedded stream and the spool, which is a stream with one reader, the drainer. It
//! must not know what an entry means. One process writes to the file; others may read it while it
//! runs, `sqlite3` for one.
//!
//! # Layout of the file
//! `stream.db` (or `spool.db`) in WAL mode with its log `-wal` and SQLite's index of the log
//! `-shm`; `crate::sqlite` has what concerns any file. Tables, all STRICT:
//!
//! - `entries`, `dead_letters`: `checksum`, and `fields` as one blob (`row.rs` has the format).
//!   The row id is `ms << 20 | seq`.
//! - `logs`: the counters of each log (0 the stream, 1 the dead letters): the newest row id, entries
//!   ever added, entries and bytes in it.
//! - `dedupe`: a dedupe key with the digest of its body, by the row id of its entry. It may outlive
//!   the entry.
//! - `consumer_groups`: `last_delivered`; `read`, the entries that it was delivered or can never
//!   get; `pending`, a count.
//! - `consumers`: the members of groups, and when each was last seen.
//! - `pending`, by group and row id: owner, time and number of deliveries of an entry that was
//!   delivered and not acked.
//! - `attempts`, by group and row id: the record of attempts at one entry.
//! - `audit`: what operators did, the newest 10,000.
//! - `commits`: one row that counts transactions and probes, for diagnosis.
//!
//! `delivered_at`, `seen` and `remembered_at` are readings of the steady clock (`clock.rs`),
//! milliseconds.
//!
//! # Invariants
//! - A call that stores has reached the disk when it returns (`synchronous=FULL`), in a file that
//!   the name led to at that time.
//! - Row ids rise strictly over both logs, also where the wall clock goes back, and over a damaged
//!   file: none is given twice. The lag of a group is `added - read`; its backlog is lag +
//!   `pending`.
//! - A dedupe key and its entry are one transaction; so are a dead letter and its ack; so are rows
//!   and their counters.
//! - One transaction has at most 256 calls and about 16 MiB. A page has about 32 MiB of entries,
//!   a claim 500 rows, a trim 5,000. The log stays below 64 MiB. A call returns within 10 s.
//! - No row whose checksum does not match is delivered; it counts as lost.
//! - A damaged file is renamed to `NAME.damaged-<unix seconds>`, a new one is begun, and the loss
//!   is logged and counted once: exactly where the counters are readable or were in memory, else at
//!   most the rows that are left, else unknown.
//! - Full disks, missing rights and foreign locks are no damage. The file is tried again after
//!   pauses of 100 ms to 15 s; until then calls are refused.
//!
//! # Order
//! Start: lock of the file, checks, tables, recovery of ids and clock from the file, the writing
//! thread. Each call goes to the thread through a bounded queue (`writer.rs`). The thread takes the
//! calls that came in while it committed, runs each in a savepoint of one transaction, commits,
//! publishes [`Stats`], which wakes readers, checks that the file still has its name, and answers.
//! Reports and pages use a read connection in one snapshot each (`reads.rs`).
//! End: the thread ends with the last handle, or by `close`, which waits for it; the connection is
//! closed before the lock is released.
//!
//! # Files
//! `stream.rs` implements the seam; `append.rs`, `group.rs`, `claim.rs`, `trim.rs` and `admin.rs`
//! are its calls, in SQL; `logs.rs` has the counters that they share, `row.rs` the format of a row,
//! `schema.rs` the tables. `writer_file.rs` has the file open, replaces it and watches its name;
//! `loss.rs` counts what a damaged one held.
//!
//! # Absent, and why
//! - No second record of what was committed: it would double the writes. Counters and SQLite's
//!   index of the log tell what is lost.
//! - No repair of a damaged file: `sqlite3 .recover` does that better (OPERATIONS.md).
//! - No polling: a reader sleeps on a watch channel until a commit.
//! - No heartbeats in the file: only the process that has it open can be a node.

mod admin;
mod append;
mod checkpointed;
mod claim;
mod clock;
mod error;
mod group;
mod logs;
mod loss;
mod reads;
mod row;
mod schema;
mod stats;
mod stream;
mod trim;
mod writer;
mod writer_file;

pub use self::stats::Stats;
pub use self::stream::EmbeddedStream;

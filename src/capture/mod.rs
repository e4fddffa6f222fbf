//! Capture: changes of the shop's own PostgreSQL into the stream. The WAL says which orders
//! changed; the user's query says what they are now.
//!
//! # Layout
//! Pure: `plan.rs` (capture.toml), `pgoutput.rs`, `tables.rs` and `changes.rs` (messages → touched
//! orders), `convert.rs` (rows → entries, event ids, versions), `record.rs` (what is stored beside
//! the stream, also what operators ask for), `standing.rs` (where a connection begins, and which
//! gap that is). Roles: `connection.rs` connects and decides, `mapping.rs` reads the file again,
//! `receiver.rs` takes messages and answers the server, `worker.rs` takes messages and stores
//! batches, `batch.rs` reads them, `upkeep.rs` is what is done between them (a walk, requests, the
//! canary), `appender.rs` stores until that is certain. `source/` is the only place with the shop's
//! SQL. `status.rs` is what is told of it, `operate.rs` what operators do.
//!
//! # Invariants
//! - Entries and position are stored in one step
//!   ([`CheckpointedWriter`](crate::stream::CheckpointedWriter)), so a restart goes on where the
//!   stream stands.
//! - Nothing is read before its transaction is visible to readers (`source/reader.rs`).
//! - Versions follow the order of reads, whatever the clocks say (`convert.rs`).
//! - The server is told a position only once it is stored, and by default 30 s later, so that what
//!   the stream loses within that time is sent again.
//! - Lost changes are noticed at the next connect, counted with a reason, and healed by a walk over
//!   all orders.
//! - Memory is bounded: 64 messages, three batches of touches, the events of two, 8 bytes for each
//!   of up to a million orders of one transaction.
//!
//! # Order of start and end
//! Plan, catalog, slot and checkpoint are looked at before the stream starts. At the end the batch
//! in hand is stored, the server is told, and the stream of changes is closed, which frees the slot
//! at once.
//!
//! # Absent, and why
//! - No stream of transactions in progress (protocol 2): it would need a buffer on disk here for
//!   what the server's reorder buffer does.
//! - No values of row images but keys: joins, TOAST and types are left to the query.
//! - No exported snapshot and no watermark in a walk: it reads what is, and the slot is older than
//!   its first read.

mod appender;
mod batch;
mod changes;
mod connection;
mod convert;
mod mapping;
pub mod operate;
mod pgoutput;
mod plan;
mod receiver;
mod record;
mod source;
mod standing;
mod status;
mod tables;
mod upkeep;
mod worker;

pub use self::connection::{Capture, CaptureError};
pub use self::plan::{InvalidPlan, Plan};
pub use self::record::ResyncRequest;
pub use self::status::{CaptureReport, CaptureState, CaptureStatus};

//! Ingest: from an event in memory to an event that is durable.
//!
//! The path between HTTP and the stream. A receipt (`Ok`) is given only after the stream confirmed
//! the append, or the spool has fsynced it.
//!
//! # Layout
//! - `admission.rs` bounds the memory of bodies and of what is made of them (bytes).
//! - `appender.rs` queues appends; `flush.rs` gathers what is queued into one call of at most
//!   `FLUSH_ENTRIES` entries and about 4 MiB; `writer.rs` sends it, one flush in flight a writer;
//!   `receipt.rs` is the answer.
//! - `breaker.rs` decides between stream and spool; `spool.rs` is the spool, an embedded stream
//!   with one reader; `spool_entry.rs` is the form of an entry in it.
//! - `drainer.rs` moves the spool into the stream (`drained.rs` is its result); `probes.rs` asks
//!   whether partitions that were away are back, `retry_queue.rs` holds what is retried later,
//!   `spool_level.rs` logs how full the spool is.
//! - `quarantine.rs` makes the dead letters of deliveries that never get into the stream, and logs
//!   them.
//! - `append_stats.rs` is what health reads; `spool_reader.rs` is what a trace reads of the spool.
//!
//! # Invariants
//! - The queue is bounded; a full one refuses at once, it never delays.
//! - An append is answered by its deadline: within `ORDERSTREAM_SPOOL_AFTER` (0.5 or 1.5 s) for the
//!   stream and 1.7 s for the spool's write, so that Shopify is answered within 3 s.
//! - An append belongs to a writer's task. A client that hangs up cancels nothing, and the memory
//!   permit is held until the entry is out of memory.
//! - A writer with nothing more to append lets the stream note what it appended within 50 ms, and
//!   so does one that ends.
//! - An unknown outcome is resent only with dedupe on; a refusal is certain, and always safe to
//!   resend.
//! - An entry leaves the spool only after the stream confirmed it. At its limit (bytes) the spool
//!   refuses; it evicts nothing.
//!
//! # Start and end
//! The spool is opened before the listeners, the writers and the drainer start after it. At the end
//! the listeners stop first; the writers then empty the queue and end; the drainer ends after them,
//! and moves what it can of what the writers spooled.
//!
//! # Absent by design
//! The spool keeps no order of its own: the version of an order decides, not its arrival. There is
//! no second format beside the stream's entry, no index and no compaction: the spool is the
//! embedded stream. Nothing here knows HTTP or Shopify.

mod admission;
mod append_stats;
mod appender;
mod breaker;
mod drained;
mod drainer;
mod flush;
mod probes;
pub mod quarantine;
mod receipt;
mod retry_queue;
mod shop_binding;
mod spool;
mod spool_entry;
mod spool_level;
mod spool_reader;
mod writer;

pub use self::admission::{Admission, ConversionPermit, MemoryPermit, SharedPermit, Shed};
pub use self::append_stats::{AppendStats, AtomicInstant};
pub use self::appender::Appender;
pub use self::breaker::{Breaker, SpoolFallback};
pub use self::drained::{DrainError, Drained};
pub use self::drainer::Drainer;
pub use self::quarantine::QuarantineLog;
pub use self::receipt::{AppendError, Receipt};
pub use self::shop_binding::ShopBinding;
pub use self::spool::{Spool, SpoolReport};
pub use self::spool_reader::{SpoolReader, SpooledEntry};

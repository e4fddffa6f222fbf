//! Health of the stream, its readers and the warehouse: figures, thresholds, one report.
//!
//! # Layout
//!
//! An [`Observation`] (`observation.rs`) holds the figures of one moment: the stream's own report,
//! the records of all nodes, and what this process counted. `checks.rs` turns it into a
//! [`HealthReport`] (`report.rs`; public contract: `GET /health`, `status --json`): one check a
//! question, each with a status and a sentence; the overall status is the worst check's.
//! `workers.rs`, `dead_letters.rs`, `partitions.rs` and `spool.rs` hold the larger checks,
//! `levels.rs` the comparison with levels. A status is reported once it has lasted for `ORDERSTREAM_HEALTH_AFTER`
//! (`debounce.rs`); `gauges.rs` shows it as metrics.
//!
//! In a running service the [`collector`] keeps the report fresh, so that probes never load the
//! stream: the stream is asked once a second for figures, and twice a second whether it takes
//! writes where no append proved it. The warehouse is asked by whoever loads into it
//! ([`WarehouseProbe`]).
//!
//! # Invariants
//!
//! - Judging is pure: clock and figures are handed in.
//! - A figure that is not known is null and its check a warning with `known: false`, never 0.
//! - The report never decides whether this process may take webhooks: that is durability's question
//!   ([`collector::Health::can_accept`]), since a slow reader must not take nodes out of service.
//!
//! HTTP is another module's.

mod api_versions;
mod capture;
mod checks;
pub mod collector;
mod dead_letters;
mod debounce;
mod gauges;
mod levels;
mod observation;
mod partitions;
mod probe;
mod recent_dead_letters;
mod recent_samples;
mod report;
mod spool;
mod status_log;
mod workers;

pub use self::checks::ids_warning;
pub use self::debounce::Debounce;
pub use self::observation::{Observation, Thresholds, observe, observe_once};
pub use self::partitions::PartitionHealth;
pub use self::probe::{Notice, WarehouseProbe};
pub use self::recent_dead_letters::{NewDeadLetters, recent_ages};
pub use self::report::{Check, HealthReport, Losses, Status};

//! The processes on one stream: one record each, with a heartbeat.
//!
//! Owns the record (public contract: `GET /api/nodes`, `status --json`), its limits in time and the
//! view that this process has of all of them. Records are kept beside the stream; `stream/` stores
//! them as text and does not know their content. A record is written every [`HEARTBEAT_EVERY`],
//! removed at a clean exit, stale after [`STALE_AFTER`] without a heartbeat, and removed by the
//! others after [`FORGET_AFTER`]. Ages are measured by the store's clock.
//!
//! What is not known is absent, never 0. Records of a later release are read as far as this one
//! understands them. Must not know HTTP, ingest, workers or Shopify: `app/node_record.rs` collects
//! the figures of this process.

mod heartbeater;
mod latency;
mod record;
mod view;
mod window;

pub use self::heartbeater::{Figures, Heartbeater, read};
pub use self::latency::Latency;
pub use self::record::{Batch, Intake, Loading, NodeRecord, NodeSecretUsage, Role, SpoolFigures, WarehouseState};
pub use self::view::{FORGET_AFTER, HEARTBEAT_EVERY, Node, NodeList, Nodes, STALE_AFTER};
pub use self::window::Totals;

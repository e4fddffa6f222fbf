//! What an operator does with the pipeline: read entries, resolve dead letters, follow one
//! order, replay history.
//!
//! Layout: `api.rs` is the seam, [`Operation`]: one implementation for each request, with its
//! answer and its route. `cli/` and `http/admin` call it; this folder names neither. `context.rs`
//! holds the stores and the permits that an operation runs with. Below are
//! - reads: `events.rs`, `dead_letters.rs` (with `fingerprint.rs` for causes),
//!   `dead_letter_export.rs`, `delivery_check.rs`, `loaded_entry.rs`, `minutes.rs`, `outcome.rs`,
//!   `sales.rs`, `secret_usage.rs`, and `trace.rs` for all that is known of one order;
//! - actions: `redrive_run.rs` (dead letters replayed or discarded, judged by `redrive.rs`) and
//!   `history.rs` (replay and rebuild), `pause.rs` and `forget.rs`, recorded by `audit.rs`, and
//!   `import.rs`, which appends events of a shop's history;
//! - `pager.rs` and `rate_limit.rs`, which bound both.
//!
//! Everything goes through the seams of stream and warehouse (and this node's spool, read-only), so
//! that servers and files work alike.
//!
//! Invariants:
//! - a read is bounded in entries, bytes and time, and its answer says how far it went; at most
//!   two run at once;
//! - an action is one step of at most 200 entries, about two seconds, whose answer says where the
//!   next one starts. A run of many steps may end between any two and be continued by any process:
//!   no table of runs is kept;
//! - a step that began runs to its end and is recorded, though its caller is gone
//!   ([`Operations::finish`] waits for it); a dry run changes and records nothing;
//! - personal fields are only in the views of one entry or dead letter, and in the exports of dead
//!   letters and of a customer.

mod api;
mod audit;
mod capture;
mod context;
mod dead_letter_export;
mod dead_letters;
mod delivery_check;
mod entry_view;
mod events;
pub mod fingerprint;
mod forget;
mod history;
mod import;
mod loaded_entry;
mod minutes;
mod outcome;
mod pager;
mod pause;
mod rate_limit;
mod redrive;
mod redrive_run;
mod sales;
mod secret_usage;
mod trace;

pub use self::api::{Carrier, Operation, Visitor};
pub use self::audit::{AuditEntry, AuditQuery};
pub use self::capture::{CaptureWalk, ResyncCapture};
pub use self::context::{Actor, Operations, OperationsError};
pub use self::dead_letter_export::{ExportDeadLetters, ExportStep, ExportedDeadLetter};
pub use self::dead_letters::{
    DeadLetterGroup, DeadLetterGroups, DeadLetterPage, DeadLetterQuery, DeadLetterSummary, DeadLetterView,
    GetDeadLetter, GroupDeadLetters, Origin,
};
pub use self::delivery_check::{DeliveryQuery, DeliveryReport};
pub use self::entry_view::{EntryContent, EntryField};
pub use self::events::{
    Consumers, EntryPage, EntryQuery, EntrySummary, EntryView, GetConsumers, GetEntry, GroupProgress,
};
pub use self::forget::{ExportPerson, ForgetRequest, ForgetRest, ForgetStep, HeldRecord, PersonExport};
pub use self::history::{HistoryStep, MissingRange, RebuildRequest, Remaining, ReplayRequest, TimeSpan};
pub use self::import::{ImportRequest, ImportStep, MOST_BYTES as MOST_IMPORT_BYTES, MOST_EVENTS as MOST_IMPORT_EVENTS};
pub use self::loaded_entry::{GetLoadedEntry, LoadedEntry};
pub use self::minutes::{GetMinutes, Minutes};
pub use self::outcome::EntryOutcome;
pub use self::pause::{PauseRequest, PauseState};
pub use self::redrive_run::{
    Action, DiscardDeadLetters, IdRange, ReplayDeadLetters, Resolution, ResolutionOutcome, ResolveRequest, ResolveStep,
};
pub use self::sales::{DaySales, GetSales, Sales, SalesOfCurrency};
pub use self::secret_usage::{SecretUsage, SecretUsageReport, counted as counted_secrets};
pub use self::trace::{TimelineEvent, TimelineStep, Trace, TraceQuery};

/// The table of operations.
pub fn visit_all(visitor: &mut impl Visitor) {
    visitor.visit::<EntryQuery>();
    visitor.visit::<GetEntry>();
    visitor.visit::<DeadLetterQuery>();
    visitor.visit::<GroupDeadLetters>();
    visitor.visit::<GetDeadLetter>();
    visitor.visit::<ExportDeadLetters>();
    visitor.visit::<ReplayDeadLetters>();
    visitor.visit::<DiscardDeadLetters>();
    visitor.visit::<GetConsumers>();
    visitor.visit::<AuditQuery>();
    visitor.visit::<TraceQuery>();
    visitor.visit::<DeliveryQuery>();
    visitor.visit::<ReplayRequest>();
    visitor.visit::<RebuildRequest>();
    visitor.visit::<GetLoadedEntry>();
    visitor.visit::<GetMinutes>();
    visitor.visit::<GetSales>();
    visitor.visit::<PauseRequest>();
    visitor.visit::<ForgetRequest>();
    visitor.visit::<ExportPerson>();
    visitor.visit::<ImportRequest>();
    visitor.visit::<ResyncCapture>();
}

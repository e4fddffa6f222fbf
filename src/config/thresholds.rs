//! Thresholds of the health report.

use std::time::Duration;

/// When one figure warns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// The lowest value that is a warning.
    pub warning: u64,
    /// The highest value that is still only a warning; above it is critical.
    pub critical: u64,
}

/// When an age warns, and when it is critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// The lowest age that is a warning.
    pub warning: Duration,
    /// The lowest age that is critical.
    pub critical: Duration,
}

/// When dead letters warn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterLevels {
    /// How long a dead letter counts as new.
    pub window: Duration,
    /// New dead letters.
    pub new: Levels,
    /// Lowest share of what was accepted within `window`, in percent, that is critical.
    pub share_percent: u64,
    /// Warn when one is unresolved for this long; `None`: never.
    pub unresolved: Option<Duration>,
}

/// Thresholds of the health report.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// How long a state must last before it is reported.
    pub after: Duration,
    /// Lowest number of pending entries that warns; `None`: one more than max(100, 2 × consumers ×
    /// read count).
    pub pending_warning: Option<u64>,
    /// Highest number of pending entries that is only a warning; `None`: 10 × max(100, 2 ×
    /// consumers × read count).
    pub pending_critical: Option<u64>,
    /// Stream length in percent of its cap.
    pub length_percent: Levels,
    /// Entries not yet read.
    pub lag: Levels,
    /// Age of the oldest entry that is unread or pending.
    pub backlog_age: Ages,
    /// Critical when no live worker has reached the warehouse for this long.
    pub warehouse_critical: Duration,
    /// Consumers with something pending that were silent for longer than `claim_idle`.
    pub idle_consumers: Levels,
    /// Dead letters, beside how near they are to their cap (`length_percent`).
    pub dead_letters: DeadLetterLevels,
    /// WAL that a capture's slot retains, bytes.
    pub capture_wal: Levels,
    /// Warn when nothing was accepted for this long; `None`: never.
    pub silence: Option<Duration>,
    /// Lowest share of requests answered 401, in percent, that warns.
    pub unauthorized_percent: u64,
}

//! Names of the keys, caps, and bounds of one call.

use std::time::Duration;

use crate::config::StreamConfig;

/// Ids of one call.
pub(super) const IDS_A_CALL: usize = 500;
/// Lifetime of the key that a probe writes.
pub(super) const PROBE_LIFETIME: Duration = Duration::from_secs(60);

/// Names and caps.
pub(super) struct Keys {
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) dead_letters: String,
    /// Failed and unfinished tries by entry.
    pub(super) attempts: String,
    pub(super) probe: String,
    /// Records of operators' actions.
    pub(super) audit: String,
    /// Records of processes.
    pub(super) nodes: String,
    /// Beginning of the names of marks, which the processes leave for each other.
    pub(super) marks: String,
    pub(super) maxlen: u64,
    pub(super) retain_acked: u64,
    pub(super) dead_letters_maxlen: u64,
    pub(super) dedupe_window: Option<Duration>,
}

impl Keys {
    pub(super) fn new(config: &StreamConfig) -> Self {
        let StreamConfig { name, group, .. } = config;
        Self {
            stream: name.clone(),
            group: group.clone(),
            dead_letters: config.dead_letters.clone(),
            attempts: format!("{name}:attempts:{group}"),
            probe: format!("{name}:probe"),
            audit: format!("{name}:audit"),
            nodes: format!("{name}:nodes"),
            marks: format!("{name}:mark:{group}:"),
            maxlen: config.maxlen,
            retain_acked: config.retain_acked,
            dead_letters_maxlen: config.dead_letters_maxlen,
            dedupe_window: config.dedupe_window,
        }
    }
}

/// As Redis takes a duration.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

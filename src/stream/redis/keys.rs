//! Names of the keys, caps, and bounds of one call.

use std::time::Duration;

use crate::config::StreamConfig;
use crate::stream::Destination;

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

    /// Name and cap of a log.
    pub(super) fn log(&self, destination: Destination) -> (&str, u64) {
        match destination {
            Destination::Stream => (&self.stream, self.maxlen),
            Destination::DeadLetters => (&self.dead_letters, self.dead_letters_maxlen),
        }
    }

    /// The hashes of a log's ids of the generation at that time (Unix milliseconds), and of the one
    /// before.
    pub(super) fn generations(&self, log: &str, now: u64) -> [String; 2] {
        [0, 1].map(|ago| self.generation(log, now, ago))
    }

    /// The hashes of both logs that no flush looks into any more, back to those that have expired.
    pub(super) fn old_generations(&self, now: u64) -> Vec<String> {
        let logs = [&self.stream, &self.dead_letters].into_iter();
        logs.flat_map(|log| [2, 3].map(|ago| self.generation(log, now, ago)))
            .collect()
    }

    fn generation(&self, log: &str, now: u64, ago: u64) -> String {
        let window = self.window();
        format!("{log}:ids:{window}:{}", (now / window).saturating_sub(ago))
    }

    /// Lifetime of a generation's hash, milliseconds: the trimmer removes it sooner, without
    /// blocking the server; this is for a stream that no process uses any more.
    pub(super) fn generation_lifetime(&self) -> u64 {
        self.window().saturating_mul(3)
    }

    /// Milliseconds; some number where dedupe is off.
    fn window(&self) -> u64 {
        self.dedupe_window.map_or(1, millis).max(1)
    }
}

/// As Redis takes a duration.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

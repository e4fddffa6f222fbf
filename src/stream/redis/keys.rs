//! Names of the keys, caps, and bounds of one call.

use std::time::Duration;

use super::placing;
use crate::config::StreamConfig;
use crate::stream::{Destination, NewEntry};

/// Ids of one call.
pub(super) const IDS_A_CALL: usize = 500;
/// Lifetime of the key that a probe writes.
pub(super) const PROBE_LIFETIME: Duration = Duration::from_secs(60);

/// The log that an entry goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum LogName {
    Partition(u16),
    /// They are in no partition.
    DeadLetters,
}

impl LogName {
    /// Where the stream has so many partitions.
    pub(super) fn of(entry: &NewEntry, partitions: u16) -> Self {
        match entry.destination {
            Destination::Stream => Self::Partition(placing::partition(entry.spread, partitions)),
            Destination::DeadLetters => Self::DeadLetters,
        }
    }

    /// Its partition; for the dead letters the first one, whose keys know them too.
    pub(super) fn partition(self) -> u16 {
        match self {
            Self::Partition(partition) => partition,
            Self::DeadLetters => 0,
        }
    }
}

/// Names and caps of one partition, and of what the partitions have in common.
pub(super) struct Keys {
    pub(super) partition: u16,
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) dead_letters: String,
    /// Failed and unfinished tries by entry.
    pub(super) attempts: String,
    probe: String,
    letter_probe: String,
    /// Records of operators' actions.
    pub(super) audit: String,
    /// Since when groups are paused.
    pub(super) paused: String,
    /// Records of minutes, by their place in a day.
    pub(super) minutes: String,
    /// Records of processes.
    pub(super) nodes: String,
    /// Numbers of partitions that processes have, and since when.
    pub(super) layout: String,
    /// Numbers of shops by domain.
    pub(super) shops: String,
    /// Beginning of the names of marks, which the processes leave for each other.
    pub(super) marks: String,
    /// Beginning of the names of this partition's ids, and of the dead letters'.
    ids: String,
    letter_ids: String,
    /// The dead letters without old bodies, while they are copied.
    pub(super) letter_copy: String,
    /// Beginning of the names of what the partitions have in common.
    common: String,
    /// Whether each log's keys are in a hash slot of their own.
    pub(super) is_tagged: bool,
    pub(super) maxlen: u64,
    pub(super) retain_acked: u64,
    pub(super) dead_letters_maxlen: u64,
    pub(super) dedupe_window: Option<Duration>,
}

impl Keys {
    /// Side keys carry the hash tag of their log once a number of partitions is set, but for a
    /// stream whose name has a tag already.
    pub(super) fn of(config: &StreamConfig, partition: u16) -> Self {
        let StreamConfig { name, group, .. } = config;
        let is_tagged = config.partitions.is_some() && !placing::has_tag(name);
        let side = |log: &str, partition| match is_tagged && !placing::has_tag(log) {
            true => placing::tag(log, partition),
            false => log.to_owned(),
        };
        let (own, common) = (side(name, partition), side(name, 0));
        let letters = side(&config.dead_letters, 0);
        let share = |total: u64| total.div_ceil(u64::from(config.partitions.unwrap_or(1).max(1)));
        Self {
            partition,
            stream: placing::stream_key(name, partition),
            group: group.clone(),
            dead_letters: config.dead_letters.clone(),
            attempts: format!("{own}:attempts:{group}"),
            probe: format!("{own}:probe"),
            letter_probe: format!("{}:probe", if is_tagged { &letters } else { &common }),
            audit: format!("{common}:audit"),
            paused: format!("{common}:paused"),
            minutes: format!("{common}:minutes"),
            nodes: format!("{common}:nodes"),
            layout: format!("{common}:partitions"),
            shops: format!("{common}:shops"),
            marks: format!("{own}:mark:{group}:"),
            ids: format!("{own}:ids"),
            letter_ids: format!("{letters}:ids"),
            letter_copy: format!("{letters}:copy"),
            is_tagged,
            common,
            maxlen: share(config.maxlen),
            retain_acked: share(config.retain_acked),
            dead_letters_maxlen: config.dead_letters_maxlen,
            dedupe_window: config.dedupe_window,
        }
    }

    /// The hash of a producer's checkpoint.
    pub(super) fn checkpoint(&self, source: &str) -> String {
        format!("{}:capture:{source}", self.common)
    }

    /// Name and cap of a log.
    pub(super) fn log(&self, log: LogName) -> (&str, u64) {
        match log {
            LogName::Partition(_) => (&self.stream, self.maxlen),
            LogName::DeadLetters => (&self.dead_letters, self.dead_letters_maxlen),
        }
    }

    /// The key that is written to learn whether writes to a log are taken, or proven.
    pub(super) fn probe(&self, log: LogName) -> &str {
        match log {
            LogName::Partition(_) => &self.probe,
            LogName::DeadLetters => &self.letter_probe,
        }
    }

    /// The hashes of a log's ids of the generation at that time (Unix milliseconds), and of the one
    /// before.
    pub(super) fn generations(&self, log: LogName, now: u64) -> [String; 2] {
        [0, 1].map(|ago| self.generation(log, now, ago))
    }

    /// The hashes of a log's ids that no flush looks into any more, back to those that have expired.
    pub(super) fn old_generations(&self, log: LogName, now: u64) -> [String; 2] {
        [2, 3].map(|ago| self.generation(log, now, ago))
    }

    fn generation(&self, log: LogName, now: u64, ago: u64) -> String {
        let window = self.window();
        let ids = match log {
            LogName::Partition(_) => &self.ids,
            LogName::DeadLetters => &self.letter_ids,
        };
        format!("{ids}:{window}:{}", (now / window).saturating_sub(ago))
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

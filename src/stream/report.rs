//! Figures that a stream reports of itself. `health/` judges them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entry::StreamId;

/// Figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct StreamReport {
    /// Entries in the stream.
    pub length: u64,
    /// Its cap.
    pub maxlen: u64,
    /// Entries ever appended, where the store counts them.
    pub entries_added: Option<u64>,
    /// Entries in the dead letters.
    pub dead_letters: u64,
    /// Dead letters ever appended, where the store counts them.
    pub dead_letters_added: Option<u64>,
    /// Age of the oldest dead letter.
    pub oldest_dead_letter: Option<Duration>,
    /// Cap of the dead letters.
    pub dead_letters_maxlen: u64,
    /// All groups on the stream; ours may be missing.
    pub groups: Vec<GroupReport>,
    /// Consumers of our group, without [`REPLAY_CONSUMER`](super::REPLAY_CONSUMER).
    pub consumers: Vec<ConsumerReport>,
    /// Age of the oldest entry that our group has not acked.
    pub oldest_backlog: Option<Duration>,
    /// Age of the oldest entry that is pending in our group.
    pub oldest_pending: Option<Duration>,
    /// Id of the newest entry.
    pub last_id: Option<StreamId>,
    /// What the store lost of what it had confirmed, since this process observes it.
    pub lost: Lost,
    /// Figures of each partition, where there are several; those above are of all that answer, and a
    /// lag is unknown where one does not.
    pub partitions: Vec<PartitionReport>,
}

impl StreamReport {
    /// Share of the cap above which a backlog stops what is not urgent, percent.
    const MOST_BACKLOG: u64 = 25;

    /// Whether the backlog is short enough that events of a shop's history may be appended, beside what
    /// happens now.
    #[must_use]
    pub fn has_room_for_history(&self) -> bool {
        let ours = self.groups.iter().find(|group| group.ours);
        let backlog = ours.map_or(self.length, |group| {
            group.lag.unwrap_or(self.length).saturating_add(group.pending)
        });
        backlog.saturating_mul(100) <= self.maxlen.saturating_mul(Self::MOST_BACKLOG)
    }
}

/// Figures of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReport {
    /// Its number.
    pub partition: u16,
    /// Key of its log.
    pub stream: String,
    /// The server that has it now, without credentials.
    pub server: String,
    /// Entries in it. Figures are `None` where it does not answer.
    pub length: Option<u64>,
    /// Not yet read by our group; `None` also where the store cannot tell cheaply.
    pub lag: Option<u64>,
    /// Read by our group and not acked.
    pub pending: Option<u64>,
    /// Age of the oldest entry that our group has not acked.
    pub oldest_backlog: Option<Duration>,
}

/// Losses by the store itself. The counts only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// How often something was lost.
    pub times: u64,
    /// Entries that our group had not acked at the last look, and those confirmed since.
    pub entries: u64,
    /// Dead letters that went with them.
    pub dead_letters: u64,
}

/// Entries that a foreign command took off our group, made pending again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What happened to the group, with the name of the command.
    pub cause: String,
    /// How many were made pending. Some of them may have been acked within the last second.
    pub entries: u64,
}

/// One consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Whether it is the configured one.
    pub ours: bool,
    /// Read and not acked.
    pub pending: u64,
    /// Not yet read; `None` where the store cannot tell cheaply.
    pub lag: Option<u64>,
    /// Last entry handed to any member.
    pub last_delivered: StreamId,
    /// Oldest entry it still needs: the first pending one, else the one after `last_delivered`.
    pub needs_from: StreamId,
}

/// One member of our group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerReport {
    /// Its name.
    pub name: String,
    /// Read by it and not acked.
    pub pending: u64,
    /// Time since it last asked for entries.
    #[serde(
        rename = "idle_seconds",
        serialize_with = "as_seconds",
        deserialize_with = "from_seconds"
    )]
    pub idle: Duration,
}

fn as_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The server and its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerReport {
    /// `redis 7.0.15`, `valkey 8.1.0`, `embedded`.
    pub product: String,
    /// Address without credentials.
    pub address: String,
    /// Its policy when memory is full; must be `noeviction`. `None` where the server does not tell.
    pub eviction_policy: Option<String>,
    /// Memory limit in bytes; 0 is none.
    pub memory_limit: Option<u64>,
    /// `always`, `everysec`, `no`, or `off` without an append-only file. `None` where the server
    /// does not tell.
    pub fsync: Option<String>,
    /// What an operator should change, each a whole sentence with its remedy.
    pub warnings: Vec<String>,
}

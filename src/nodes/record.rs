//! The record of one process: who it is, and its own figures.
//!
//! A field that is absent, or that a later release writes otherwise, is unknown and spoils no
//! other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};
use time::OffsetDateTime;

use super::latency::Latency;

/// What a process does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ingest and workers.
    Run,
    /// Only ingest.
    Serve,
    /// Only workers.
    Work,
    /// Follows a source database.
    Capture,
    /// One of a later release.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Role {
    /// The role of that command.
    #[must_use]
    pub fn of_command(name: &str) -> Self {
        serde_json::from_value(name.into()).unwrap_or_default()
    }

    /// The command.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Serve => "serve",
            Self::Work => "work",
            Self::Capture => "capture",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it loads the warehouse.
    #[must_use]
    pub fn works(self) -> bool {
        matches!(self, Self::Run | Self::Work)
    }

    /// Whether it takes webhooks.
    #[must_use]
    pub fn ingests(self) -> bool {
        matches!(self, Self::Run | Self::Serve)
    }
}

/// What a process reports of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// Host and a random part; stays the same as long as the process runs.
    pub id: String,
    /// What it does.
    pub role: Role,
    /// The machine or container.
    pub host: String,
    /// Its process id there.
    pub pid: Option<u32>,
    /// Of the program.
    pub version: String,
    /// The commit it was built from, where the build tells.
    pub commit: Option<String>,
    /// Since when it runs.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// Its public listener.
    pub listen_addr: Option<String>,
    /// Its private listener.
    pub admin_addr: Option<String>,
    /// Its members of our group.
    pub consumers: Vec<String>,
    /// Where it takes webhooks.
    pub intake: Option<Intake>,
    /// Where it loads the warehouse.
    pub loading: Option<Loading>,
    /// Where it captures a database: the figures that `/health` has of it.
    pub capture: Option<Value>,
    /// Captured events that it stored, of the last 10 s.
    pub captured_per_second: Option<f64>,
}

/// What a process accepted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intake {
    /// Events it stored or spooled, of the last 10 s.
    pub accepted_per_second: Option<f64>,
    /// Requests it answered 401, since its start.
    pub unauthorized: Option<u64>,
    /// The same in the last minute.
    pub unauthorized_per_minute: Option<u64>,
    /// Its answers by outcome, since its start; a batch counts its items.
    pub outcomes: BTreeMap<String, u64>,
    /// Use of each secret, by its place.
    pub secrets: Vec<NodeSecretUsage>,
    /// Secrets that are not in the list, which is bounded.
    pub secrets_omitted: u64,
    /// Its spool, where it has one.
    pub spool: Option<SpoolFigures>,
}

/// Use of one secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSecretUsage {
    /// The shop whose list it is in; none: the list of all.
    pub shop: Option<String>,
    /// Its place in the list; 0 is the newest.
    pub index: usize,
    /// Deliveries it verified, since the process knows it.
    pub deliveries: u64,
    /// When it verified the last one, or when the process came to know it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub unused_since: Option<OffsetDateTime>,
    /// When it verified the last one.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
}

/// The spool of one process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolFigures {
    /// Events in it.
    pub depth: Option<u64>,
    /// Bytes of them.
    pub bytes: Option<u64>,
    /// At most so many bytes.
    pub limit: Option<u64>,
    /// Age of the oldest.
    pub oldest_seconds: Option<f64>,
    /// Events lost to damage of its file, since the start.
    pub lost: Option<u64>,
    /// Whether it has room and took its last write.
    pub takes_writes: Option<bool>,
    /// `open` while new events go to the spool, else `closed`.
    pub breaker: Option<String>,
}

/// What a process loaded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loading {
    /// Events that were new to the warehouse, of the last 10 s.
    pub loaded_per_second: Option<f64>,
    /// From acceptance to commit, of the last 10 s; none where nothing was loaded.
    pub latency: Option<Latency>,
    /// Entries it sent to the dead letters, since its start.
    pub dead_lettered: Option<u64>,
    /// Whether the warehouse answers it.
    pub warehouse: Option<WarehouseState>,
    /// What the warehouse lacks of what was acked, and what to do; none where nothing is known to
    /// be missing.
    pub warehouse_loss: Option<String>,
    /// Which requests to erase a person or a shop wait, and until when; none where none does.
    pub privacy_requests: Option<String>,
    /// What is wrong with webhook subscriptions, and what to do; none where nothing is known to be.
    pub subscriptions: Option<String>,
    /// Which orders are not as the shop has them, and what to do; none where nothing is known to be
    /// wrong.
    pub reconcile: Option<String>,
    /// The load under way; none between two.
    pub batch: Option<Batch>,
}

/// Whether the warehouse answers, and since when that is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum WarehouseState {
    /// It answers.
    Reached {
        /// Since when.
        #[serde(with = "time::serde::rfc3339")]
        since: OffsetDateTime,
    },
    /// It does not.
    Away {
        /// Since when.
        #[serde(with = "time::serde::rfc3339")]
        since: OffsetDateTime,
        /// What the last try met.
        why: String,
        /// Whether it was never reached since the process started; absent in records of releases
        /// that did not tell.
        #[serde(default)]
        since_start: bool,
    },
}

/// Why it is away before the first try has ended.
const NOT_TRIED: &str = "it was not reached yet";

impl WarehouseState {
    /// Before the first try has ended.
    #[must_use]
    pub fn untried() -> Self {
        Self::Away {
            since: OffsetDateTime::now_utc(),
            why: NOT_TRIED.to_owned(),
            since_start: true,
        }
    }

    /// Whether no try has ended yet.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        matches!(self, Self::Away { why, .. } if why == NOT_TRIED)
    }
}

/// A load under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Entries in it.
    pub entries: u64,
    /// When it was handed to the warehouse.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

impl NodeRecord {
    /// The record in a JSON object. Members that are not as this release knows them are left out.
    pub(super) fn read(mut json: Value) -> Self {
        loop {
            match serde_path_to_error::deserialize(&json) {
                Ok(record) => return record,
                Err(error) if remove(&mut json, error.path()).is_some() => {}
                Err(_) => return Self::default(),
            }
        }
    }
}

/// Removes the innermost member on that path.
fn remove(json: &mut Value, path: &Path) -> Option<Value> {
    let segments = Vec::from_iter(path.iter());
    let is_key = |segment: &&Segment| matches!(segment, Segment::Map { .. });
    let (key, parents) = segments[..=segments.iter().rposition(is_key)?].split_last()?;
    let parent = parents.iter().try_fold(json, |parent, segment| match segment {
        Segment::Map { key } => parent.get_mut(key),
        Segment::Seq { index } => parent.get_mut(index),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    parent?.as_object_mut()?.remove(&key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_release_is_read_as_far_as_it_is_understood() {
        let text = r#"{"id":"a-1","role":"mirror","pid":"x","version":"9","started_at":17,"consumers":["c"],
            "intake":"none","loading":{"loaded_per_second":2.5,"warehouse":{"state":"hovering"},"batch":{"entries":3},
            "latency":{"p99_ms":7.0,"buckets":[[40,2]]}},"moon":"full"}"#;
        let record = NodeRecord::read(serde_json::from_str(text).unwrap());
        assert_eq!(
            (record.id.as_str(), record.role, record.pid),
            ("a-1", Role::Unknown, None)
        );
        assert_eq!((record.started_at, record.intake), (None, None));
        assert_eq!(record.consumers, ["c"]);
        let loading = record.loading.unwrap();
        assert_eq!((loading.loaded_per_second, loading.batch), (Some(2.5), None));
        assert_eq!(loading.warehouse, None);
        assert_eq!(loading.latency.unwrap().count(), 2);
    }

    #[test]
    fn a_record_survives_the_store() {
        let now = OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
        let record = NodeRecord {
            id: "host-1".to_owned(),
            role: Role::Work,
            started_at: Some(now),
            loading: Some(Loading {
                warehouse: Some(WarehouseState::Away {
                    since: now,
                    why: "refused".to_owned(),
                    since_start: true,
                }),
                batch: Some(Batch { entries: 5, since: now }),
                latency: Some(Latency::of_counts([(3, 1), (50, 2)])),
                ..Loading::default()
            }),
            ..NodeRecord::default()
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<NodeRecord>(&text).unwrap(), record);
    }
}

//! Entries: their ids, their fields, and an append with its outcome.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::error::StreamError;

/// Position of an entry, `ms-seq`: Unix milliseconds at append and a sequence within them; in a
/// further partition of the stream `ms-seq@partition`. Totally ordered, over all partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time of the append, milliseconds.
    pub ms: u64,
    /// Counts entries within one millisecond.
    pub seq: u64,
    /// The partition that it is in; 0 where there is one only.
    pub part: u16,
}

impl StreamId {
    /// Before every entry.
    pub const MIN: Self = Self::new(0, 0);
    /// After every entry.
    pub const MAX: Self = Self::new(u64::MAX, u64::MAX);

    /// An id of the first partition.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq, part: 0 }
    }

    /// The same in that partition.
    #[must_use]
    pub const fn with_part(self, part: u16) -> Self {
        Self { part, ..self }
    }

    /// The id right after in its partition; `None` after the last.
    #[must_use]
    pub fn successor(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_add(1).map(|ms| Self { ms, seq: 0, ..self }),
        }
    }

    /// The id right before in its partition; `None` before the first.
    #[must_use]
    pub fn predecessor(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_sub(1).map(|ms| Self {
                ms,
                seq: u64::MAX,
                ..self
            }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)?;
        match self.part {
            0 => Ok(()),
            part => write!(f, "@{part}"),
        }
    }
}

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, part) = text.split_once('@').unwrap_or((text, "0"));
        let (ms, seq) = id.split_once('-').unwrap_or((id, "0"));
        match (ms.parse(), seq.parse(), part.parse()) {
            // Rust would also read a plus sign.
            (Ok(ms), Ok(seq), Ok(part)) if !text.contains('+') => Ok(Self { ms, seq, part }),
            _ => Err(InvalidStreamId),
        }
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The text is not a stream id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stream id (milliseconds-sequence, such as 1767225600000-0)")]
pub struct InvalidStreamId;

/// Fields of one entry, in order. Names that this program writes are static; a foreign producer's
/// are kept as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(Cow<'static, str>, Bytes)>);

impl Fields {
    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Whether it holds an original body.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.get("raw").is_some()
    }

    /// Takes the original body.
    pub fn drop_body(&mut self) {
        self.0.retain(|(name, _)| !matches!(&**name, "raw" | "raw_encoding"));
    }

    /// Appends a field.
    pub fn push(&mut self, name: &'static str, value: impl Into<Bytes>) {
        self.0.push((Cow::Borrowed(name), value.into()));
    }
}

/// One entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: StreamId,
    /// Its fields, in order.
    pub fields: Fields,
}

/// One of the two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The stream that the groups read.
    Stream,
    /// The dead letters: quarantined deliveries and entries that no retry will load.
    DeadLetters,
}

/// An entry to be appended.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Which log it goes to.
    pub destination: Destination,
    /// The dedupe key. Where dedupe is on, a key is appended once per window within one
    /// destination.
    pub dedupe_key: String,
    /// Digest of the body that it came from: the same key with another digest is a conflict, not a
    /// duplicate.
    pub digest: [u8; 16],
    /// Decides the partition, where the stream has several ([`spread`](super::spread)).
    pub spread: u64,
    /// The fields to be written.
    pub fields: Fields,
}

/// The outcome of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is stored.
    Accepted(StreamId),
    /// Its key was stored before, with the same body, as this entry.
    Duplicate(StreamId),
    /// Its key was stored before, with another body, as this entry; nothing was appended.
    Conflict(StreamId),
    /// The destination is at its cap; nothing was appended.
    Full,
    /// The store refused this entry; its neighbours are not affected. The text names no content.
    Refused(String),
    /// The store has no memory for an entry of this size, though a smaller one may fit; nothing was
    /// appended.
    TooLarge(String),
    /// The store cannot append for now, for reasons other than the entry; nothing was appended. To
    /// be tried again unchanged.
    Unavailable(String),
    /// The call failed as a whole, for this entry and all others of its partition that went with it.
    /// [`StreamError::is_refused`] tells whether it certainly was not stored (then it can be sent
    /// again even without dedupe) or whether the outcome is unknown.
    Failed(Arc<StreamError>),
}

impl Appended {
    /// An error where the calls of all entries failed: the first one's.
    pub(crate) fn answered(outcomes: &[Self]) -> Result<(), StreamError> {
        match outcomes.first() {
            Some(Self::Failed(error)) if outcomes.iter().all(|one| matches!(one, Self::Failed(_))) => {
                Err(StreamError::clone(error))
            }
            _ => Ok(()),
        }
    }

    /// That failure for so many entries.
    pub(super) fn all_failed(error: StreamError, count: usize) -> Vec<Self> {
        vec![Self::Failed(Arc::new(error)); count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_ordered_over_partitions() {
        for (text, id) in [
            ("5-7", StreamId::new(5, 7)),
            ("5-7@3", StreamId::new(5, 7).with_part(3)),
            ("0-0@65535", StreamId::MIN.with_part(u16::MAX)),
        ] {
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(id.to_string(), text);
        }
        for text in ["5-7@", "5-7@65536", "5-7@+1", "5@-7", "@1", "5-7@1@2", ""] {
            assert_eq!(text.parse::<StreamId>(), Err(InvalidStreamId), "{text}");
        }
        let id = StreamId::new(5, 7);
        assert!(id < id.with_part(1) && id.with_part(9) < StreamId::new(5, 8));
        assert_eq!(id.with_part(2).successor(), Some(StreamId::new(5, 8).with_part(2)));
        assert_eq!(
            StreamId::new(5, 0).with_part(2).predecessor(),
            Some(StreamId::new(4, u64::MAX).with_part(2))
        );
    }
}

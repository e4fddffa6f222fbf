//! Entries: their ids, their fields, and an append with its outcome.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Position of an entry, `ms-seq`: Unix milliseconds at append and a sequence within them. Totally
/// ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time of the append, milliseconds.
    pub ms: u64,
    /// Counts entries within one millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Before every entry.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// After every entry.
    pub const MAX: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// The id right after; `None` after the last.
    #[must_use]
    pub fn successor(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_add(1).map(|ms| Self { ms, seq: 0 }),
        }
    }

    /// The id right before; `None` before the first.
    #[must_use]
    pub fn predecessor(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => self.ms.checked_sub(1).map(|ms| Self { ms, seq: u64::MAX }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        match (ms.parse(), seq.parse()) {
            // Rust would also read a plus sign.
            (Ok(ms), Ok(seq)) if !text.contains('+') => Ok(Self { ms, seq }),
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
}

//! Messages of the output plugin `pgoutput`, protocol version 1. Pure.
//!
//! Only what capture needs of them is taken apart: of a row, single columns on demand.

use bytes::{Buf as _, Bytes};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PgoutputMessage {
    /// A transaction follows, which is committed already.
    Begin(CommitRecord),
    /// Its end: the first position after its commit.
    Commit {
        end: u64,
    },
    /// The definition of a table, before its first change.
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<Tuple>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Tuple,
    },
    Truncate(Vec<u32>),
    /// `pg_logical_emit_message`.
    Emitted {
        is_transactional: bool,
        lsn: u64,
        prefix: String,
        content: Bytes,
    },
    /// An origin or a type.
    Other,
}

/// Which transaction a change belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitRecord {
    /// Position of its commit record.
    pub(super) lsn: u64,
    /// Time of the commit by the source's clock, Unix microseconds.
    pub(super) time: i64,
    /// Its id, without the epoch.
    pub(super) xid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// `REPLICA IDENTITY FULL`; of a root, whatever its partitions have.
    pub(super) has_full_identity: bool,
    pub(super) columns: Vec<RelationColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelationColumn {
    /// Whether old rows hold it.
    pub(super) is_in_identity: bool,
    pub(super) name: String,
    pub(super) type_oid: u32,
}

/// A row, or the replica identity of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tuple(Bytes);

/// A value of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// Unchanged and stored elsewhere (TOAST): not sent.
    Unsent,
    Text(Bytes),
}

/// The bytes are no message that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a message of pgoutput that cannot be read")]
pub(super) struct Unreadable;

/// From 1970-01-01 to 2000-01-01, which PostgreSQL counts from, microseconds.
const EPOCH: i64 = 946_684_800_000_000;

impl PgoutputMessage {
    pub(super) fn parse(mut bytes: Bytes) -> Result<Self, Unreadable> {
        read(&mut bytes).ok_or(Unreadable)
    }

    /// What changes, in the words of the metric; `None` of what changes nothing.
    pub(super) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Insert { .. } => Some("insert"),
            Self::Update { .. } => Some("update"),
            Self::Delete { .. } => Some("delete"),
            Self::Truncate(_) => Some("truncate"),
            Self::Emitted { .. } => Some("message"),
            Self::Begin(_) | Self::Commit { .. } | Self::Relation(_) | Self::Other => None,
        }
    }
}

fn read(bytes: &mut Bytes) -> Option<PgoutputMessage> {
    Some(match bytes.try_get_u8().ok()? {
        b'B' => PgoutputMessage::Begin(CommitRecord {
            lsn: bytes.try_get_u64().ok()?,
            time: bytes.try_get_i64().ok()?.saturating_add(EPOCH),
            xid: bytes.try_get_u32().ok()?,
        }),
        b'C' => {
            // Flags, and the position of the commit record.
            skip(bytes, 9)?;
            PgoutputMessage::Commit {
                end: bytes.try_get_u64().ok()?,
            }
        }
        b'R' => PgoutputMessage::Relation(relation(bytes)?),
        b'I' => {
            let relation = bytes.try_get_u32().ok()?;
            skip(bytes, 1)?;
            PgoutputMessage::Insert {
                relation,
                new: tuple(bytes)?,
            }
        }
        b'U' => {
            let relation = bytes.try_get_u32().ok()?;
            let mut old = None;
            if bytes.try_get_u8().ok()? != b'N' {
                old = Some(tuple(bytes)?);
                skip(bytes, 1)?;
            }
            let new = tuple(bytes)?;
            PgoutputMessage::Update { relation, old, new }
        }
        b'D' => {
            let relation = bytes.try_get_u32().ok()?;
            skip(bytes, 1)?;
            PgoutputMessage::Delete {
                relation,
                old: tuple(bytes)?,
            }
        }
        b'T' => {
            let count = bytes.try_get_u32().ok()?;
            skip(bytes, 1)?;
            let oids = (0..count).map(|_| bytes.try_get_u32().ok());
            PgoutputMessage::Truncate(oids.collect::<Option<_>>()?)
        }
        b'M' => {
            let is_transactional = bytes.try_get_u8().ok()? & 1 == 1;
            let lsn = bytes.try_get_u64().ok()?;
            let prefix = text(bytes)?;
            let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
            let content = take(bytes, length)?;
            PgoutputMessage::Emitted {
                is_transactional,
                lsn,
                prefix,
                content,
            }
        }
        b'O' | b'Y' => PgoutputMessage::Other,
        _ => return None,
    })
}

fn relation(bytes: &mut Bytes) -> Option<Relation> {
    let oid = bytes.try_get_u32().ok()?;
    let (schema, name) = (text(bytes)?, text(bytes)?);
    let has_full_identity = bytes.try_get_u8().ok()? == b'f';
    let count = bytes.try_get_u16().ok()?;
    let mut column = || {
        let flags = bytes.try_get_u8().ok()?;
        let name = text(bytes)?;
        let type_oid = bytes.try_get_u32().ok()?;
        skip(bytes, 4)?;
        Some(RelationColumn {
            is_in_identity: flags & 1 == 1,
            name,
            type_oid,
        })
    };
    let columns = (0..count).map(|_| column()).collect::<Option<_>>()?;
    Some(Relation {
        oid,
        schema,
        name,
        has_full_identity,
        columns,
    })
}

/// A tuple stands last but for another tuple, so that its end must be found.
fn tuple(bytes: &mut Bytes) -> Option<Tuple> {
    let whole = bytes.clone();
    let count = bytes.try_get_u16().ok()?;
    for _ in 0..count {
        value(bytes)?;
    }
    Some(Tuple(whole.slice(..whole.len() - bytes.len())))
}

fn value(bytes: &mut Bytes) -> Option<Value> {
    Some(match bytes.try_get_u8().ok()? {
        b'n' => Value::Null,
        b'u' => Value::Unsent,
        b't' => {
            let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
            Value::Text(take(bytes, length)?)
        }
        _ => return None,
    })
}

impl Tuple {
    /// The value of a column by its place; null where there is none.
    pub(super) fn get(&self, column: usize) -> Value {
        let mut bytes = self.0.clone();
        let _ = skip(&mut bytes, 2);
        for _ in 0..column {
            let _ = value(&mut bytes);
        }
        value(&mut bytes).unwrap_or(Value::Null)
    }
}

fn skip(bytes: &mut Bytes, count: usize) -> Option<()> {
    take(bytes, count).map(drop)
}

fn take(bytes: &mut Bytes, count: usize) -> Option<Bytes> {
    (count <= bytes.len()).then(|| bytes.split_to(count))
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let end = memchr::memchr(0, bytes)?;
    let text = String::from_utf8(bytes.split_to(end).into()).ok()?;
    skip(bytes, 1)?;
    Some(text)
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::{BufMut as _, BytesMut};
    use proptest::prelude::*;

    use super::*;

    /// A tuple of texts; `None` is null.
    pub(in crate::capture) fn tuple_of(values: &[Option<&str>]) -> Tuple {
        let mut bytes = BytesMut::new();
        bytes.put_u16(values.len().try_into().unwrap());
        for value in values {
            match value {
                None => bytes.put_u8(b'n'),
                Some(text) => {
                    bytes.put_u8(b't');
                    bytes.put_u32(text.len().try_into().unwrap());
                    bytes.put_slice(text.as_bytes());
                }
            }
        }
        Tuple(bytes.freeze())
    }

    #[test]
    fn an_update_with_an_old_key_is_read() {
        let mut bytes = BytesMut::new();
        bytes.put_u8(b'U');
        bytes.put_u32(16_400);
        bytes.put_u8(b'K');
        bytes.put_slice(&tuple_of(&[Some("7"), None]).0);
        bytes.put_u8(b'N');
        bytes.put_slice(&[0, 2, b't', 0, 0, 0, 1, b'8', b'u']);
        let PgoutputMessage::Update { relation, old, new } = PgoutputMessage::parse(bytes.freeze()).unwrap() else {
            panic!("no update");
        };
        let (old, eight) = (old.unwrap(), Value::Text(Bytes::from_static(b"8")));
        assert_eq!(relation, 16_400);
        assert_eq!(
            (old.get(0), old.get(1)),
            (Value::Text(Bytes::from_static(b"7")), Value::Null)
        );
        assert_eq!(
            (new.get(0), new.get(1), new.get(2)),
            (eight, Value::Unsent, Value::Null)
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..80), tag in "[BCRIUDTMOY]") {
            bytes.insert(0, tag.as_bytes()[0]);
            let _ = PgoutputMessage::parse(Bytes::from(bytes));
        }
    }
}

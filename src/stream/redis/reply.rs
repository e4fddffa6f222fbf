//! Replies of Redis → the words of the stream. Payloads are moved, never copied.

use std::borrow::Cow;

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, RedisWrite, ToRedisArgs, Value, from_redis_value};

use crate::stream::{Attempts, Delivered, Entry, Fields, StreamId};

/// As Redis knows it: the partition is a stream of its own.
impl ToRedisArgs for StreamId {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self.with_part(0));
    }
}

/// Names and values in turn.
impl ToRedisArgs for Fields {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        for (name, value) in &self.0 {
            out.write_arg(name.as_bytes());
            out.write_arg(value);
        }
    }

    fn num_of_args(&self) -> usize {
        2 * self.0.len()
    }
}

impl FromRedisValue for StreamId {
    fn from_redis_value_ref(value: &Value) -> Result<Self, ParsingError> {
        let Value::BulkString(bytes) = value else {
            return Err(ParsingError::from("not a stream id"));
        };
        let id = str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        id.ok_or_else(|| ParsingError::from("not a stream id"))
    }

    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        Self::from_redis_value_ref(&value)
    }
}

impl FromRedisValue for Entry {
    fn from_redis_value_ref(value: &Value) -> Result<Self, ParsingError> {
        Self::from_redis_value(value.clone())
    }

    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, flat): (StreamId, Vec<Bytes>) = from_redis_value(value)?;
        let mut flat = flat.into_iter();
        let mut fields = Vec::with_capacity(flat.len() / 2);
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            fields.push((Cow::Owned(String::from_utf8_lossy(&name).into_owned()), value));
        }
        Ok(Self {
            id,
            fields: Fields(fields),
        })
    }
}

impl Delivered {
    /// An entry that was never handed out before.
    pub(super) fn first_time(entry: Entry) -> Self {
        Self {
            entry,
            deliveries: 1,
            attempts: Attempts::default(),
        }
    }
}

/// The record of tries as the attempts hash holds it: `failed unfinished`; none where there is no
/// record.
pub(super) fn attempts(text: Option<&str>) -> Attempts {
    let Some((failed, unfinished)) = text.and_then(|text| text.split_once(' ')) else {
        return Attempts::default();
    };
    Attempts {
        failed: failed.parse().unwrap_or_default(),
        unfinished: unfinished.parse().unwrap_or_default(),
    }
}

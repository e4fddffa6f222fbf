//! The dead letters: how an entry becomes one, and their figures.
//!
//! They lie in a hash slot of their own, so no script names them beside a partition. The letter is
//! written before its entry is acked. Its dedupe key is the entry's, so that a call that is repeated
//! writes no second one; where the letter of that key is gone, since an operator removed it and
//! replayed the entry, another is due.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Pipeline, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;

use super::error;
use super::group::lacks_group;
use super::keys::Keys;
use super::partition::Partition;
use super::server::Server;
use super::writer::RedisWriter;
use crate::stream::{
    Appended, DeadLetter, Destination, Entry, Fields, Lost, NewEntry, StreamError, StreamId, Writer, codec,
};

/// Fields of an entry that its letter keeps: twice as many arguments would overflow the stack of
/// Lua's unpack.
const MOST_FIELDS: usize = 1900;
/// For how long figures of the dead letters are used while their number stays the same.
const VALID_FOR: Duration = Duration::from_secs(60);

/// Writes the letter and acks the entry. Answers false where the dead letters are at their cap.
pub(super) async fn write_letter(
    mut writer: RedisWriter,
    partition: &Partition,
    letters: &Server,
    letter: &DeadLetter,
) -> Result<bool, StreamError> {
    if is_settled(partition, letter.entry.id).await? {
        return Ok(true);
    }
    let mut due = new_entry(&partition.keys, letter);
    loop {
        let outcomes = writer.append(std::slice::from_ref(&due)).await;
        let letter = match outcomes.into_iter().next() {
            Some(Appended::Accepted(_)) => break,
            Some(Appended::Duplicate(letter) | Appended::Conflict(letter)) => letter,
            Some(Appended::Full) => return Ok(false),
            Some(Appended::Failed(error)) => return Err(StreamError::clone(&error)),
            Some(Appended::Refused(line)) => return Err(error::line_error(&letters.address(), &line)),
            Some(Appended::TooLarge(message) | Appended::Unavailable(message)) => {
                let code = error::OUT_OF_MEMORY.to_owned();
                return Err(StreamError::Refused { code, message });
            }
            None => return Err(StreamError::Unusable("an append had no outcome".to_owned())),
        };
        if exists(letters, &partition.keys.dead_letters, letter).await? {
            break;
        }
        due.dedupe_key = format!("{} after {}", due.dedupe_key, letter.with_part(0));
    }
    let (keys, id, mut settle) = (&partition.keys, letter.entry.id, Pipeline::new());
    settle.cmd("XACK").arg(&keys.stream).arg(&keys.group).arg(id);
    settle.cmd("HDEL").arg(&keys.attempts).arg(id);
    partition.server.query_all::<Value>(settle).await?;
    Ok(true)
}

/// An entry that stands in the stream and is not pending was settled: by this call before its
/// answer got lost, or by another consumer. One that is gone from the stream too was lost by the
/// store, and the letter is all that is left.
async fn is_settled(partition: &Partition, id: StreamId) -> Result<bool, StreamError> {
    let (server, keys) = (&partition.server, &partition.keys);
    let mut pending = redis::cmd("XPENDING");
    pending.arg(&keys.stream).arg(&keys.group).arg(id).arg(id).arg(1);
    match server.query::<Vec<Value>>(&pending).await {
        Ok(lines) if !lines.is_empty() => return Ok(false),
        Ok(_) => {}
        Err(error) if lacks_group(&error) => {}
        Err(error) => return Err(error),
    }
    exists(server, &keys.stream, id).await
}

async fn exists(server: &Server, log: &str, id: StreamId) -> Result<bool, StreamError> {
    let mut range = redis::cmd("XRANGE");
    let found: Vec<Entry> = server.query(range.arg(log).arg(id).arg(id)).await?;
    Ok(!found.is_empty())
}

fn new_entry(keys: &Keys, letter: &DeadLetter) -> NewEntry {
    let id = letter.entry.id.with_part(0).to_string();
    let mut fields = letter.entry.fields.0.clone();
    let mut error = Cow::from(&letter.error);
    let left_out = fields.len().saturating_sub(MOST_FIELDS);
    if left_out > 0 {
        fields.sort_by_key(|(name, _)| !codec::FIELDS.contains(&&**name));
        fields.truncate(MOST_FIELDS);
        error = format!("{error} ({left_out} fields of the entry are left out here)").into();
    }
    let mut fields = Fields(fields);
    for (name, value) in codec::found_by(&letter.entry.fields) {
        fields.push(name, value);
    }
    let failed_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let dedupe_key = format!("letter:{}:{id}", keys.stream);
    for (name, value) in [
        ("original_stream", keys.stream.clone()),
        ("original_id", id),
        ("failed_at", failed_at),
        ("error", error.into_owned()),
        ("attempts", letter.attempts.to_string()),
        ("consumer", letter.consumer.clone()),
    ] {
        fields.push(name, Bytes::from(value));
    }
    NewEntry {
        destination: Destination::DeadLetters,
        dedupe_key,
        digest: [0; 16],
        spread: 0,
        fields,
    }
}

/// Figures of the dead letters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DeadLetterFigures {
    pub(super) length: u64,
    /// Ever added.
    pub(super) added: Option<u64>,
    pub(super) first: Option<StreamId>,
    /// The newest id ever given.
    last: StreamId,
    /// What the store lost since this process began.
    pub(super) lost: Lost,
}

impl DeadLetterFigures {
    /// These, with what was lost since `before`. Letters that were removed one by one, or trimmed,
    /// were added all the same: fewer of them alone are no loss.
    fn after(self, before: &Self) -> Self {
        // None of the former letters is left. Had they been removed, all that is there would have
        // been added to the former count.
        let is_another = self.first.is_some_and(|first| first > before.last);
        let gone = match (before.added, self.added) {
            (Some(before_added), Some(added)) if is_another && added < before_added + self.length => before.length,
            (Some(before_added), Some(added)) => before_added.saturating_sub(added).min(before.length),
            _ => 0,
        };
        let lost = Lost {
            times: before.lost.times + u64::from(gone > 0),
            dead_letters: before.lost.dead_letters + gone,
            ..before.lost
        };
        Self { lost, ..self }
    }
}

/// The figures as they were asked for last, and when. They are asked for anew where the number of
/// letters changed, since the answer holds two bodies, which may be large. Held over a whole call:
/// figures are compared in the order of their making.
#[derive(Debug, Default)]
pub(super) struct DeadLetterMonitor(Mutex<Option<(Instant, DeadLetterFigures)>>);

impl DeadLetterMonitor {
    /// What they were when they were asked for last.
    pub(super) async fn known(&self) -> Option<DeadLetterFigures> {
        self.0.lock().await.map(|(_, known)| known)
    }

    pub(super) async fn figures(&self, server: &Server, keys: &Keys) -> Result<DeadLetterFigures, StreamError> {
        let letters = &keys.dead_letters;
        let mut known = self.0.lock().await;
        let length: u64 = server.query(redis::cmd("XLEN").arg(letters)).await?;
        if let Some((told, known)) = &*known
            && known.length == length
            && told.elapsed() < VALID_FOR
        {
            return Ok(*known);
        }
        let found = match length {
            0 if !server.query::<bool>(redis::cmd("EXISTS").arg(letters)).await? => DeadLetterFigures {
                added: Some(0),
                ..DeadLetterFigures::default()
            },
            _ => {
                let mut info = redis::cmd("XINFO");
                let info: HashMap<String, Value> = server.query(info.arg("STREAM").arg(letters)).await?;
                of_info(length, info)
            }
        };
        let before = known.map(|(_, figures)| figures).unwrap_or_default();
        let (_, figures) = known.insert((Instant::now(), found.after(&before)));
        Ok(*figures)
    }
}

fn of_info(length: u64, mut info: HashMap<String, Value>) -> DeadLetterFigures {
    let mut number = |name: &str| info.remove(name).and_then(|value| redis::from_redis_value(value).ok());
    let (length, added) = (number("length").unwrap_or(length), number("entries-added"));
    let last = info.remove("last-generated-id");
    let last = last.and_then(|id| redis::from_redis_value(id).ok()).unwrap_or_default();
    let first = info
        .remove("first-entry")
        .and_then(|entry| redis::from_redis_value::<Entry>(entry).ok());
    DeadLetterFigures {
        length,
        added,
        first: first.map(|entry| entry.id),
        last,
        lost: Lost::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_no_loss_and_what_the_store_lost_is_one() {
        let figures = |length, added| DeadLetterFigures {
            length,
            added,
            ..DeadLetterFigures::default()
        };
        let before = DeadLetterFigures {
            last: StreamId::new(7, 0),
            ..figures(10, Some(50))
        };
        let another = |length, added| DeadLetterFigures {
            first: Some(StreamId::new(8, 0)),
            ..figures(length, Some(added))
        };
        for (now, lost) in [
            // Removed one by one, to the last; trimmed, and more came.
            (figures(3, Some(50)), 0),
            (figures(0, Some(50)), 0),
            (figures(10, Some(60)), 0),
            // Deleted as a whole; and in use again.
            (figures(0, Some(0)), 10),
            (figures(3, Some(3)), 10),
            (another(45, 45), 10),
            (another(60, 60), 10),
            // All removed, and more came.
            (another(5, 60), 0),
            // A replica that lagged by two.
            (figures(8, Some(48)), 2),
            // Not known.
            (figures(3, None), 0),
        ] {
            let now = now.after(&before);
            assert_eq!(
                (now.lost.dead_letters, now.lost.times),
                (lost, u64::from(lost > 0)),
                "{now:?}"
            );
            let next = figures(now.length, now.added).after(&now);
            assert_eq!(next.lost, now.lost, "a loss is counted once");
        }
        assert_eq!(before.after(&DeadLetterFigures::default()).lost, Lost::default());
    }
}

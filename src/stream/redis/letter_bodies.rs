//! Takes the bodies of old dead letters.
//!
//! An entry of a stream cannot be changed. So the letters are copied, with the same ids and the old
//! ones without their bodies, and the copy takes the stream's place in one step, with its last id and
//! counters: lists, ages and the loss detector see the same letters as before.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue as _, Pipeline, Value};

use super::keys::{Keys, millis};
use super::scripts::{self, ScriptCall};
use super::server::Server;
use super::stream::RedisStream;
use crate::stream::{Entry, StreamError, StreamId};

/// Letters that are read at once.
const PAGE: usize = 100;
/// A copy that nobody goes on with is gone after that.
const COPY_LIFETIME: Duration = Duration::from_secs(10 * 60);

impl RedisStream {
    /// As [`crate::stream::StreamAdmin::drop_letter_bodies`].
    pub(super) async fn rewrite_letters(&self, before: StreamId) -> Result<u64, StreamError> {
        let (letters, keys) = (&self.partitions.letters, &self.partitions.at(0).keys);
        if !have_bodies(letters, keys, before).await? {
            return Ok(0);
        }
        let removed = removed(letters, keys).await?;
        let mut clear = redis::cmd("UNLINK");
        letters.query::<u64>(clear.arg(&keys.letter_copy)).await?;
        let (mut last, mut rewritten) = (StreamId::default(), 0);
        loop {
            let page = page(letters, &keys.dead_letters, last, None).await?;
            let is_full = page.len() == PAGE;
            if let Some(newest) = page.last() {
                last = newest.id;
                rewritten += copy(letters, keys, page, before).await?;
            }
            // What few came since, the script adds: it would never end to wait until none comes.
            if is_full {
                continue;
            }
            let mut swap = redis::cmd("EVALSHA");
            swap.arg(scripts::SWAP_LETTERS.hash()).arg(2);
            swap.arg(&keys.dead_letters).arg(&keys.letter_copy);
            swap.arg(removed).arg(last).arg(PAGE);
            let swap = ScriptCall {
                script: &scripts::SWAP_LETTERS,
                command: swap,
            };
            match letters.run::<i64>(&swap).await? {
                1 => return Ok(rewritten),
                0 => return Err(unusable("some were removed meanwhile: it is tried again")),
                _ => {}
            }
        }
    }
}

fn unusable(why: &str) -> StreamError {
    StreamError::Unusable(format!("bodies of old dead letters cannot be taken: {why}"))
}

/// The next letters after that one, and before another.
async fn page(
    letters: &Server,
    log: &str,
    after: StreamId,
    before: Option<StreamId>,
) -> Result<Vec<Entry>, StreamError> {
    let end = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
    let mut range = redis::cmd("XRANGE");
    range.arg(log).arg(format!("({after}")).arg(end).arg("COUNT").arg(PAGE);
    letters.query(&range).await
}

async fn have_bodies(letters: &Server, keys: &Keys, before: StreamId) -> Result<bool, StreamError> {
    let mut last = StreamId::default();
    loop {
        let page = page(letters, &keys.dead_letters, last, Some(before)).await?;
        if page.iter().any(|letter| letter.fields.has_body()) {
            return Ok(true);
        }
        let Some(newest) = page.last() else { return Ok(false) };
        last = newest.id;
    }
}

/// How many letters were removed since the first.
async fn removed(letters: &Server, keys: &Keys) -> Result<u64, StreamError> {
    let mut info = redis::cmd("XINFO");
    let info: HashMap<String, Value> = letters.query(info.arg("STREAM").arg(&keys.dead_letters)).await?;
    let figure = |name| info.get(name).and_then(|value| u64::from_redis_value_ref(value).ok());
    match (figure("entries-added"), figure("length"), figure("groups")) {
        (Some(added), Some(length), Some(0)) => Ok(added.saturating_sub(length)),
        (Some(_), Some(_), Some(_)) => Err(unusable(
            "a consumer group of another program reads the stream, and would not outlive that",
        )),
        _ => Err(unusable("XINFO STREAM lacks entries-added (Redis 7.0)")),
    }
}

/// Appends these to the copy; answers how many lost their body.
async fn copy(letters: &Server, keys: &Keys, page: Vec<Entry>, before: StreamId) -> Result<u64, StreamError> {
    let (mut pipeline, mut dropped) = (Pipeline::new(), 0);
    for mut letter in page {
        if letter.id < before && letter.fields.has_body() {
            letter.fields.drop_body();
            dropped += 1;
        }
        let add = pipeline.cmd("XADD").arg(&keys.letter_copy).arg(letter.id);
        add.arg(&letter.fields);
    }
    let lifetime = millis(COPY_LIFETIME);
    pipeline.cmd("PEXPIRE").arg(&keys.letter_copy).arg(lifetime);
    letters.query_all::<Value>(pipeline).await?;
    Ok(dropped)
}

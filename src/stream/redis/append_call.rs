//! A call of `append.lua`, and its answers.

use redis::{Cmd, RedisError, RedisResult, Value, from_redis_value};

use super::chunk::Chunk;
use super::keys::{Keys, millis};
use super::reservation::{LIFETIME, ReservationTicket};
use super::scripts;
use crate::stream::{Appended, NewEntry, StreamId};

/// The generations in which a flush looks up ids, and the flush.
pub(super) struct Dedupe<'a> {
    /// Server time at the start of the flush, Unix milliseconds.
    pub(super) now: u64,
    pub(super) ticket: &'a ReservationTicket,
}

/// What the script answers for an entry.
pub(super) enum Answer {
    Outcome(Appended),
    /// Another flush has reserved the id.
    Reserved,
    /// The id is reserved for this flush, and its entry may have been appended before, at that time
    /// (Unix milliseconds) or later.
    Search(u64),
}

impl Keys {
    pub(super) fn append_call(&self, chunk: &Chunk, entries: &[NewEntry], dedupe: Option<&Dedupe<'_>>) -> Cmd {
        let (log, cap) = self.log(chunk.log);
        let chosen = || chunk.places.iter().filter_map(|&place| entries.get(place));
        let mut call = Cmd::with_capacity(chunk.arguments, chunk.bytes);
        call.arg("EVALSHA").arg(scripts::APPEND.hash());
        match dedupe {
            Some(Dedupe { now, ticket }) => {
                call.arg(3).arg(log).arg(&self.generations(chunk.log, *now)).arg(cap);
                call.arg(self.generation_lifetime()).arg(millis(LIFETIME));
                call.arg(ticket.owner()).arg(ticket.number()).arg(ticket.under_way());
            }
            None => {
                call.arg(1).arg(log).arg(cap).arg(&[0, 0][..]).arg(&["", "", ""][..]);
            }
        }
        let mut digest = [0; 32];
        for entry in chosen() {
            // Fails only where the two lengths do not match, which are fixed.
            let _ = hex::encode_to_slice(entry.digest, &mut digest);
            call.arg(&entry.dedupe_key).arg(&digest[..]);
            call.arg(2 * entry.fields.0.len()).arg(&entry.fields);
        }
        call
    }
}

/// The answers of one call, one for each of so many entries.
pub(super) fn answers(reply: RedisResult<Value>, count: usize) -> Vec<Answer> {
    match reply.and_then(|value| Ok(from_redis_value::<Vec<String>>(value)?)) {
        Ok(texts) => {
            let unexpected = || Answer::Outcome(Appended::Refused("ERR unexpected answer of append.lua".to_owned()));
            let mut answers: Vec<_> = texts
                .iter()
                .map(|text| answer(text).unwrap_or_else(unexpected))
                .collect();
            answers.resize_with(count, unexpected);
            answers
        }
        Err(error) => {
            let line = error_line(&error);
            let refused = || Answer::Outcome(Appended::Refused(line.clone()));
            std::iter::repeat_with(refused).take(count).collect()
        }
    }
}

/// One answer.
///
/// A hash or value of ours that holds something else costs its event the recognition of a repeat, as
/// with dedupe off: the warehouse's unique event id absorbs that. To refuse the event for it would
/// lose it, and what stands there is not ours to overwrite.
fn answer(text: &str) -> Option<Answer> {
    let (kind, rest) = text.split_at_checked(1)?;
    let id = || rest.parse::<StreamId>().ok();
    let outcome = match kind {
        "a" => Appended::Accepted(id()?),
        "u" => {
            let id = id()?;
            tracing::warn!(%id, "the dedupe key of this entry holds something that is not ours: a repeat will be stored too");
            Appended::Accepted(id)
        }
        "d" => Appended::Duplicate(id()?),
        "c" => Appended::Conflict(id()?),
        "f" => Appended::Full,
        "r" => Appended::Refused(rest.to_owned()),
        "w" => return Some(Answer::Reserved),
        "s" => return rest.parse().ok().map(Answer::Search),
        _ => return None,
    };
    Some(Answer::Outcome(outcome))
}

/// The server's error as it came over the wire: code, blank, text.
pub(super) fn error_line(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
        None => "ERR unexpected answer".to_owned(),
    }
}

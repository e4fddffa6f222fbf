//! The writer: a flush is one round trip over a connection that is held from flush to flush.
//!
//! With dedupe the entries go through `append.lua`, some hundred a call; without it as plain XADDs
//! while there is ample room, and through the same script near the cap. Redis counts the arguments
//! of a call as used memory: a call that it refuses for want of memory is sent again in halves,
//! down to single entries, so that what fits is stored. Invariants: one outcome an entry, in order;
//! a flush of which nothing was taken for reasons of the server's is an error as a whole, and so is
//! one whose durability is not proven; otherwise each entry carries its own outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, from_redis_value};
use scopeguard::ScopeGuard;

use super::chunk::{Chunk, chunks, is_large};
use super::durability::Proof;
use super::keys::Keys;
use super::loss_detector::LossDetector;
use super::server::{ConnectionGuard, Server};
use super::{error, scripts};
use crate::stream::{Appended, Destination, NewEntry, StreamError, StreamId, Writer};

/// How long the last seen length of the stream may be relied on for plain XADDs.
const ROOM_FRESH: Duration = Duration::from_millis(100);

pub(super) struct RedisWriter {
    server: Arc<Server>,
    keys: Arc<Keys>,
    loss_detector: Arc<LossDetector>,
    held: Option<ConnectionGuard>,
    /// How the server behind the held connection proves what it stored, and whether it did so for
    /// the last flush.
    proof: Proof,
    proven: Result<(), StreamError>,
    /// Entries below the cap, and when that was seen; only where dedupe is off.
    room: Option<(u64, Instant)>,
}

impl RedisWriter {
    pub(super) fn new(server: Arc<Server>, keys: Arc<Keys>, loss_detector: Arc<LossDetector>) -> Self {
        Self {
            server,
            keys,
            loss_detector,
            held: None,
            proof: Proof::default(),
            proven: Ok(()),
            room: None,
        }
    }

    async fn acquire(&mut self) -> Result<ConnectionGuard, StreamError> {
        match self.held.take() {
            Some(guard) if self.server.is_current(&guard) => Ok(guard),
            _ => {
                let (guard, proof) = Proof::acquire(&self.server).await?;
                self.proof = proof;
                Ok(guard)
            }
        }
    }

    async fn flush(&mut self, guard: &mut ConnectionGuard, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError> {
        self.proven = Ok(());
        let outcomes = if self.has_ample_room(entries) {
            self.append_plainly(guard, entries).await?
        } else {
            self.append_by_script(guard, entries).await?
        };
        let outcomes = self.judge(entries, outcomes)?;
        let proven = std::mem::replace(&mut self.proven, Ok(()));
        if outcomes.iter().any(is_stored) {
            proven?;
        }
        Ok(outcomes)
    }

    /// Whether plain XADDs cannot meet the cap: so much room was there a moment ago that other
    /// writers cannot have filled it meanwhile.
    fn has_ample_room(&self, entries: &[NewEntry]) -> bool {
        self.keys.dedupe_window.is_none()
            && entries.iter().all(|entry| entry.destination == Destination::Stream)
            && self.room.is_some_and(|(room, seen)| {
                seen.elapsed() < ROOM_FRESH && room > self.keys.maxlen / 2 + entries.len() as u64
            })
    }

    async fn append_plainly(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
    ) -> Result<Vec<Appended>, StreamError> {
        let mut pipeline = Pipeline::with_capacity(entries.len() + 1);
        for entry in entries {
            pipeline.add_command(self.keys.add(entry));
        }
        let replies = self.send(guard, &mut pipeline).await?;
        let mut outcomes =
            Vec::from_iter(
                replies
                    .into_iter()
                    .map(|reply| match reply.and_then(|id| Ok(from_redis_value(id)?)) {
                        Ok(id) => Appended::Accepted(id),
                        Err(error) => Appended::Refused(error_line(&error)),
                    }),
            );
        let whole = Chunk::of_all(entries);
        if whole.lacks_memory(&outcomes) {
            self.renew(guard).await?;
            let calls = whole.halves(entries, &outcomes);
            self.call_until_answered(guard, entries, calls, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    async fn append_by_script(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
    ) -> Result<Vec<Appended>, StreamError> {
        let mut outcomes = vec![Appended::Full; entries.len()];
        self.call_until_answered(guard, entries, chunks(entries), &mut outcomes)
            .await?;
        Ok(outcomes)
    }

    /// Ends: the script is loaded once, and every other call that is sent again is smaller than it
    /// was.
    async fn call_until_answered(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        mut calls: Vec<Chunk>,
        outcomes: &mut [Appended],
    ) -> Result<(), StreamError> {
        let mut is_loaded = false;
        while !calls.is_empty() {
            let replies = self.call(guard, entries, &calls).await?;
            let (mut unknown, mut again, mut has_buffer) = (Vec::new(), Vec::new(), false);
            for (chunk, reply) in calls.into_iter().zip(replies) {
                if !is_loaded && is_unknown_script(&reply) {
                    unknown.push(chunk);
                } else {
                    place(outcomes, &chunk, reply);
                    has_buffer |= chunk.is_large && chunk.lacks_memory(outcomes);
                    again.extend(chunk.halves(entries, outcomes));
                }
            }
            if has_buffer {
                self.renew(guard).await?;
                // Each leaves another one behind.
                again.sort_by_key(|chunk| chunk.is_large);
            }
            if !unknown.is_empty() {
                let loaded = scripts::APPEND.load_async(&mut guard.connection).await;
                loaded.map_err(|error| self.server.stream_error(&error))?;
                is_loaded = true;
                again.append(&mut unknown);
            }
            calls = again;
        }
        Ok(())
    }

    /// Lets go of the buffer that a large argument left with the connection. A part of the flush
    /// may be stored, so that no error from here is a refusal of it.
    async fn renew(&mut self, guard: &mut ConnectionGuard) -> Result<(), StreamError> {
        let renewed = Proof::renew(&self.server, guard).await;
        self.proof = renewed.map_err(|error| StreamError::Unreachable {
            server: self.server.address(),
            message: error.to_string(),
        })?;
        Ok(())
    }

    async fn call(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        chunks: &[Chunk],
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let mut pipeline = Pipeline::with_capacity(chunks.len() + 1);
        for chunk in chunks {
            pipeline.add_command(self.keys.append_call(chunk, entries));
        }
        self.send(guard, &mut pipeline).await
    }

    /// One round trip; learns the room below the cap on the way, where that is of use.
    async fn send(
        &mut self,
        guard: &mut ConnectionGuard,
        pipeline: &mut Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let watches_room = self.keys.dedupe_window.is_none();
        if watches_room {
            pipeline.cmd("XLEN").arg(&self.keys.stream);
        }
        self.proof
            .ask(pipeline, &self.keys.probe, self.server.response_timeout() * 3 / 4);
        let sent = pipeline.ignore_errors().query_async(&mut guard.connection).await;
        let mut replies: Vec<RedisResult<Value>> = sent.map_err(|error| self.server.stream_error(&error))?;
        let proven = self.proof.verify(&self.server, &mut replies);
        self.proven = std::mem::replace(&mut self.proven, Ok(())).and(proven);
        if watches_room {
            let length = replies
                .pop()
                .and_then(|reply| from_redis_value::<u64>(reply.ok()?).ok());
            self.room = length.map(|length| (self.keys.maxlen.saturating_sub(length), Instant::now()));
        }
        Ok(replies)
    }

    /// Tells refusals for the server's reasons from those for an entry's own. An error where the
    /// server took nothing at all; not where only large entries found no memory, since smaller ones
    /// may.
    fn judge(&self, entries: &[NewEntry], mut outcomes: Vec<Appended>) -> Result<Vec<Appended>, StreamError> {
        let (mut is_whole, mut cause) = (true, None);
        for (entry, outcome) in entries.iter().zip(&mut outcomes) {
            let Some(error) = self.servers_refusal(outcome) else {
                is_whole = false;
                continue;
            };
            let is_too_large = error::is_out_of_memory(&error) && is_large(entry);
            *outcome = if is_too_large {
                Appended::TooLarge(error.to_string())
            } else {
                Appended::Unavailable(error.to_string())
            };
            cause = cause.or(Some(error).filter(|_| !is_too_large));
        }
        match cause {
            Some(error) if is_whole => Err(error),
            _ => Ok(outcomes),
        }
    }

    /// What a refusal means that speaks of the server or the user, not of one entry.
    fn servers_refusal(&self, outcome: &Appended) -> Option<StreamError> {
        let Appended::Refused(line) = outcome else { return None };
        error::is_the_servers(error::code_of(line)).then(|| error::line_error(&self.server.address(), line))
    }
}

#[async_trait]
impl Writer for RedisWriter {
    async fn append(&mut self, entries: &[NewEntry]) -> Result<Vec<Appended>, StreamError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let server = Arc::clone(&self.server);
        // A flush that is given up midway leaves its answer on the way: nobody else is to meet
        // that, or to wait for it.
        let mut guard = scopeguard::guard(self.acquire().await?, |guard| server.discard(guard));
        let flushed = self.flush(&mut guard, entries).await;
        let guard = ScopeGuard::into_inner(guard);
        match &flushed {
            Err(error) if super::server::breaks_connection(error) => self.server.discard(guard),
            // Back to the pool: before the next flush the server is asked again what it is able to
            // prove.
            Err(StreamError::Unconfirmed(_)) => {}
            _ => self.held = Some(guard),
        }
        let outcomes = flushed?;
        self.loss_detector.confirm(stored(entries, &outcomes));
        Ok(outcomes)
    }
}

impl Keys {
    fn add(&self, entry: &NewEntry) -> Cmd {
        let fields = &entry.fields;
        let mut add = Cmd::with_capacity(3 + 2 * fields.0.len(), self.stream.len() + 8 + fields.bytes());
        add.arg("XADD").arg(&self.stream).arg("*").arg(fields);
        add
    }

    fn append_call(&self, chunk: &Chunk, entries: &[NewEntry]) -> Cmd {
        let (log, cap) = match chunk.destination {
            Destination::Stream => (&self.stream, self.maxlen),
            Destination::DeadLetters => (&self.dead_letters, self.dead_letters_maxlen),
        };
        let window = self.dedupe_window.map_or(0, |window| window.as_millis().max(1));
        let chosen = || chunk.places.iter().filter_map(|&place| entries.get(place));
        // Of the call itself six, of an entry its key, its digest, a number and its fields.
        let arguments = 6 + chosen().map(|entry| 3 + 2 * entry.fields.0.len()).sum::<usize>();
        let mut call = Cmd::with_capacity(arguments, chunk.bytes);
        call.arg("EVALSHA").arg(scripts::APPEND.get_hash());
        if window == 0 {
            call.arg(1).arg(log);
        } else {
            call.arg(1 + chunk.places.len()).arg(log);
            let mut key = format!("{log}:dedupe:");
            let prefix = key.len();
            for entry in chosen() {
                key.truncate(prefix);
                key.push_str(&entry.dedupe_key);
                call.arg(&key);
            }
        }
        call.arg(cap).arg(u64::try_from(window).unwrap_or(u64::MAX));
        let mut digest = [0; 32];
        for entry in chosen() {
            // Fails only where the two lengths do not match, which are fixed.
            let _ = hex::encode_to_slice(entry.digest, &mut digest);
            call.arg(&digest[..]).arg(2 * entry.fields.0.len()).arg(&entry.fields);
        }
        call
    }
}

/// Whether a store is claimed, now or before.
fn is_stored(outcome: &Appended) -> bool {
    match outcome {
        Appended::Accepted(_) | Appended::Duplicate(_) | Appended::Conflict(_) => true,
        Appended::Full | Appended::Refused(_) | Appended::TooLarge(_) | Appended::Unavailable(_) => false,
    }
}

/// Ids of what is new in the stream.
fn stored(entries: &[NewEntry], outcomes: &[Appended]) -> impl Iterator<Item = StreamId> {
    entries
        .iter()
        .zip(outcomes)
        .filter_map(|(entry, outcome)| match outcome {
            Appended::Accepted(id) if entry.destination == Destination::Stream => Some(*id),
            Appended::Accepted(_)
            | Appended::Duplicate(_)
            | Appended::Conflict(_)
            | Appended::Full
            | Appended::Refused(_)
            | Appended::TooLarge(_)
            | Appended::Unavailable(_) => None,
        })
}

fn is_unknown_script(reply: &RedisResult<Value>) -> bool {
    let kind = reply.as_ref().err().map(RedisError::kind);
    kind == Some(ErrorKind::Server(ServerErrorKind::NoScript))
}

/// Writes the answers of one script call to their places.
fn place(outcomes: &mut [Appended], chunk: &Chunk, reply: RedisResult<Value>) {
    let answers = reply.and_then(|value| Ok(from_redis_value::<Vec<String>>(value)?));
    for (nth, &place) in chunk.places.iter().enumerate() {
        let outcome = match &answers {
            Ok(answers) => answers.get(nth).and_then(|answer| outcome(answer)),
            Err(error) => Some(Appended::Refused(error_line(error))),
        };
        if let Some(slot) = outcomes.get_mut(place) {
            *slot = outcome.unwrap_or_else(|| Appended::Refused("ERR unexpected answer of append.lua".to_owned()));
        }
    }
}

/// One answer of `append.lua`.
///
/// A key of ours that holds something else costs its own event the recognition of a repeat, as with
/// dedupe off: the warehouse's unique event id absorbs that. To refuse the event for it would lose
/// it, and what stands there is not ours to overwrite.
fn outcome(answer: &str) -> Option<Appended> {
    let (kind, rest) = answer.split_at_checked(1)?;
    let id = || rest.parse::<StreamId>().ok();
    match kind {
        "a" => id().map(Appended::Accepted),
        "u" => {
            let id = id()?;
            tracing::warn!(%id, "the dedupe key of this entry holds something that is not ours: a repeat will be stored too");
            Some(Appended::Accepted(id))
        }
        "d" => id().map(Appended::Duplicate),
        "c" => id().map(Appended::Conflict),
        "f" => Some(Appended::Full),
        "r" => Some(Appended::Refused(rest.to_owned())),
        _ => None,
    }
}

/// The server's error as it came over the wire: code, blank, text.
fn error_line(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
        None => "ERR unexpected answer".to_owned(),
    }
}

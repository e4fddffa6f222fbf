//! The round trips of a flush, each one pipeline: plain XADDs, or calls of `append.lua`.
//!
//! Redis counts the arguments of a call as used memory: a call that it refuses for want of memory is
//! sent again in halves, down to single entries, so that what fits is stored.

use std::time::Instant;

use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Value, from_redis_value};

use super::append_call::{Answer, Dedupe, answers, error_line, is_unknown_script};
use super::chunk::Chunk;
use super::durability::Proof;
use super::keys::Keys;
use super::scripts;
use super::server::ConnectionGuard;
use super::writer::RedisWriter;
use crate::stream::{Appended, NewEntry, StreamError};

impl RedisWriter {
    /// Answers the places that are still open: with dedupe, where a call that found no memory is
    /// made again. A round trip that others of the flush follow need not ask for proof.
    pub(super) async fn append_plainly(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        chunk: &Chunk,
        dedupe: Option<&Dedupe<'_>>,
        outcomes: &mut [Appended],
        asks_proof: bool,
    ) -> Result<Vec<usize>, StreamError> {
        let chosen = || {
            chunk
                .places
                .iter()
                .filter_map(|&place| Some((place, entries.get(place)?)))
        };
        let mut pipeline = Pipeline::with_capacity(chunk.places.len() + 3);
        for (_, entry) in chosen() {
            pipeline.add_command(self.keys.add(entry));
        }
        let replies = self.send(guard, &mut pipeline, asks_proof).await?;
        for ((place, entry), reply) in chosen().zip(replies) {
            let outcome = match reply.and_then(|id| Ok(from_redis_value(id)?)) {
                Ok(id) => {
                    if dedupe.is_some() {
                        self.unnoted.store(&entry.dedupe_key, id, entry.digest);
                    }
                    Appended::Accepted(id)
                }
                Err(error) => Appended::Refused(error_line(&error)),
            };
            if let Some(slot) = outcomes.get_mut(place) {
                *slot = outcome;
            }
        }
        if !chunk.lacks_memory(outcomes) {
            return Ok(Vec::new());
        }
        self.renew(guard).await?;
        let calls = chunk.halves(entries, outcomes);
        let open = self
            .call_until_answered(guard, entries, calls, dedupe, outcomes)
            .await?;
        Ok(open.into_iter().map(|(place, _)| place).collect())
    }

    /// Answers the places whose id is reserved: by another flush, or, with the time from which the
    /// stream is to be searched, now by this one. Ends: the script is loaded once, and every other
    /// call that is sent again is smaller than it was.
    pub(super) async fn call_until_answered(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        mut calls: Vec<Chunk>,
        dedupe: Option<&Dedupe<'_>>,
        outcomes: &mut [Appended],
    ) -> Result<Vec<(usize, Option<u64>)>, StreamError> {
        let (mut is_loaded, mut open) = (false, Vec::new());
        while !calls.is_empty() {
            let replies = self.call(guard, entries, &calls, dedupe).await?;
            let (mut unknown, mut again, mut has_buffer) = (Vec::new(), Vec::new(), false);
            for (chunk, reply) in calls.into_iter().zip(replies) {
                if !is_loaded && is_unknown_script(&reply) {
                    has_buffer |= chunk.is_large;
                    unknown.push(chunk);
                } else {
                    open.extend(place(outcomes, &chunk, reply));
                    has_buffer |= chunk.is_large && chunk.lacks_memory(outcomes);
                    again.extend(chunk.halves(entries, outcomes));
                }
            }
            if has_buffer {
                self.renew(guard).await?;
            }
            if !unknown.is_empty() {
                let loaded = scripts::APPEND.load_async(&mut guard.connection).await;
                loaded.map_err(|error| self.server.stream_error(&error))?;
                is_loaded = true;
                again.append(&mut unknown);
            }
            // Each large one leaves another buffer behind.
            again.sort_by_key(|chunk| chunk.is_large);
            calls = again;
        }
        Ok(open)
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
        dedupe: Option<&Dedupe<'_>>,
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let mut pipeline = Pipeline::with_capacity(chunks.len() + 4);
        if let Some(dedupe) = dedupe {
            let [generation, _] = self.keys.generations(&self.keys.stream, dedupe.now);
            self.unnoted.note(&mut pipeline, &generation, &self.keys);
        }
        for chunk in chunks {
            pipeline.add_command(self.keys.append_call(chunk, entries, dedupe));
        }
        let replies = self.send(guard, &mut pipeline, true).await?;
        self.unnoted.clear();
        Ok(replies)
    }

    /// One round trip, with the question for the proof of all that this connection wrote; without
    /// dedupe it learns the room below the cap on the way.
    async fn send(
        &mut self,
        guard: &mut ConnectionGuard,
        pipeline: &mut Pipeline,
        asks_proof: bool,
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let watches_room = self.keys.dedupe_window.is_none();
        if watches_room {
            pipeline.cmd("XLEN").arg(&self.keys.stream);
        }
        let proof = if asks_proof { self.proof } else { Proof::Answer };
        proof.ask(pipeline, &self.keys.probe, self.server.response_timeout() * 3 / 4);
        let mut replies = self.query(guard, pipeline).await?;
        let proven = proof.verify(&self.server, &mut replies);
        self.proven = std::mem::replace(&mut self.proven, Ok(())).and(proven);
        if watches_room {
            let length = replies.pop().and_then(read::<u64>);
            self.room = length.map(|length| (self.keys.maxlen.saturating_sub(length), Instant::now()));
        }
        Ok(replies)
    }

    pub(super) async fn query(
        &self,
        guard: &mut ConnectionGuard,
        pipeline: &mut Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let sent = pipeline.ignore_errors().query_async(&mut guard.connection).await;
        sent.map_err(|error| self.server.stream_error(&error))
    }
}

impl Keys {
    fn add(&self, entry: &NewEntry) -> Cmd {
        let fields = &entry.fields;
        let mut add = Cmd::with_capacity(3 + 2 * fields.0.len(), self.stream.len() + 8 + fields.bytes());
        add.arg("XADD").arg(&self.stream).arg("*").arg(fields);
        add
    }
}

/// The answer of a command, where it is one that it gives.
pub(super) fn read<T: FromRedisValue>(reply: RedisResult<Value>) -> Option<T> {
    from_redis_value(reply.ok()?).ok()
}

/// Writes the outcomes that one script call answers to their places; answers the other places.
fn place(outcomes: &mut [Appended], chunk: &Chunk, reply: RedisResult<Value>) -> Vec<(usize, Option<u64>)> {
    let mut open = Vec::new();
    for (&place, answer) in chunk.places.iter().zip(answers(reply, chunk.places.len())) {
        match (answer, outcomes.get_mut(place)) {
            (Answer::Outcome(outcome), Some(slot)) => *slot = outcome,
            (Answer::Outcome(_), None) => {}
            (Answer::Reserved, _) => open.push((place, None)),
            (Answer::Search(since), _) => open.push((place, Some(since))),
        }
    }
    open
}

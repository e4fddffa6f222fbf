//! The round trips of a flush, each one pipeline: plain XADDs, or calls of `append.lua`.
//!
//! Redis counts the arguments of a call as used memory: a call that it refuses for want of memory is
//! sent again in halves, down to single entries, so that what fits is stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Value, from_redis_value};

use super::append_call::{Answer, Dedupe, answers, error_line, is_unknown_script};
use super::chunk::{Chunk, chunks, halves, lack_memory};
use super::durability::Proof;
use super::keys::Keys;
use super::node::ConnectionGuard;
use super::scripts;
use super::writer::RedisWriter;
use crate::stream::{Appended, NewEntry, StreamError};

impl RedisWriter {
    /// Answers the places that are still open: with dedupe, where a call that found no memory is
    /// made again. A round trip that others of the flush follow need not ask for proof.
    pub(super) async fn append_plainly(
        &mut self,
        guard: &mut ConnectionGuard,
        entries: &[NewEntry],
        places: &[usize],
        dedupe: Option<&Dedupe<'_>>,
        outcomes: &mut [Appended],
        asks_proof: bool,
    ) -> Result<Vec<usize>, StreamError> {
        let partitions = Arc::clone(&self.partitions);
        let chosen = || places.iter().filter_map(|&place| Some((place, entries.get(place)?)));
        let mut pipeline = Pipeline::with_capacity(places.len() + 3);
        let mut touched = BTreeSet::new();
        for (_, entry) in chosen() {
            let partition = self.partition_at(entry);
            touched.insert(partition);
            pipeline.add_command(partitions.at(partition).keys.add(entry));
        }
        let replies = self.send(guard, &mut pipeline, &touched, asks_proof).await?;
        for ((place, entry), reply) in chosen().zip(replies) {
            let outcome = match reply.and_then(|id| Ok(from_redis_value(id)?)) {
                Ok(id) => {
                    if dedupe.is_some() {
                        let partition = self.partition_at(entry);
                        self.unnoted.store(partition, &entry.dedupe_key, id, entry.digest);
                    }
                    Appended::Accepted(id)
                }
                Err(error) => Appended::Refused(error_line(&error)),
            };
            if let Some(slot) = outcomes.get_mut(place) {
                *slot = outcome;
            }
        }
        if !lack_memory(places, outcomes) {
            return Ok(Vec::new());
        }
        self.renew(guard).await?;
        let parts = halves(places, entries, outcomes).into_iter();
        let calls = parts.flat_map(|places| chunks(entries, places, partitions.count()));
        let calls = calls.collect();
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
            self.unnoted.note(&mut pipeline, &self.partitions, dedupe.now);
        }
        let mut touched = BTreeSet::new();
        for chunk in chunks {
            let partition = chunk.log.partition();
            touched.insert(partition);
            let keys = &self.partitions.at(partition).keys;
            pipeline.add_command(keys.append_call(chunk, entries, dedupe));
        }
        let replies = self.send(guard, &mut pipeline, &touched, true).await?;
        self.unnoted.clear();
        Ok(replies)
    }

    /// One round trip, with the question for the proof of all that this connection wrote; without
    /// dedupe it learns the room below the caps of these partitions on the way.
    async fn send(
        &mut self,
        guard: &mut ConnectionGuard,
        pipeline: &mut Pipeline,
        partitions: &BTreeSet<u16>,
        asks_proof: bool,
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let watched = Some(partitions).filter(|_| !self.dedupes());
        for &partition in watched.into_iter().flatten() {
            pipeline.cmd("XLEN").arg(&self.partitions.at(partition).keys.stream);
        }
        let proof = if asks_proof { self.proof } else { Proof::Answer };
        let probe = &self.partitions.at(0).keys.probe;
        proof.ask(pipeline, probe, self.server.response_timeout() * 3 / 4);
        let mut replies = self.query(guard, pipeline).await?;
        let proven = proof.verify(&self.server, &mut replies);
        self.proven = std::mem::replace(&mut self.proven, Ok(())).and(proven);
        for &partition in watched.into_iter().flatten().rev() {
            let length = replies.pop().and_then(read::<u64>);
            self.saw_length(partition, length);
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

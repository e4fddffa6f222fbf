//! The round trips of a flush, each one pipeline: plain XADDs, or calls of `append.lua`.
//!
//! Redis counts the arguments of a call as used memory: a call that it refuses for want of memory is
//! sent again in halves, down to single entries, so that what fits is stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisResult, ServerErrorKind, Value, from_redis_value};

use super::append_call::{Answer, Dedupe, answers, error_line};
use super::chunk::{Chunk, chunks, halves, lack_memory};
use super::durability::Proof;
use super::keys::{Keys, LogName};
use super::node::ConnectionGuard;
use super::node_writer::NodeWriter;
use super::scripts;
use crate::stream::{Appended, NewEntry, StreamError};

impl NodeWriter {
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
            touched.insert(LogName::Partition(partition));
            pipeline.add_command(partitions.at(partition).keys.add(entry));
        }
        // All is written just now, over this connection.
        let asked = asks_proof.then_some(ProofScope::OfThis);
        let replies = self.send(guard, &mut pipeline, 0, &touched, asked).await?;
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
                if !is_loaded && scripts::is_unknown_script(&reply) {
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
                let loaded = scripts::APPEND.load(guard).await;
                loaded.map_err(|error| guard.node.stream_error(&error))?;
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
            server: guard.node.address.clone(),
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
        let notes = dedupe.map_or(0, |dedupe| {
            self.unnoted.note(&mut pipeline, &self.partitions, dedupe.now)
        });
        let mut touched = BTreeSet::new();
        for chunk in chunks {
            touched.insert(chunk.log);
            let keys = &self.partitions.at(chunk.log.partition()).keys;
            pipeline.add_command(keys.append_call(chunk, entries, dedupe));
        }
        let replies = self
            .send(guard, &mut pipeline, notes, &touched, Some(ProofScope::OfAll))
            .await?;
        self.unnoted.clear();
        Ok(replies)
    }

    /// One round trip, with the question for the proof where one is `asked`; without dedupe it learns
    /// the room below the caps of these logs on the way. The first `notes` commands are notes.
    async fn send(
        &mut self,
        guard: &mut ConnectionGuard,
        pipeline: &mut Pipeline,
        notes: usize,
        logs: &BTreeSet<LogName>,
        asked: Option<ProofScope>,
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let partitions = Arc::clone(&self.partitions);
        let watched = Vec::from_iter(logs.iter().copied().filter(|_| !self.dedupes()));
        for log in &watched {
            pipeline
                .cmd("XLEN")
                .arg(partitions.at(log.partition()).keys.log(*log).0);
        }
        let proof = asked.map_or(Proof::Answer, |_| self.proof);
        let probe = logs.first().map(|log| partitions.at(log.partition()).keys.probe(*log));
        let own_probe = probe.filter(|_| asked == Some(ProofScope::OfAll));
        proof.ask(pipeline, own_probe, self.server.response_timeout() * 3 / 4);
        let proves = self.proof != Proof::Answer;
        let question = ProofQuestion {
            proof,
            own_probe,
            probe: probe.filter(|_| proves),
        };
        let mut replies = self.query(guard, pipeline, notes, Some(question)).await?;
        for log in watched.iter().rev() {
            let length = replies.pop().and_then(read::<u64>);
            if let LogName::Partition(partition) = log {
                self.saw_length(*partition, length);
            }
        }
        Ok(replies)
    }

    /// Sends a pipeline that begins with so many notes and ends with the `question`; what another node
    /// of a cluster is to answer, that answers. Replies without the notes' and the question's.
    pub(super) async fn query(
        &mut self,
        guard: &mut ConnectionGuard,
        pipeline: &mut Pipeline,
        notes: usize,
        question: Option<ProofQuestion<'_>>,
    ) -> Result<Vec<RedisResult<Value>>, StreamError> {
        let sent = pipeline.ignore_errors().query_async(&mut guard.connection).await;
        let mut replies: Vec<RedisResult<Value>> = sent.map_err(|error| guard.node.stream_error(&error))?;
        if let Some(ProofQuestion { proof, own_probe, .. }) = question {
            let proven = proof.verify(&guard.node, own_probe.is_some(), &mut replies);
            self.proven = std::mem::replace(&mut self.proven, Ok(())).and(proven);
        }
        if self.partitions.servers.is_cluster() {
            let probe = question.and_then(|question| question.probe);
            self.follow(guard, pipeline, notes, &mut replies, probe).await?;
        }
        replies.drain(..notes.min(replies.len()));
        Ok(replies)
    }

    /// Notes follow their entries where these move, and are left to expire where another node has
    /// taken over: it may lack the entries.
    async fn follow(
        &mut self,
        guard: &ConnectionGuard,
        pipeline: &Pipeline,
        notes: usize,
        replies: &mut [RedisResult<Value>],
        probe: Option<&str>,
    ) -> Result<(), StreamError> {
        let is_moved = |reply: &RedisResult<Value>| {
            let kind = reply.as_ref().err().map(|error| error.kind());
            kind == Some(ErrorKind::Server(ServerErrorKind::Moved))
        };
        for reply in replies.iter_mut().take(notes).filter(|reply| is_moved(reply)) {
            *reply = Ok(Value::Nil);
        }
        let server = Arc::clone(&self.server);
        let refusals = replies.iter().filter_map(|reply| reply.as_ref().err());
        refusals.for_each(|error| server.note_refusal(error));
        if !server.has_redirect(replies) {
            return Ok(());
        }
        let commands = Vec::from_iter(pipeline.cmd_iter().take(replies.len()));
        let proven = server.follow_proving(&guard.node, &commands, replies, probe).await?;
        self.is_redirected = true;
        if let Some(proven) = proven {
            self.proven = std::mem::replace(&mut self.proven, Ok(())).and(proven);
        }
        Ok(())
    }
}

/// What a flush's last round trip asks proof of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProofScope {
    /// Of what it writes itself.
    OfThis,
    /// Also of what other connections wrote before, whose repeats are in the flush.
    OfAll,
}

/// The question for the proof that a pipeline ends with, or does not.
#[derive(Clone, Copy)]
pub(super) struct ProofQuestion<'a> {
    proof: Proof,
    /// The key that it writes first, where it does.
    own_probe: Option<&'a str>,
    /// The one that is written with what another node answers, where that is to be proven.
    probe: Option<&'a str>,
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

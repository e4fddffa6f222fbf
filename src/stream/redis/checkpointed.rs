//! Appends with a checkpoint, each one script call: the hash `<stream>:capture:<source>` and the
//! entries change together. Where the dead letters are in another hash slot, they are written before.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, Pipeline, RedisResult, Value, from_redis_value};
use scopeguard::ScopeGuard;

use super::durability::Proof;
use super::keys::{Keys, LogName};
use super::node::{ConnectionGuard, breaks_connection};
use super::partition::Partitions;
use super::server::Server;
use super::writer::RedisWriter;
use super::{error, scripts};
use crate::stream::{
    Appended, Checkpoint, CheckpointedAppend, CheckpointedWriter, Destination, NewEntry, StreamError, Writer,
};

pub(super) struct RedisCheckpointedWriter {
    server: Arc<Server>,
    keys: Arc<Keys>,
    checkpoint: String,
    /// Of dead letters, where these are in another hash slot.
    letters: RedisWriter,
    letters_server: Arc<Server>,
}

impl RedisCheckpointedWriter {
    pub(super) fn new(partitions: &Partitions, letters: RedisWriter, source: &str) -> Self {
        let partition = partitions.at(0);
        Self {
            letters_server: Arc::clone(&partitions.letters),
            checkpoint: partition.keys.checkpoint(source),
            server: Arc::clone(&partition.server),
            keys: Arc::clone(&partition.keys),
            letters,
        }
    }

    /// Dead letters that no script may write beside the stream, before it writes the rest: a repeat
    /// is recognized by its key. Answers what they were refused with.
    async fn append_letters(&mut self, entries: &[NewEntry]) -> Result<Option<CheckpointedAppend>, StreamError> {
        let is_letter = |entry: &&NewEntry| entry.destination == Destination::DeadLetters;
        let letters = Vec::from_iter(entries.iter().filter(is_letter).cloned());
        if letters.is_empty() {
            return Ok(None);
        }
        let full = CheckpointedAppend::Full(Destination::DeadLetters);
        let mut length = redis::cmd("XLEN");
        let length: u64 = self.letters_server.query(length.arg(&self.keys.dead_letters)).await?;
        if length + letters.len() as u64 > self.keys.dead_letters_maxlen {
            return Ok(Some(full));
        }
        for outcome in self.letters.append(&letters).await {
            match outcome {
                Appended::Accepted(_) | Appended::Duplicate(_) | Appended::Conflict(_) => {}
                Appended::Full => return Ok(Some(full)),
                Appended::Failed(error) => return Err(StreamError::clone(&error)),
                Appended::Refused(message) | Appended::TooLarge(message) | Appended::Unavailable(message) => {
                    let code = error::OUT_OF_MEMORY.to_owned();
                    return Err(StreamError::Refused { code, message });
                }
            }
        }
        Ok(None)
    }

    fn call(&self, entries: &[NewEntry], expected: u64, record: &str, fill: u8) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        // With a tag the dead letters are in another slot, and stand there already.
        let letters = Some(&self.keys.dead_letters).filter(|_| !self.keys.is_tagged);
        call.arg(scripts::CHECKPOINTED.hash()).arg(2 + letters.iter().count());
        call.arg(&self.checkpoint).arg(&self.keys.stream).arg(letters);
        call.arg(expected).arg(record);
        call.arg(self.keys.maxlen * u64::from(fill) / 100)
            .arg(self.keys.dead_letters_maxlen);
        let is_written = |entry: &&NewEntry| letters.is_some() || entry.destination == Destination::Stream;
        for entry in entries.iter().filter(is_written) {
            let log = match entry.destination {
                Destination::Stream => 2,
                Destination::DeadLetters => 3,
            };
            call.arg(log).arg(2 * entry.fields.0.len()).arg(&entry.fields);
        }
        call
    }

    async fn send(
        &self,
        guard: &mut ConnectionGuard,
        proof: Proof,
        call: &Cmd,
    ) -> Result<CheckpointedAppend, StreamError> {
        let mut is_loaded = false;
        loop {
            let mut pipeline = Pipeline::new();
            pipeline.add_command(call.clone());
            let probe = self.keys.probe(LogName::Partition(self.keys.partition));
            proof.ask(&mut pipeline, Some(probe), self.server.response_timeout() * 3 / 4);
            let sent = pipeline.ignore_errors().query_async(&mut guard.connection).await;
            let mut replies: Vec<RedisResult<Value>> = sent.map_err(|error| guard.node.stream_error(&error))?;
            let mut proven = proof.verify(&guard.node, true, &mut replies);
            if !is_loaded && replies.iter().any(scripts::is_unknown_script) {
                let loaded = scripts::CHECKPOINTED.load(guard).await;
                loaded.map_err(|error| guard.node.stream_error(&error))?;
                is_loaded = true;
                continue;
            }
            if self.server.has_redirect(&replies) {
                let followed = self
                    .server
                    .follow_proving(&guard.node, &[call], &mut replies, Some(probe))
                    .await?;
                proven = followed.unwrap_or(proven);
            }
            let reply = replies.into_iter().next().unwrap_or(Ok(Value::Nil));
            let answer: String = reply
                .and_then(|value| Ok(from_redis_value(value)?))
                .map_err(|error| guard.node.stream_error(&error))?;
            return match answer.as_str() {
                "stored" => proven.map(|()| CheckpointedAppend::Stored),
                "full2" => Ok(CheckpointedAppend::Full(Destination::Stream)),
                "full3" => Ok(CheckpointedAppend::Full(Destination::DeadLetters)),
                _ => Ok(CheckpointedAppend::Moved),
            };
        }
    }
}

#[async_trait]
impl CheckpointedWriter for RedisCheckpointedWriter {
    async fn read(&mut self) -> Result<Checkpoint, StreamError> {
        let mut read = redis::cmd("HMGET");
        read.arg(&self.checkpoint).arg("version").arg("record").arg("request");
        let (version, record, request): (Option<u64>, Option<String>, Option<String>) =
            self.server.query(&read).await?;
        Ok(Checkpoint {
            version: version.unwrap_or_default(),
            record: record.unwrap_or_default(),
            request: request.unwrap_or_default(),
        })
    }

    async fn append(
        &mut self,
        entries: &[NewEntry],
        expected: u64,
        record: &str,
        fill: u8,
    ) -> Result<CheckpointedAppend, StreamError> {
        if self.keys.is_tagged
            && let Some(refusal) = self.append_letters(entries).await?
        {
            return Ok(refusal);
        }
        let (guard, proof) = Proof::acquire(&self.server).await?;
        let server = Arc::clone(&self.server);
        // What is given up midway leaves its answer on the way.
        let mut guard = scopeguard::guard(guard, |guard| server.discard(guard));
        let sent = self
            .send(&mut guard, proof, &self.call(entries, expected, record, fill))
            .await;
        let guard = ScopeGuard::into_inner(guard);
        if sent.as_ref().is_err_and(breaks_connection) {
            self.server.discard(guard);
        }
        sent
    }

    async fn request(&mut self, request: &str) -> Result<(), StreamError> {
        let mut write = redis::cmd("HSET");
        write.arg(&self.checkpoint).arg("request").arg(request);
        self.server.query::<Value>(&write).await.map(drop)
    }

    async fn remove(&mut self) -> Result<(), StreamError> {
        let mut remove = redis::cmd("UNLINK");
        remove.arg(&self.checkpoint);
        self.server.query::<Value>(&remove).await.map(drop)
    }
}

//! Appends with a checkpoint, each one script call: the hash `<stream>:capture:<source>` and the
//! entries change together.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, ErrorKind, Pipeline, RedisResult, ServerErrorKind, Value, from_redis_value};
use scopeguard::ScopeGuard;

use super::durability::Proof;
use super::keys::Keys;
use super::node::{ConnectionGuard, breaks_connection};
use super::scripts;
use super::server::Server;
use crate::stream::{Checkpoint, CheckpointedAppend, CheckpointedWriter, Destination, NewEntry, StreamError};

pub(super) struct RedisCheckpointedWriter {
    server: Arc<Server>,
    keys: Arc<Keys>,
    checkpoint: String,
}

impl RedisCheckpointedWriter {
    pub(super) fn new(server: Arc<Server>, keys: Arc<Keys>, source: &str) -> Self {
        Self {
            checkpoint: format!("{}:capture:{source}", keys.stream),
            server,
            keys,
        }
    }

    fn call(&self, entries: &[NewEntry], expected: u64, record: &str, fill: u8) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(scripts::CHECKPOINTED.get_hash()).arg(3);
        call.arg(&self.checkpoint)
            .arg(&self.keys.stream)
            .arg(&self.keys.dead_letters);
        call.arg(expected).arg(record);
        call.arg(self.keys.maxlen * u64::from(fill) / 100)
            .arg(self.keys.dead_letters_maxlen);
        for entry in entries {
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
            proof.ask(&mut pipeline, &self.keys.probe, self.server.response_timeout() * 3 / 4);
            let sent = pipeline.ignore_errors().query_async(&mut guard.connection).await;
            let mut replies: Vec<RedisResult<Value>> = sent.map_err(|error| self.server.stream_error(&error))?;
            let proven = proof.verify(&self.server, &mut replies);
            let reply = replies.into_iter().next().unwrap_or(Ok(Value::Nil));
            let is_unknown = |error: &redis::RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
            if !is_loaded && reply.as_ref().is_err_and(is_unknown) {
                let loaded = scripts::CHECKPOINTED.load_async(&mut guard.connection).await;
                loaded.map_err(|error| self.server.stream_error(&error))?;
                is_loaded = true;
                continue;
            }
            let answer: String = reply
                .and_then(|value| Ok(from_redis_value(value)?))
                .map_err(|error| self.server.stream_error(&error))?;
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

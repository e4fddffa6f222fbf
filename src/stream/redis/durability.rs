//! How a confirmation is made to survive what it is configured to survive.
//!
//! Owns the question that goes with a flush: WAIT or WAITAOF on its connection after it. They speak of
//! what that connection wrote, and a duplicate's first append may have come over another; so they
//! stand behind a write of their own, the probe, where all was not written just now. Before Redis 7.2 it is the question for the settings: a server that
//! syncs its file before each answer has synced a flush whose answer says so, and CONFIG SET may
//! change that at any time. Invariants: every new connection leads to a server that is able to
//! prove what is asked for, since one may come back with other settings; what is not proven is not
//! confirmed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, InfoDict, Pipeline, RedisError, RedisResult, Value, from_redis_value};

use super::error;
use super::keys::{PROBE_LIFETIME, millis};
use super::node::{ConnectionGuard, RedisNode, breaks_connection};
use super::server::Server;
use crate::config::Durability;
use crate::stream::StreamError;

/// What a flush asks the server to prove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Proof {
    /// Its answer is proof enough: nothing more is asked for.
    #[default]
    Answer,
    /// It says that it syncs its file before each answer.
    Settings,
    /// Its file is synced up to here.
    Fsync,
    /// So many replicas have it.
    Replicas(u32),
}

impl Proof {
    /// A connection from the pool, to a server that is able to prove what is configured; answers
    /// how, too.
    ///
    /// # Errors
    /// [`StreamError::Unusable`] where its settings or its version rule that out,
    /// [`StreamError::Refused`] where it has too few replicas at the moment: nothing is appended
    /// then.
    pub(super) async fn acquire(server: &Server) -> Result<(ConnectionGuard, Self), StreamError> {
        let mut guard = server.acquire().await?;
        match Self::meet(server, &mut guard).await {
            Ok(proof) => Ok((guard, proof)),
            Err(error) => {
                if breaks_connection(&error) {
                    server.discard(guard);
                }
                Err(error)
            }
        }
    }

    /// As [`guard`](Self::guard), for a connection in the place of this one.
    pub(super) async fn renew(server: &Server, guard: &mut ConnectionGuard) -> Result<Self, StreamError> {
        server.renew(guard).await?;
        Self::meet(server, guard).await
    }

    /// As [`acquire`](Self::acquire), for a connection that is there.
    pub(super) async fn meet(server: &Server, guard: &mut ConnectionGuard) -> Result<Self, StreamError> {
        match server.durability() {
            Durability::Received => Ok(Self::Answer),
            Durability::Fsynced => meet_file(guard).await,
            Durability::Replicated(replicas) => {
                let info = ask::<InfoDict>(guard, redis::cmd("INFO").arg("replication")).await?;
                let connected = info.and_then(|info| info.get::<u32>("connected_slaves"));
                match connected.filter(|connected| *connected < replicas) {
                    None => Ok(Self::Replicas(replicas)),
                    Some(connected) => Err(StreamError::Refused {
                        code: "NOREPLICAS".to_owned(),
                        message: format!(
                            "{} has {connected} replicas connected, and ORDERSTREAM_DURABILITY asks for {replicas}",
                            guard.node.address
                        ),
                    }),
                }
            }
        }
    }

    /// Adds the question to a flush. Without a `probe` it speaks of what this connection wrote.
    pub(super) fn ask(self, pipeline: &mut Pipeline, probe: Option<&str>, patience: Duration) {
        let patience = millis(patience).max(1);
        if let Some(probe) = probe.filter(|_| self.needs_probe()) {
            pipeline.add_command(write_probe(probe));
        }
        match self {
            Self::Answer => {}
            Self::Settings => {
                pipeline.add_command(file_settings());
            }
            Self::Fsync => {
                pipeline.cmd("WAITAOF").arg(1).arg(0).arg(patience);
            }
            Self::Replicas(replicas) => {
                pipeline.cmd("WAIT").arg(replicas).arg(patience);
            }
        }
    }

    /// As [`ask`](Self::ask), of a node that a slot moves to. No key may stay that the node that it comes
    /// from has too: MIGRATE would fail with BUSYKEY.
    pub(super) fn ask_importing(self, pipeline: &mut Pipeline, probe: &str, patience: Duration) {
        if self.needs_probe() {
            let probe = format!("{probe}:asking");
            pipeline.cmd("ASKING").ignore().add_command(write_probe(&probe));
            pipeline.cmd("ASKING").ignore().cmd("UNLINK").arg(&probe).ignore();
        }
        self.ask(pipeline, None, patience);
    }

    fn needs_probe(self) -> bool {
        matches!(self, Self::Fsync | Self::Replicas(_))
    }

    /// Takes the answer to the question, asked of that node, off the end of the replies.
    ///
    /// # Errors
    /// [`StreamError::Unconfirmed`].
    pub(super) fn verify(
        self,
        node: &RedisNode,
        has_probe: bool,
        replies: &mut Vec<RedisResult<Value>>,
    ) -> Result<(), StreamError> {
        let unproven = |why: &str| {
            Err(StreamError::Unconfirmed(format!(
                "{} {why} (ORDERSTREAM_DURABILITY)",
                node.address
            )))
        };
        let (asked, what) = match self {
            Self::Answer => return Ok(()),
            Self::Settings => {
                let told = replies.pop().and_then(|reply| from_redis_value(reply.ok()?).ok());
                return match told {
                    Some(settings) if syncs_each_answer(&settings) => Ok(()),
                    _ => unproven("no longer syncs its append-only file before each answer"),
                };
            }
            Self::Fsync => (1, "syncs of its append-only file"),
            Self::Replicas(replicas) => (replicas, "replicas"),
        };
        let waited = replies.pop();
        let written = !has_probe || replies.pop().is_some_and(|reply| reply.is_ok());
        let proven = waited.and_then(|reply| match reply {
            Ok(Value::Array(counts)) => from_redis_value::<u32>(counts.into_iter().next()?).ok(),
            Ok(count) => from_redis_value(count).ok(),
            Err(_) => None,
        });
        let proven = if written { proven.unwrap_or_default() } else { 0 };
        if proven >= asked {
            return Ok(());
        }
        unproven(&format!("confirmed {proven} of {asked} {what} in time"))
    }
}

fn write_probe(probe: &str) -> Cmd {
    let mut write = redis::cmd("SET");
    write.arg(probe).arg("").arg("PX").arg(millis(PROBE_LIFETIME));
    write
}

/// As CONFIG GET answers.
type FileSettings = HashMap<String, String>;

fn file_settings() -> Cmd {
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg("appendonly").arg("appendfsync");
    question
}

fn syncs_each_answer(settings: &FileSettings) -> bool {
    let is = |name, value| settings.get(name).is_some_and(|found| found == value);
    is("appendonly", "yes") && is("appendfsync", "always")
}

async fn meet_file(guard: &mut ConnectionGuard) -> Result<Proof, StreamError> {
    let node = Arc::clone(&guard.node);
    let unusable = |why: &str| {
        Err(StreamError::Unusable(format!(
            "ORDERSTREAM_DURABILITY is fsynced, and {} {why}",
            node.address
        )))
    };
    let settings: FileSettings = ask(guard, &file_settings()).await?.unwrap_or_default();
    let setting = |name: &str| settings.get(name).map(String::as_str);
    if setting("appendonly") == Some("no") {
        return unusable("keeps no append-only file: set appendonly to yes");
    }
    if setting("appendfsync") == Some("no") {
        return unusable("leaves syncing to the kernel: set appendfsync to always or everysec");
    }
    let mut wait = redis::cmd("WAITAOF");
    wait.arg(1).arg(0).arg(1);
    let waited: RedisResult<Value> = wait.query_async(&mut guard.connection).await;
    let Err(error) = waited else {
        return Ok(Proof::Fsync);
    };
    let says = |text: &str| error.detail().is_some_and(|detail| detail.contains(text));
    if says("unknown command") {
        return if syncs_each_answer(&settings) {
            Ok(Proof::Settings)
        } else if settings.is_empty() {
            unusable("neither knows WAITAOF (Redis 7.2) nor tells its settings: allow CONFIG GET")
        } else {
            unusable("is too old for WAITAOF (Redis 7.2): set appendfsync to always")
        };
    }
    if says("appendonly is disabled") {
        return unusable("keeps no append-only file: set appendonly to yes");
    }
    Err(met(&guard.node, &error))
}

/// `None` where the user may not ask.
async fn ask<T: FromRedisValue>(guard: &mut ConnectionGuard, question: &Cmd) -> Result<Option<T>, StreamError> {
    match question.query_async(&mut guard.connection).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => Some(met(&guard.node, &error))
            .filter(|error| !matches!(error, StreamError::Denied(_)))
            .map_or(Ok(None), Err),
    }
}

/// A replica says so in words of its own here.
fn met(node: &RedisNode, error: &RedisError) -> StreamError {
    match error.detail() {
        Some(detail) if detail.contains("replica instances") => error::server_error(&node.address, "READONLY", detail),
        _ => node.stream_error(error),
    }
}

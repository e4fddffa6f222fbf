//! How a confirmation is made to survive what it is configured to survive.
//!
//! Owns WAIT and WAITAOF: they go on a flush's connection after it, behind a write of their own, since they speak of
//! what that connection wrote: a duplicate's first append may have come over another. Invariants: every new connection
//! leads to a server that is able to prove what is asked for, since one may come back with other settings; what is not
//! proven is not confirmed.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, InfoDict, Pipeline, RedisError, RedisResult, Value, from_redis_value};

use super::fault;
use super::server::{Lease, Server};
use crate::config::Durability;
use crate::stream::StreamError;

/// What a flush asks the server to prove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Proof {
    /// Its answer is proof enough: nothing more is asked for, or it syncs its file before each answer.
    #[default]
    Answer,
    /// Its file is synced up to here.
    Fsync,
    /// So many replicas have it.
    Replicas(u32),
}

impl Proof {
    /// Makes sure that the server behind a new connection is able to prove what is configured; answers how.
    ///
    /// # Errors
    /// [`StreamError::Unusable`] where its settings or its version rule that out, [`StreamError::Refused`] where it has
    /// too few replicas at the moment: nothing is appended then.
    pub(super) async fn meet(server: &Server, lease: &mut Lease) -> Result<Self, StreamError> {
        match server.durability() {
            Durability::Received => Ok(Self::Answer),
            Durability::Fsynced => meet_file(server, lease).await,
            Durability::Replicated(replicas) => {
                let info = ask::<InfoDict>(server, lease, redis::cmd("INFO").arg("replication")).await?;
                let connected = info.and_then(|info| info.get::<u32>("connected_slaves"));
                if connected.is_some_and(|connected| connected < replicas) {
                    let found = connected.unwrap_or_default();
                    let detail = format!("{found} replicas are connected, ORDERSTREAM_DURABILITY asks for {replicas}");
                    return Err(fault::server_error(&server.address(), "NOREPLICAS", &detail));
                }
                Ok(Self::Replicas(replicas))
            }
        }
    }

    /// Adds the question to a flush.
    pub(super) fn ask(self, pipeline: &mut Pipeline, probe: &str, patience: Duration) {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
        if self != Self::Answer {
            pipeline
                .cmd("SET")
                .arg(probe)
                .arg("")
                .arg("PX")
                .arg(super::PROBE_LIFETIME.as_secs() * 1000);
        }
        match self {
            Self::Answer => {}
            Self::Fsync => {
                pipeline.cmd("WAITAOF").arg(1).arg(0).arg(patience);
            }
            Self::Replicas(replicas) => {
                pipeline.cmd("WAIT").arg(replicas).arg(patience);
            }
        }
    }

    /// Takes the answer to the question off the end of the replies.
    ///
    /// # Errors
    /// [`StreamError::Unconfirmed`].
    pub(super) fn verify(self, server: &Server, replies: &mut Vec<RedisResult<Value>>) -> Result<(), StreamError> {
        let (asked, what) = match self {
            Self::Answer => return Ok(()),
            Self::Fsync => (1, "syncs of its append-only file"),
            Self::Replicas(replicas) => (replicas, "replicas"),
        };
        let waited = replies.pop();
        let written = replies.pop().is_some_and(|reply| reply.is_ok());
        let proven = waited.and_then(|reply| match reply {
            Ok(Value::Array(counts)) => from_redis_value::<u32>(counts.into_iter().next()?).ok(),
            Ok(count) => from_redis_value(count).ok(),
            Err(_) => None,
        });
        let proven = if written { proven.unwrap_or_default() } else { 0 };
        if proven >= asked {
            return Ok(());
        }
        Err(StreamError::Unconfirmed(format!(
            "{} confirmed {proven} of {asked} {what} in time (ORDERSTREAM_DURABILITY)",
            server.address()
        )))
    }
}

async fn meet_file(server: &Server, lease: &mut Lease) -> Result<Proof, StreamError> {
    let unusable = |why: &str| {
        Err(StreamError::Unusable(format!(
            "ORDERSTREAM_DURABILITY is fsynced, and {} {why}",
            server.address()
        )))
    };
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg("appendonly").arg("appendfsync");
    let config: HashMap<String, String> = ask(server, lease, &config).await?.unwrap_or_default();
    let setting = |name: &str| config.get(name).map(String::as_str);
    if setting("appendonly") == Some("no") {
        return unusable("keeps no append-only file: set appendonly to yes");
    }
    if setting("appendfsync") == Some("no") {
        return unusable("leaves syncing to the kernel: set appendfsync to always or everysec");
    }
    let mut wait = redis::cmd("WAITAOF");
    wait.arg(1).arg(0).arg(1);
    let waited: RedisResult<Value> = wait.query_async(&mut lease.connection).await;
    let Err(error) = waited else {
        return Ok(Proof::Fsync);
    };
    let says = |text: &str| error.detail().is_some_and(|detail| detail.contains(text));
    if says("unknown command") {
        return match (setting("appendonly"), setting("appendfsync")) {
            (Some("yes"), Some("always")) => Ok(Proof::Answer),
            (Some(_), Some(_)) => unusable("is too old for WAITAOF (Redis 7.2): set appendfsync to always"),
            _ => unusable("neither knows WAITAOF (Redis 7.2) nor tells its settings: allow CONFIG GET"),
        };
    }
    if says("appendonly is disabled") {
        return unusable("keeps no append-only file: set appendonly to yes");
    }
    Err(met(server, &error))
}

/// `None` where the user may not ask.
async fn ask<T: FromRedisValue>(server: &Server, lease: &mut Lease, question: &Cmd) -> Result<Option<T>, StreamError> {
    match question.query_async(&mut lease.connection).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => Some(met(server, &error))
            .filter(|error| !matches!(error, StreamError::Denied(_)))
            .map_or(Ok(None), Err),
    }
}

/// A replica says so in words of its own here.
fn met(server: &Server, error: &RedisError) -> StreamError {
    match error.detail() {
        Some(detail) if detail.contains("replica instances") => {
            fault::server_error(&server.address(), "READONLY", detail)
        }
        _ => server.stream_error(error),
    }
}

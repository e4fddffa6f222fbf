//! The server that commands go to, wherever it is now, and what an error of it means.
//!
//! Owns the configuration, which [`Server::prepare`] may change at any time. Invariants: every wait
//! is bounded; a connection that failed, or that leads to a replica, is closed and never goes back
//! to the pool.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_redis::Connection;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, ScriptInvocation};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::node::{ConnectionGuard, ConnectionLimits, RedisNode, breaks_connection};
use super::url::RedisUrl;
use super::whereabouts::Whereabouts;
use crate::config::{Durability, RedisConfig, Secret};
use crate::metrics::{Metrics, Service, ServiceLabels};
use crate::stream::StreamError;

/// Interval at which sentinels are asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Server {
    whereabouts: ArcSwap<Whereabouts>,
    ca_file: Option<PathBuf>,
    limits: ConnectionLimits,
    durability: Durability,
    metrics: Metrics,
}

impl Server {
    /// Reads the URL; connects to nothing yet.
    pub(super) fn new(config: &RedisConfig, metrics: Metrics) -> Result<Self, StreamError> {
        let limits = ConnectionLimits {
            pool_size: config.pool_size,
            connect: config.connect_timeout,
            response: config.response_timeout,
        };
        let url = RedisUrl::parse(config.url.expose_secret(), config.ca_file.as_deref())?;
        Ok(Self {
            whereabouts: ArcSwap::from_pointee(Whereabouts::new(url, limits, &metrics)?),
            ca_file: config.ca_file.clone(),
            limits,
            durability: config.durability,
            metrics,
        })
    }

    /// Once the answer is called, uses that URL for every connection; held ones are let go at their
    /// next use.
    pub(super) fn prepare<'a>(&'a self, url: &Secret) -> Result<impl FnOnce() + use<'a>, StreamError> {
        let url = RedisUrl::parse(url.expose_secret(), self.ca_file.as_deref())?;
        let whereabouts = Whereabouts::new(url, self.limits, &self.metrics)?;
        Ok(move || {
            let former = self.whereabouts.swap(Arc::new(whereabouts));
            // Whoever waits for it goes on with the new one.
            former.doubt();
            former.close();
        })
    }

    /// Keeps the whereabouts fresh: asks the sentinels each second, and when something failed.
    pub(super) async fn look_out(&self, stop: CancellationToken) {
        let mut is_known = true;
        loop {
            let whereabouts = self.whereabouts.load_full();
            let error = tokio::select! {
                () = stop.cancelled() => return,
                error = whereabouts.look() => error,
            };
            match &error {
                Some(error) if is_known => {
                    tracing::warn!(%error, "the sentinels name no primary for now; the one in use stays");
                }
                None if !is_known => tracing::info!("the sentinels name a primary again"),
                Some(_) | None => {}
            }
            is_known = error.is_none();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = whereabouts.doubted() => {}
            }
        }
    }

    /// Host and port or socket path, without credentials.
    pub(super) fn address(&self) -> String {
        self.whereabouts.load().address()
    }

    /// Bound on one answer.
    pub(super) fn response_timeout(&self) -> Duration {
        self.limits.response
    }

    /// What a confirmation must survive.
    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// Warnings about how the server is found; `None` where its address is fixed.
    pub(super) async fn whereabouts_warnings(&self) -> Option<Vec<String>> {
        self.whereabouts.load_full().warnings().await
    }

    /// A connection from the pool; costs a round trip, so a caller with much to say holds it.
    pub(super) async fn acquire(&self) -> Result<ConnectionGuard, StreamError> {
        let whereabouts = self.whereabouts.load_full();
        // The pool bounds each step, not their sum: every idle connection to a stalled server is a
        // step.
        let after = self.limits.connect + self.limits.response;
        let acquired = async { whereabouts.owner().await?.acquire().await };
        let acquired = tokio::time::timeout(after, acquired).await.unwrap_or_else(|_| {
            Err(StreamError::Timeout {
                server: whereabouts.address(),
                after,
            })
        });
        acquired.inspect_err(|error| self.doubt_after(error))
    }

    /// Whether the guard still leads where the stream is.
    pub(super) fn is_current<C>(&self, guard: &ConnectionGuard<C>) -> bool {
        self.whereabouts.load().is_current(&guard.node)
    }

    /// Waits until the sentinels name another server than this one.
    pub(super) async fn left(&self, node: &Arc<RedisNode>) {
        self.whereabouts.load_full().left(node).await;
    }

    /// A connection outside the pool, for reads that block.
    pub(super) async fn dedicated(&self) -> Result<ConnectionGuard<MultiplexedConnection>, StreamError> {
        let owner = self.whereabouts.load_full().owner().await?;
        owner.dedicated().await.inspect_err(|error| self.doubt_after(error))
    }

    /// Sends a script over a pooled connection, loading it where the server does not know it.
    pub(super) async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StreamError> {
        let mut guard = self.acquire().await?;
        let answer = script.invoke_async(&mut guard.connection).await;
        self.settle(guard, answer)
    }

    /// Sends a command over a pooled connection.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StreamError> {
        let mut guard = self.acquire().await?;
        let answer = command.query_async(&mut guard.connection).await;
        self.settle(guard, answer)
    }

    /// Sends a pipeline over a pooled connection.
    pub(super) async fn query_all<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StreamError> {
        let mut guard = self.acquire().await?;
        let answer = pipeline.query_async(&mut guard.connection).await;
        self.settle(guard, answer)
    }

    /// The answer, or what its error means; then the connection may be of no use any more.
    pub(super) fn settle<T>(&self, guard: ConnectionGuard, answer: Result<T, RedisError>) -> Result<T, StreamError> {
        answer.map_err(|error| {
            let error = guard.node.stream_error(&error);
            if breaks_connection(&error) {
                self.discard(guard);
            }
            error
        })
    }

    /// Another connection in the place of this one, which the server has closed by then.
    pub(super) async fn renew(&self, guard: &mut ConnectionGuard) -> Result<(), StreamError> {
        // One that is broken needs no farewell.
        let _: Result<(), _> = redis::cmd("QUIT").query_async(&mut guard.connection).await;
        let ConnectionGuard { connection, node } = self.dedicated().await?;
        *guard.connection = connection;
        guard.node = node;
        Ok(())
    }

    /// Closes a connection instead of giving it back, and with it the idle ones: they lead to the
    /// same place, which may be the wrong one.
    pub(super) fn discard(&self, guard: ConnectionGuard) {
        let node = guard.node;
        drop(Connection::take(guard.connection));
        node.close_idle();
        self.doubt();
        self.count_reconnect();
    }

    /// Takes note of an error on a connection that is not of the pool.
    pub(super) fn doubt_after(&self, error: &StreamError) {
        if breaks_connection(error) {
            self.doubt();
        }
    }

    /// Has the sentinels asked before the next connection is made.
    pub(super) fn doubt(&self) {
        self.whereabouts.load().doubt();
    }

    /// Counts a connection or group that has to be made again.
    pub(super) fn count_reconnect(&self) {
        let labels = ServiceLabels {
            service: Service::Stream,
        };
        self.metrics.reconnects.get_or_create(&labels).inc();
    }

    /// Counts a flush whose durability was not proven.
    pub(super) fn count_unproven(&self) {
        self.metrics.flushes_unproven.inc();
    }

    /// What an error of a command means.
    pub(super) fn stream_error(&self, error: &RedisError) -> StreamError {
        super::error::stream_error(&self.address(), error, self.limits.response)
    }
}

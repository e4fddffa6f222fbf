//! The servers that commands go to, wherever they are now, and what an error of one means.
//!
//! [`Servers`] owns the configuration, which [`Servers::prepare`] may change at any time; a
//! [`Server`] is the one that owns a hash slot, so that what uses it need not know how many there
//! are. Invariants: every wait is bounded; a connection that failed, or that leads to a replica, is
//! closed and never goes back to the pool.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_redis::Connection;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value, from_redis_value};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::node::{ConnectionGuard, ConnectionLimits, RedisNode, breaks_connection};
use super::scripts::{self, ScriptCall};
use super::url::RedisUrl;
use super::whereabouts::{LOOK_PAUSE, Whereabouts};
use crate::config::{Durability, RedisConfig, Secret};
use crate::metrics::{Metrics, Service, ServiceLabels};
use crate::stream::StreamError;

/// Those of one URL.
pub(super) struct Servers {
    whereabouts: ArcSwap<Whereabouts>,
    /// Slots of the partitions, in order, and of the dead letters.
    slots: Arc<[u16]>,
    ca_file: Option<PathBuf>,
    limits: ConnectionLimits,
    durability: Durability,
    metrics: Metrics,
}

impl Servers {
    /// Connects to nothing yet.
    pub(super) fn new(
        config: &RedisConfig,
        url: RedisUrl,
        slots: Vec<u16>,
        metrics: Metrics,
    ) -> Result<Arc<Self>, StreamError> {
        let limits = ConnectionLimits {
            pool_size: config.pool_size,
            connect: config.connect_timeout,
            response: config.response_timeout,
        };
        let slots = Arc::from(slots);
        Ok(Arc::new(Self {
            whereabouts: ArcSwap::from_pointee(Whereabouts::new(url, &slots, limits, &metrics)?),
            slots,
            ca_file: config.ca_file.clone(),
            limits,
            durability: config.durability,
            metrics,
        }))
    }

    /// Once the answer is called, uses that URL for every connection; held ones are let go at their
    /// next use.
    pub(super) fn prepare<'a>(&'a self, url: &Secret) -> Result<impl FnOnce() + use<'a>, StreamError> {
        let url = RedisUrl::parse(url.expose_secret(), self.ca_file.as_deref())?;
        let whereabouts = Whereabouts::new(url, &self.slots, self.limits, &self.metrics)?;
        if whereabouts.cluster().is_some() != self.whereabouts.load().cluster().is_some() {
            return Err(StreamError::Unusable(
                "REDIS_URL: from one server to a cluster, or back, keys have other names: restart the service"
                    .to_owned(),
            ));
        }
        Ok(move || {
            let former = self.whereabouts.swap(Arc::new(whereabouts));
            // Whoever waits for it goes on with the new one.
            former.doubt();
            former.close();
        })
    }

    /// Keeps the whereabouts fresh: asks sentinels or cluster now and then, and when something
    /// failed.
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
                    tracing::warn!(%error, "where the primaries are is not told for now; those in use stay");
                }
                None if !is_known => tracing::info!("where the primaries are is told again"),
                Some(_) | None => {}
            }
            is_known = error.is_none();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(whereabouts.look_every()) => {}
                () = whereabouts.doubted() => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
    }

    /// The one that owns a hash slot.
    pub(super) fn of_slot(self: &Arc<Self>, slot: u16) -> Arc<Server> {
        Arc::new(Server {
            servers: Arc::clone(self),
            slot,
        })
    }

    /// The rank of the node of that partition among those of all; 0 where there is one server.
    pub(super) fn lane(&self, partition: u16) -> usize {
        let whereabouts = self.whereabouts.load();
        whereabouts
            .cluster()
            .map_or(0, |cluster| cluster.lane(partition.into()))
    }

    /// Whether slots may have different owners.
    pub(super) fn is_cluster(&self) -> bool {
        self.whereabouts.load().cluster().is_some()
    }
}

/// The server that owns a hash slot, whichever it is now.
pub(super) struct Server {
    pub(super) servers: Arc<Servers>,
    slot: u16,
}

impl Server {
    /// Host and port or socket path, without credentials.
    pub(super) fn address(&self) -> String {
        self.whereabouts().address(self.slot)
    }

    fn whereabouts(&self) -> arc_swap::Guard<Arc<Whereabouts>> {
        self.servers.whereabouts.load()
    }

    /// Bound on one answer.
    pub(super) fn response_timeout(&self) -> Duration {
        self.servers.limits.response
    }

    /// What a confirmation must survive.
    pub(super) fn durability(&self) -> Durability {
        self.servers.durability
    }

    /// Warnings about how the server is found; `None` where its address is fixed.
    pub(super) async fn whereabouts_warnings(&self) -> Option<Vec<String>> {
        self.servers.whereabouts.load_full().warnings().await
    }

    /// The server that it is now.
    pub(super) async fn node(&self) -> Result<Arc<RedisNode>, StreamError> {
        self.servers.whereabouts.load_full().owner(self.slot).await
    }

    /// A connection from the pool; costs a round trip, so a caller with much to say holds it.
    pub(super) async fn acquire(&self) -> Result<ConnectionGuard, StreamError> {
        let acquired = async { self.node().await?.acquire().await };
        self.within_limits(acquired).await
    }

    /// As [`acquire`](Self::acquire), of that node.
    pub(super) async fn acquire_of(&self, node: &Arc<RedisNode>) -> Result<ConnectionGuard, StreamError> {
        self.within_limits(Arc::clone(node).acquire()).await
    }

    /// The pool bounds each step, not their sum: every idle connection to a stalled server is a
    /// step.
    async fn within_limits(
        &self,
        acquired: impl Future<Output = Result<ConnectionGuard, StreamError>>,
    ) -> Result<ConnectionGuard, StreamError> {
        let after = self.servers.limits.connect + self.servers.limits.response;
        let acquired = tokio::time::timeout(after, acquired).await.unwrap_or_else(|_| {
            Err(StreamError::Timeout {
                server: self.address(),
                after,
            })
        });
        acquired.inspect_err(|error| self.doubt_after(error))
    }

    /// Whether the guard still leads where the stream is.
    pub(super) fn is_current<C>(&self, guard: &ConnectionGuard<C>) -> bool {
        self.whereabouts().is_current(self.slot, &guard.node)
    }

    /// Whether another server may take its place without an error of this one.
    pub(super) fn may_change(&self) -> bool {
        !matches!(**self.whereabouts(), Whereabouts::Fixed(_))
    }

    /// Waits until another server than this one is named.
    pub(super) async fn left(&self, node: &Arc<RedisNode>) {
        self.servers.whereabouts.load_full().left(self.slot, node).await;
    }

    /// A connection outside the pool, for reads that block.
    pub(super) async fn dedicated(&self) -> Result<ConnectionGuard<MultiplexedConnection>, StreamError> {
        let made = self.node().await?.dedicated().await;
        made.inspect_err(|error| self.doubt_after(error))
    }

    /// Sends a script over a pooled connection, loading it where the server does not know it.
    pub(super) async fn run<T: FromRedisValue>(&self, call: &ScriptCall) -> Result<T, StreamError> {
        let mut guard = self.acquire().await?;
        let mut answer = call.command.query_async(&mut guard.connection).await;
        if scripts::is_unknown_script(&answer) {
            answer = match call.script.load(&mut guard).await {
                Ok(()) => call.command.query_async(&mut guard.connection).await,
                Err(error) => Err(error),
            };
        }
        self.settle_of(guard, &call.command, answer).await
    }

    /// Sends a command over a pooled connection.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StreamError> {
        let mut guard = self.acquire().await?;
        let answer = command.query_async(&mut guard.connection).await;
        self.settle_of(guard, command, answer).await
    }

    /// Sends a pipeline, of which no command is ignored, over a pooled connection.
    pub(super) async fn query_all<T: FromRedisValue>(&self, mut pipeline: Pipeline) -> Result<T, StreamError> {
        let mut guard = self.acquire().await?;
        let answers = pipeline.ignore_errors().query_async(&mut guard.connection).await;
        let mut answers: Vec<RedisResult<Value>> = match answers {
            Ok(answers) => answers,
            Err(error) => return self.settle(guard, Err(error)),
        };
        if self.has_redirect(&answers) {
            let commands = Vec::from_iter(pipeline.cmd_iter());
            self.follow(&guard.node, &commands, &mut answers).await?;
        }
        // The first of the errors speaks for all.
        let answers = answers.into_iter().collect::<RedisResult<Vec<Value>>>();
        let answer = answers.and_then(|answers| Ok(from_redis_value(Value::Array(answers))?));
        self.settle(guard, answer)
    }

    /// The answer to a command, from wherever it is to be had.
    async fn settle_of<T: FromRedisValue>(
        &self,
        guard: ConnectionGuard,
        command: &Cmd,
        answer: Result<T, RedisError>,
    ) -> Result<T, StreamError> {
        match answer {
            Err(error) if self.is_redirect(&error) => {
                let mut answers = vec![Err(error)];
                self.follow(&guard.node, &[command], &mut answers).await?;
                let answer = answers.pop().unwrap_or(Ok(Value::Nil));
                self.settle(guard, answer.and_then(|answer| Ok(from_redis_value(answer)?)))
            }
            answer => self.settle(guard, answer),
        }
    }

    /// The answer, or what its error means; then the connection may be of no use any more.
    pub(super) fn settle<T>(&self, guard: ConnectionGuard, answer: Result<T, RedisError>) -> Result<T, StreamError> {
        answer.map_err(|error| {
            self.note_refusal(&error);
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
        let made = Arc::clone(&guard.node).dedicated().await;
        let ConnectionGuard { connection, .. } = made.inspect_err(|error| self.doubt_after(error))?;
        *guard.connection = connection;
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

    /// Has sentinels or cluster asked again.
    pub(super) fn doubt(&self) {
        self.whereabouts().doubt();
    }

    /// Counts a connection or group that has to be made again.
    pub(super) fn count_reconnect(&self) {
        let labels = ServiceLabels {
            service: Service::Stream,
        };
        self.servers.metrics.reconnects.get_or_create(&labels).inc();
    }

    /// Counts a flush whose durability was not proven.
    pub(super) fn count_unproven(&self) {
        self.servers.metrics.flushes_unproven.inc();
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.servers.metrics
    }

    pub(super) fn whereabouts_now(&self) -> Arc<Whereabouts> {
        self.servers.whereabouts.load_full()
    }
}

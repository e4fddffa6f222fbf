//! The reader: one consumer's blocking reads, over a connection of its own.
//!
//! Invariants: an unwanted wait is ended by CLIENT UNBLOCK from another connection and its reply is
//! awaited all the same, so that nothing is delivered to nobody; after an error the connection is
//! gone.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, from_redis_value};
use tokio_util::sync::CancellationToken;

use super::group::restore_group;
use super::keys::{Keys, millis};
use super::node::{ConnectionGuard, RedisNode};
use super::pages::Steps;
use super::server::Server;
use crate::stream::{Delivered, Entry, Reader, StreamError};

/// Pause between two attempts to end a wait that may not have begun yet.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(20);

/// Pause after a read that brought nothing of a stream whose slot moves.
const REDIRECTED_PAUSE: Duration = Duration::from_millis(100);

/// After so many empty answers in a row that came within a fifth of the wait, the server ignores BLOCK, as proxies
/// before one may: reads come at intervals then.
const EARLY_ANSWERS: u32 = 3;
const EARLY_PAUSE: Duration = Duration::from_millis(250);

pub(super) struct RedisReader {
    server: Arc<Server>,
    keys: Arc<Keys>,
    consumer: String,
    own: Option<Own>,
    early_answers: u32,
    /// What ended the read before, which had entries to answer.
    failed: Option<StreamError>,
}

/// The connection of one reader, and what the server calls it.
struct Own {
    guard: ConnectionGuard<MultiplexedConnection>,
    client_id: u64,
}

/// Reply to XREADGROUP: nothing, or one stream with its entries.
type Read = RedisResult<Option<Vec<(String, Vec<Entry>)>>>;

impl RedisReader {
    pub(super) fn new(server: Arc<Server>, keys: Arc<Keys>, consumer: &str) -> Self {
        Self {
            server,
            keys,
            consumer: consumer.to_owned(),
            own: None,
            early_answers: 0,
            failed: None,
        }
    }

    /// Takes the connection, or makes one: whatever ends a read early must not leave a connection
    /// behind that still owes a reply.
    async fn connect(&mut self) -> Result<Own, StreamError> {
        if let Some(own) = self.own.take().filter(|own| self.server.is_current(&own.guard)) {
            return Ok(own);
        }
        let mut guard = self.server.dedicated().await?;
        let client_id = redis::cmd("CLIENT").arg("ID").query_async(&mut guard.connection).await;
        let client_id = client_id.map_err(|error| guard.node.stream_error(&error))?;
        Ok(Own { guard, client_id })
    }

    fn command(&self, count: usize, block: Duration) -> Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.keys.group).arg(&self.consumer);
        command.arg("COUNT").arg(count.max(1));
        // BLOCK 0 would wait for ever.
        if !block.is_zero() {
            command.arg("BLOCK").arg(millis(block).max(1));
        }
        command.arg("STREAMS").arg(&self.keys.stream).arg(">");
        command
    }

    /// Ends the wait of `read` and answers what it came to.
    async fn end(
        &self,
        node: &Arc<RedisNode>,
        client_id: u64,
        mut read: Pin<&mut (impl Future<Output = Read> + Send)>,
    ) -> Result<Read, StreamError> {
        let mut unblock = redis::cmd("CLIENT");
        unblock.arg("UNBLOCK").arg(client_id);
        let unblock = || async {
            let mut guard = Arc::clone(node).acquire().await?;
            let answer = unblock.query_async::<u8>(&mut guard.connection).await;
            self.server.settle(guard, answer)
        };
        loop {
            // 0 where it does not wait (yet): its reply is on the way, or the command is.
            tokio::select! {
                reply = &mut read => return Ok(reply),
                ended = unblock() => match ended {
                    Ok(_) => {}
                    // Without the right to unblock, the wait ends by itself.
                    Err(StreamError::Denied(_)) => return Ok(read.await),
                    Err(error) => return Err(error),
                },
            }
            tokio::select! {
                reply = &mut read => return Ok(reply),
                () = tokio::time::sleep(UNBLOCK_AGAIN) => {}
            }
        }
    }
}

#[async_trait]
impl Reader for RedisReader {
    async fn read(
        &mut self,
        count: usize,
        block: Duration,
        cancel: &CancellationToken,
    ) -> Result<Vec<Delivered>, StreamError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut entries = Vec::new();
        let mut steps = Steps::new(count);
        let mut block = block;
        while let Some(step) = steps.next() {
            match self.read_step(step, block, cancel).await {
                Ok(came) => {
                    steps.came(&came);
                    entries.extend(came);
                }
                Err(error) if entries.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
            block = Duration::ZERO;
        }
        let partition = self.keys.partition;
        let delivered = |entry| Delivered::first_time(entry).in_partition(partition);
        Ok(entries.into_iter().map(delivered).collect())
    }
}

impl RedisReader {
    async fn read_step(
        &mut self,
        count: usize,
        block: Duration,
        cancel: &CancellationToken,
    ) -> Result<Vec<Entry>, StreamError> {
        if cancel.is_cancelled() {
            return Ok(Vec::new());
        }
        let mut own = self.connect().await?;
        let command = self.command(count, block);
        own.guard
            .connection
            .set_response_timeout(block + self.server.response_timeout());
        let node = Arc::clone(&own.guard.node);
        let asked = Instant::now();
        let read = command.query_async(&mut own.guard.connection);
        let reply = {
            tokio::pin!(read);
            tokio::select! {
                reply = &mut read => reply,
                () = cancel.cancelled() => self.end(&node, own.client_id, read).await?,
                // It may hang there for as long as it is to wait.
                () = self.server.left(&node) => {
                    self.server.count_reconnect();
                    return Err(StreamError::Unreachable {
                        server: node.address.clone(),
                        message: "another server is the primary now, and the reader goes on there".to_owned(),
                    });
                }
            }
        };
        match reply {
            Ok(streams) => {
                self.own = Some(own);
                let came = Vec::from_iter(streams.into_iter().flatten().flat_map(|(_, entries)| entries));
                let is_early = came.is_empty() && asked.elapsed() < block / 5;
                self.early_answers = if is_early { self.early_answers + 1 } else { 0 };
                if self.early_answers >= EARLY_ANSWERS {
                    let _ = cancel.run_until_cancelled(tokio::time::sleep(EARLY_PAUSE)).await;
                }
                Ok(came)
            }
            // The second is what a reader hears whose stream is deleted or moves to another node
            // while it waits, or whose server becomes a replica.
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => {
                self.own = Some(own);
                self.server.doubt();
                restore_group(&self.server, &self.keys).await?;
                Ok(Vec::new())
            }
            // Its slot moves, and the stream is there already: until the move is over a read that
            // blocks would not be told of its end.
            Err(error) if self.server.is_redirect(&error) => {
                let command = self.command(count, Duration::ZERO);
                let mut replies = [Err(error)];
                self.server.follow(&node, &[&command], &mut replies).await?;
                let [reply] = replies;
                let streams: Read = reply.and_then(|reply| Ok(from_redis_value(reply)?));
                let streams = streams.map_err(|error| node.stream_error(&error))?;
                self.own = Some(own);
                let came = Vec::from_iter(streams.into_iter().flatten().flat_map(|(_, entries)| entries));
                if came.is_empty() && !block.is_zero() {
                    let _ = cancel.run_until_cancelled(tokio::time::sleep(REDIRECTED_PAUSE)).await;
                }
                Ok(came)
            }
            Err(error) => {
                self.server.count_reconnect();
                let error = node.stream_error(&error);
                self.server.doubt_after(&error);
                Err(error)
            }
        }
    }
}

//! One server: its pool, connections of one's own, and what an error on them means.
//!
//! Invariants: every wait is bounded; no text holds credentials. The name of the server is resolved
//! at each connect.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, TimeoutType};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use super::error;
use crate::stream::StreamError;

/// Bound on one answer about where the stream is, while that is known: a hung server must not delay
/// the news of the others.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Bound on one server's part of a report, where there are several: what the others answer must be
/// in time.
pub(super) const PROMPT: Duration = Duration::from_millis(1200);

/// Bounds on what a server may take of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Connections of the pool.
    pub(super) pool_size: usize,
    /// On connecting.
    pub(super) connect: Duration,
    /// On one answer.
    pub(super) response: Duration,
}

/// A server and the way to it.
pub(super) struct RedisNode {
    pool: Pool,
    client: Client,
    limits: ConnectionLimits,
    /// For questions about where the stream is, which must not wait for the pool.
    pub(super) questions: QuestionConnection,
    /// Host and port or socket path, without credentials.
    pub(super) address: String,
}

/// A connection, and the node that it leads to.
pub(super) struct ConnectionGuard<C = Connection> {
    /// The connection itself.
    pub(super) connection: C,
    pub(super) node: Arc<RedisNode>,
}

impl RedisNode {
    /// Connects to nothing yet.
    pub(super) fn new(info: ConnectionInfo, limits: ConnectionLimits) -> Result<Self, StreamError> {
        let address = info.addr().to_string();
        let unusable = |error: RedisError| StreamError::Unusable(format!("{address}: {error}"));
        let client = Client::open(info.clone()).map_err(unusable)?;
        let connection = connection_config(limits.connect, limits.response);
        let connector = Manager::new_with_config(info, connection).map_err(unusable)?;
        let pool = Pool::builder(connector)
            .max_size(limits.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limits.response))
            .create_timeout(Some(limits.connect))
            .recycle_timeout(Some(limits.response))
            .build()
            .map_err(|error| StreamError::Unusable(format!("{address}: {error}")))?;
        Ok(Self {
            pool,
            questions: QuestionConnection::new(client.clone()),
            client,
            limits,
            address,
        })
    }

    /// A connection from the pool; costs a round trip, so a caller with much to say holds it.
    pub(super) async fn acquire(self: Arc<Self>) -> Result<ConnectionGuard, StreamError> {
        match self.pool.get().await {
            Ok(connection) => Ok(ConnectionGuard { connection, node: self }),
            Err(error) => Err(self.pool_error(error)),
        }
    }

    /// A connection outside the pool, for reads that block.
    pub(super) async fn dedicated(self: Arc<Self>) -> Result<ConnectionGuard<MultiplexedConnection>, StreamError> {
        let config = connection_config(self.limits.connect, self.limits.response);
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => Ok(ConnectionGuard { connection, node: self }),
            Err(error) => Err(error::stream_error(&self.address, &error, self.limits.connect)),
        }
    }

    /// Whether it calls itself a primary. A connection of its own answers: the pool may be one that
    /// is not to be used.
    pub(super) async fn is_primary(self: &Arc<Self>) -> Result<bool, StreamError> {
        let mut guard = Arc::clone(self).dedicated().await?;
        let role = redis::cmd("ROLE").query_async(&mut guard.connection).await;
        let role: Vec<redis::Value> = role.map_err(|error| self.stream_error(&error))?;
        let name = role.into_iter().next().map(redis::from_redis_value::<String>);
        Ok(name.and_then(Result::ok).as_deref() == Some("master"))
    }

    /// Host or socket path.
    pub(super) fn host(&self) -> &str {
        let addr = self.client.get_connection_info().addr();
        if let ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } = addr {
            return host;
        }
        &self.address
    }

    /// Gives no connection any more; those in use end with their use.
    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// Closes the idle connections.
    pub(super) fn close_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// What an error of a command means.
    pub(super) fn stream_error(&self, error: &RedisError) -> StreamError {
        error::stream_error(&self.address, error, self.limits.response)
    }

    fn pool_error(&self, error: PoolError) -> StreamError {
        let unreachable = |message: &str| StreamError::Unreachable {
            server: self.address.clone(),
            message: message.to_owned(),
        };
        let timeout = |after| StreamError::Timeout {
            server: self.address.clone(),
            after,
        };
        match error {
            PoolError::Backend(error) => error::stream_error(&self.address, &error, self.limits.connect),
            PoolError::Timeout(TimeoutType::Create) => timeout(self.limits.connect),
            PoolError::Timeout(TimeoutType::Wait) => unreachable("all connections of the pool are in use"),
            PoolError::Timeout(TimeoutType::Recycle) => timeout(self.limits.response),
            PoolError::Closed => unreachable("another server or configuration has taken its place; try again"),
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => unreachable("the pool is misconfigured"),
        }
    }
}

/// A connection for short questions, kept from one to the next.
pub(super) struct QuestionConnection {
    client: Client,
    held: Mutex<Option<MultiplexedConnection>>,
}

impl QuestionConnection {
    /// Connects at the first question.
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            held: Mutex::new(None),
        }
    }

    /// One answer a question.
    ///
    /// # Errors
    /// With the limit that a timeout exceeded.
    pub(super) async fn ask(
        &self,
        mut questions: Pipeline,
        limits: ConnectionLimits,
    ) -> Result<Vec<RedisResult<Value>>, (RedisError, Duration)> {
        let mut held = self.held.lock().await;
        // Taken: what fails or is given up leaves no connection behind.
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => {
                let config = connection_config(limits.connect, limits.response);
                let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
                made.map_err(|error| (error, limits.connect))?
            }
        };
        connection.set_response_timeout(limits.response);
        let answers = questions.ignore_errors().query_async(&mut connection).await;
        let answers = answers.map_err(|error| (error, limits.response))?;
        *held = Some(connection);
        Ok(answers)
    }
}

/// Whether a connection is of no use after this error. READONLY: it leads to what is now a replica.
pub(super) fn breaks_connection(error: &StreamError) -> bool {
    match error {
        StreamError::Unreachable { .. } | StreamError::Timeout { .. } | StreamError::Denied(_) => true,
        StreamError::Refused { code, .. } => code == "READONLY" || code == "MASTERDOWN",
        StreamError::Full(_) | StreamError::Unconfirmed(_) | StreamError::UnusableKey(_) | StreamError::Unusable(_) => {
            false
        }
    }
}

/// Both limits stand explicitly: the client's own default gives up after 500 ms.
fn connection_config(connect: Duration, response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect))
        .set_response_timeout(Some(response))
}

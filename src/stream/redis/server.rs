//! Connections to the Redis server: the pool, connections of one's own, and what an error on them
//! means.
//!
//! Owns the URL (and forgets its credentials in every text), TLS and timeouts. Invariants: every
//! wait is bounded; a connection that failed, or that leads to a replica, is closed and never goes
//! back to the pool, so that the next one resolves the name afresh.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, TimeoutType};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisError, ScriptInvocation, TlsCertificates,
};
use secrecy::ExposeSecret;

use super::error;
use crate::config::{Durability, RedisConfig, Secret};
use crate::metrics::{Metrics, Service, ServiceLabels};
use crate::stream::StreamError;

/// The server and the way to it, which [`Server::prepare`] may change at any time.
pub(super) struct Server {
    endpoint: ArcSwap<Endpoint>,
    ca_file: Option<PathBuf>,
    pool_size: usize,
    connect_timeout: Duration,
    response_timeout: Duration,
    durability: Durability,
    metrics: Metrics,
}

/// One configured way to the server.
struct Endpoint {
    pool: Pool,
    client: Client,
    address: String,
}

/// A connection, and the way it was made by.
pub(super) struct ConnectionGuard<C = Connection> {
    /// The connection itself.
    pub(super) connection: C,
    endpoint: Arc<Endpoint>,
}

impl Server {
    /// Reads the URL; connects to nothing yet.
    pub(super) fn new(config: &RedisConfig, metrics: Metrics) -> Result<Self, StreamError> {
        let endpoint = Endpoint::new(config, &config.url)?;
        Ok(Self {
            endpoint: ArcSwap::from_pointee(endpoint),
            ca_file: config.ca_file.clone(),
            pool_size: config.pool_size,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            durability: config.durability,
            metrics,
        })
    }

    /// Once the answer is called, uses that URL for every connection; held ones are let go at their
    /// next use.
    pub(super) fn prepare<'a>(&'a self, url: &Secret) -> Result<impl FnOnce() + use<'a>, StreamError> {
        let endpoint = Endpoint::new(
            &RedisConfig {
                url: url.clone(),
                ca_file: self.ca_file.clone(),
                pool_size: self.pool_size,
                connect_timeout: self.connect_timeout,
                response_timeout: self.response_timeout,
                durability: self.durability,
            },
            url,
        )?;
        Ok(move || self.endpoint.swap(Arc::new(endpoint)).pool.close())
    }

    /// Host and port or socket path, without credentials.
    pub(super) fn address(&self) -> String {
        self.endpoint.load().address.clone()
    }

    /// Bound on one answer.
    pub(super) fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    /// What a confirmation must survive.
    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// A connection from the pool; costs a round trip, so a caller with much to say holds it.
    pub(super) async fn acquire(&self) -> Result<ConnectionGuard, StreamError> {
        let endpoint = self.endpoint.load_full();
        // The pool bounds each step, not their sum: every idle connection to a stalled server is a
        // step.
        let after = self.connect_timeout + self.response_timeout;
        match tokio::time::timeout(after, endpoint.pool.get()).await {
            Ok(Ok(connection)) => Ok(ConnectionGuard { connection, endpoint }),
            Ok(Err(error)) => Err(self.pool_error(&endpoint.address, error)),
            Err(_) => Err(StreamError::Timeout {
                server: endpoint.address.clone(),
                after,
            }),
        }
    }

    /// Whether the guard still leads where the configuration says.
    pub(super) fn is_current<C>(&self, guard: &ConnectionGuard<C>) -> bool {
        Arc::ptr_eq(&guard.endpoint, &self.endpoint.load())
    }

    /// A connection outside the pool, for reads that block.
    pub(super) async fn dedicated(&self) -> Result<ConnectionGuard<MultiplexedConnection>, StreamError> {
        let endpoint = self.endpoint.load_full();
        let config = connection_config(self.connect_timeout, self.response_timeout);
        let connection = endpoint
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        match connection {
            Ok(connection) => Ok(ConnectionGuard { connection, endpoint }),
            Err(error) => Err(error::stream_error(&endpoint.address, &error, self.connect_timeout)),
        }
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
            let error = self.stream_error(&error);
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
        let ConnectionGuard { connection, endpoint } = self.dedicated().await?;
        *guard.connection = connection;
        guard.endpoint = endpoint;
        Ok(())
    }

    /// Closes a connection instead of giving it back, and with it the idle ones: they lead to the
    /// same place.
    pub(super) fn discard(&self, guard: ConnectionGuard) {
        drop(Connection::take(guard.connection));
        guard.endpoint.pool.retain(|_, _| false);
        self.count_reconnect();
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
        error::stream_error(&self.endpoint.load().address, error, self.response_timeout)
    }

    fn pool_error(&self, address: &str, error: PoolError) -> StreamError {
        let unreachable = |message: &str| StreamError::Unreachable {
            server: address.to_owned(),
            message: message.to_owned(),
        };
        match error {
            PoolError::Backend(error) => error::stream_error(address, &error, self.connect_timeout),
            PoolError::Timeout(TimeoutType::Create) => StreamError::Timeout {
                server: address.to_owned(),
                after: self.connect_timeout,
            },
            PoolError::Timeout(TimeoutType::Wait) => unreachable("all connections of the pool are in use"),
            PoolError::Timeout(TimeoutType::Recycle) => StreamError::Timeout {
                server: address.to_owned(),
                after: self.response_timeout,
            },
            PoolError::Closed => unreachable("the connection was replaced by a new configuration; try again"),
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => unreachable("the pool is misconfigured"),
        }
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

impl Endpoint {
    fn new(config: &RedisConfig, url: &Secret) -> Result<Self, StreamError> {
        let info = connection_info(url.expose_secret(), config.ca_file.as_deref())?;
        let address = info.addr().to_string();
        let unusable = |error: RedisError| StreamError::Unusable(format!("{address}: {error}"));
        let client = Client::open(info.clone()).map_err(unusable)?;
        let connection = connection_config(config.connect_timeout, config.response_timeout);
        let connector = Manager::new_with_config(info, connection).map_err(unusable)?;
        let pool = Pool::builder(connector)
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.response_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.response_timeout))
            .build()
            .map_err(|error| StreamError::Unusable(format!("{address}: {error}")))?;
        Ok(Self { pool, client, address })
    }
}

/// Both limits stand explicitly: the client's own default gives up after 500 ms.
fn connection_config(connect: Duration, response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect))
        .set_response_timeout(Some(response))
}

/// Address, credentials, database and TLS from the URL. Errors never quote it.
fn connection_info(url: &str, ca_file: Option<&std::path::Path>) -> Result<ConnectionInfo, StreamError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if matches!(
        scheme,
        "redis+cluster" | "rediss+cluster" | "redis+sentinel" | "rediss+sentinel"
    ) {
        return Err(StreamError::Unusable(format!(
            "REDIS_URL: {scheme}:// is reserved for a later release; use redis://, rediss:// or unix://"
        )));
    }
    let info = url
        .into_connection_info()
        .map_err(|error| StreamError::Unusable(format!("REDIS_URL: {error}")))?;
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(info);
    }
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(path) = ca_file else {
        return Ok(info);
    };
    let ca = std::fs::read(path)
        .map_err(|error| StreamError::Unusable(format!("CA file {} of Redis: {error}", path.display())))?;
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(ca),
    };
    Client::build_with_tls(info, certificates)
        .map(|client| client.get_connection_info().clone())
        .map_err(|error| StreamError::Unusable(format!("CA file {} of Redis: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_operators_write_them() {
        let info = connection_info("redis://app:p%40ss%2Fw%23rd@db.example:6380/3", None).unwrap();
        assert_eq!(info.addr().to_string(), "db.example:6380");
        assert_eq!(info.redis_settings().username(), Some("app"));
        assert_eq!(info.redis_settings().password(), Some("p@ss/w#rd"));
        assert_eq!(info.redis_settings().db(), 3);
        assert!(info.tcp_settings().nodelay());
        for url in ["unix:///run/redis.sock?db=2", "redis+unix:///run/redis.sock?db=2"] {
            let info = connection_info(url, None).unwrap();
            assert_eq!(info.addr().to_string(), "/run/redis.sock");
            assert_eq!(info.redis_settings().db(), 2);
        }
        let info = connection_info("rediss://:secret@[::1]", None).unwrap();
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { port: 6379, .. }));
    }

    #[test]
    fn an_unusable_url_is_explained_without_its_password() {
        for url in [
            "redis+cluster://:hush@a:1",
            "redis+sentinel://:hush@a:1",
            "redis://:hush@a:notaport",
            "redis://:hush@a/notadb",
            "http://:hush@a",
            "",
        ] {
            let error = connection_info(url, None).unwrap_err();
            assert!(matches!(error, StreamError::Unusable(_)), "{url}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}

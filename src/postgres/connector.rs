//! The connector: a session by the driver, in the way or ways that `sslmode` allows.

use std::future::Future;
use std::pin::Pin;

use deadpool_postgres::{ConfigConnectImpl, Connect};
use rustls::ClientConfig;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Config, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::Target;

/// Connects, and where `sslmode` allows both ways tries the other one too.
pub(crate) struct Connector {
    inner: ConfigConnectImpl<MakeRustlsConnect>,
    second_try: Option<SslMode>,
}

impl Connector {
    pub(crate) fn new(target: &Target) -> Self {
        Self {
            inner: ConfigConnectImpl {
                tls: MakeRustlsConnect::new(ClientConfig::clone(target.tls())),
            },
            second_try: target.second_try(),
        }
    }
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let first = self.inner.connect(config);
        let mut other = config.clone();
        Box::pin(async move {
            let refused = match first.await {
                // What pg_hba.conf answers where it has a line only for the other way.
                Err(error) if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => error,
                outcome => return outcome,
            };
            match self.second_try {
                Some(mode) => self.inner.connect(other.ssl_mode(mode)).await,
                None => Err(refused),
            }
        })
    }
}

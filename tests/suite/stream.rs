//! The seam `Stream`: the laws that every implementation keeps, and what concerns Redis alone.
//!
//! `laws` knows only [`Stream`](orderstream::stream::Stream) and [`Store`]; an implementation passes by running all of
//! it (`conformance!`) over its own `Store`.

mod laws;
mod redis_only;

use std::sync::Arc;

use async_trait::async_trait;
use orderstream::config::StreamConfig;
use orderstream::metrics::Metrics;
use orderstream::stream::redis::RedisStream;
use orderstream::stream::{Stream, StreamId};

use crate::harness::redis::RedisServer;

/// A store of one's own, and what happens to it from outside.
#[async_trait]
pub trait Store: Send + Sync {
    /// The stream that lives in it, seen through that configuration.
    fn open(&self, config: &StreamConfig) -> Arc<dyn Stream>;
    /// Everything in it is gone.
    async fn wipe(&self);
    /// One entry of the stream is gone, pending or not.
    async fn lose(&self, config: &StreamConfig, id: StreamId);
    /// Moves a group to another place.
    async fn move_group(&self, config: &StreamConfig, id: StreamId);
}

#[async_trait]
impl Store for RedisServer {
    fn open(&self, config: &StreamConfig) -> Arc<dyn Stream> {
        Arc::new(RedisStream::new(&self.config(), config, Metrics::new()).unwrap())
    }

    async fn wipe(&self) {
        self.command::<()>(&["FLUSHALL"]).await;
    }

    async fn lose(&self, config: &StreamConfig, id: StreamId) {
        self.command::<()>(&["XDEL", &config.name, &id.to_string()]).await;
    }

    async fn move_group(&self, config: &StreamConfig, id: StreamId) {
        self.command::<()>(&["XGROUP", "SETID", &config.name, &config.group, &id.to_string()])
            .await;
    }
}

/// Runs every law over a store.
macro_rules! conformance {
    ($store:expr; $($law:ident)*) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                super::laws::$law(&$store).await;
            })*
        }
    };
}

conformance! {
    crate::harness::redis::RedisServer::start().await;
    what_is_appended_is_read_in_order_and_acked
}

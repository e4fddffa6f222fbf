//! One pipeline's surroundings: a Redis, a database, and the questions that every test asks of them.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use super::eventually;
use super::postgres::{Cluster, Database};
use super::redis::{RedisOptions, RedisServer};
use super::service::Settings;

/// Generous, since the machine may be busy; a test that passes never waits so long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Where the rows go.
pub enum Store {
    /// A migrated database of the shared server.
    Shared(Database),
    /// A server of the test's own, to be stopped and killed; the workers migrate it.
    Own(Cluster),
}

pub struct Site {
    pub redis: RedisServer,
    pub store: Store,
}

impl Site {
    pub async fn new() -> Self {
        Self {
            redis: RedisServer::start().await,
            store: Store::Shared(Database::migrated().await),
        }
    }

    /// Both servers can be killed, and keep what they confirmed.
    pub async fn durable() -> Self {
        let options = RedisOptions {
            durable: true,
            ..RedisOptions::default()
        };
        Self {
            redis: RedisServer::start_with(options).await,
            store: Store::Own(Cluster::start(&[], &[]).await),
        }
    }

    pub fn settings(&self) -> Settings {
        Settings::new(&self.redis.url(), &self.database_url())
    }

    pub fn database_url(&self) -> String {
        match &self.store {
            Store::Shared(database) => database.url(),
            Store::Own(cluster) => cluster.url("postgres"),
        }
    }

    pub fn sql(&self, sql: &str) -> String {
        match &self.store {
            Store::Shared(database) => database.sql(sql),
            Store::Own(cluster) => cluster.sql("postgres", sql),
        }
    }

    /// The database in the shared server.
    pub fn database(&self) -> &Database {
        match &self.store {
            Store::Shared(database) => database,
            Store::Own(_) => panic!("this one has a server of its own"),
        }
    }

    /// The test's own PostgreSQL.
    pub fn cluster(&self) -> &Cluster {
        match &self.store {
            Store::Shared(_) => panic!("the shared server is not to be touched"),
            Store::Own(cluster) => cluster,
        }
    }

    /// Appends an entry with the four basic fields, as any producer may.
    pub async fn produce(&self, event: &Value) -> String {
        self.produce_payload(event["event_id"].as_str().unwrap(), &event.to_string())
            .await
    }

    pub async fn produce_payload(&self, event_id: &str, payload: &str) -> String {
        let fields = [
            "event_type",
            "order.created",
            "event_id",
            event_id,
            "timestamp",
            "2026-01-05T10:00:00Z",
        ];
        let command = [&["XADD", "orders_stream", "*"], &fields[..], &["payload", payload]].concat();
        self.redis.command(&command).await
    }

    /// Rows in `order_events`; none while there is no such table.
    pub fn rows(&self) -> usize {
        let exists = self.sql("SELECT to_regclass('orderstream.order_events') IS NOT NULL") == "t";
        if exists {
            self.sql("SELECT count(*) FROM orderstream.order_events")
                .parse()
                .unwrap()
        } else {
            0
        }
    }

    /// Waits for exactly so many rows.
    pub async fn has_rows(&self, count: usize) {
        eventually(&format!("{count} rows"), PATIENCE, async || {
            (self.rows() == count).then_some(())
        })
        .await;
    }

    /// Entries that our group has read and not acked; none while there is no group.
    pub async fn pending(&self) -> Option<u64> {
        let command = ["XPENDING", "orders_stream", "pipeline_workers"];
        let reply: redis::Value = self.redis.try_command(&command).await.ok()?;
        let redis::Value::Array(parts) = reply else {
            panic!("XPENDING answered {reply:?}")
        };
        Some(redis::from_redis_value(parts.into_iter().next()?).unwrap())
    }

    /// How often each pending entry of that consumer was handed out; none while there is no group.
    pub async fn deliveries(&self, consumer: &str) -> Vec<u64> {
        let command = [
            "XPENDING",
            "orders_stream",
            "pipeline_workers",
            "-",
            "+",
            "1000",
            consumer,
        ];
        let rows: Vec<(String, String, u64, u64)> = self.redis.try_command(&command).await.unwrap_or_default();
        rows.into_iter().map(|(_, _, _, deliveries)| deliveries).collect()
    }

    /// Whether a try alone has begun and not ended, for any entry.
    pub async fn has_begun_tries(&self) -> bool {
        let records: Vec<String> = self
            .redis
            .command(&["HVALS", "orders_stream:attempts:pipeline_workers"])
            .await;
        records.iter().any(|record| !record.ends_with(" 0"))
    }

    /// Waits until nothing is pending.
    pub async fn is_settled(&self) {
        eventually("nothing is pending", PATIENCE, async || {
            (self.pending().await == Some(0)).then_some(())
        })
        .await;
    }

    pub async fn dead_letters(&self) -> usize {
        self.redis.command(&["XLEN", "dead_letters"]).await
    }

    /// The fields of all dead letters.
    pub async fn letters(&self) -> Vec<std::collections::HashMap<String, String>> {
        let reply: redis::streams::StreamRangeReply = self.redis.command(&["XRANGE", "dead_letters", "-", "+"]).await;
        let text = |value: &redis::Value| redis::from_redis_value_ref(value).unwrap();
        let fields = |entry: redis::streams::StreamId| entry.map.iter().map(|(k, v)| (k.clone(), text(v))).collect();
        reply.ids.into_iter().map(fields).collect()
    }

    /// Locks `order_events` until the answer is dropped: every load waits, and fails by its own timeout.
    pub async fn lock_out_loads(&self) -> Lock {
        let (client, connection) = tokio_postgres::connect(&self.database_url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Ends with the lock.
            let _ = connection.await;
        });
        client
            .batch_execute("BEGIN; LOCK TABLE orderstream.order_events IN EXCLUSIVE MODE")
            .await
            .unwrap();
        Lock {
            _client: client,
            _connection: tasks,
        }
    }
}

/// A transaction that holds a lock.
pub struct Lock {
    _client: tokio_postgres::Client,
    _connection: JoinSet<()>,
}

//! The ingest side in this process, composed as `serve` does it: over a real Redis, on real sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use orderstream::config::{
    Ages, AppenderConfig, DeadLetterLevels, HealthConfig, IntakeConfig, KeepRaw, Levels, PublicConfig, RedisConfig,
    StreamConfig,
};
use orderstream::health::Thresholds;
use orderstream::health::collector::{Health, Sources};
use orderstream::http::{self, AdminState, Probes, PublicCredentials, PublicState, Tokens};
use orderstream::ingest::Appender;
use orderstream::live::{Live, ProcessInfo, Stores};
use orderstream::metrics::Metrics;
use orderstream::nodes::Nodes;
use orderstream::operations::{Actor, Operations};
use orderstream::shopify::Keyring;
use orderstream::shutdown::Roles;
use orderstream::stream::Stream;
use orderstream::stream::embedded::EmbeddedStream;
use orderstream::stream::redis::RedisStream;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::eventually;
use super::redis::{RedisServer, stream_config};
use super::service;
use super::wire::{self, Answer};

pub const SECRET: &str = "a secret of the tests";
pub const API_TOKEN: &str = "an api token of the tests";
pub const ADMIN_TOKEN: &str = "an admin token of the tests";

/// What a test may want otherwise.
pub struct Settings {
    pub public: PublicConfig,
    pub intake: IntakeConfig,
    pub appender: AppenderConfig,
    pub stream: StreamConfig,
    pub redis: RedisConfig,
    /// The stream is in this file, and Redis is not asked.
    pub file: Option<PathBuf>,
    pub health: HealthConfig,
}

impl Settings {
    pub fn new(redis: &RedisServer) -> Self {
        Self::with(redis.config())
    }

    pub fn in_file(path: PathBuf) -> Self {
        let nobody = RedisConfig {
            url: "unix:///nonexistent".into(),
            ca_file: None,
            pool_size: 1,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            durability: orderstream::config::Durability::Received,
        };
        Self {
            file: Some(path),
            ..Self::with(nobody)
        }
    }

    fn with(redis: RedisConfig) -> Self {
        Self {
            public: PublicConfig {
                addr: SocketAddr::from(([127, 0, 0, 1], 0)),
                chosen: true,
                keep_alive: Duration::from_secs(60),
                header_timeout: Duration::from_secs(10),
                body_timeout: Duration::from_secs(10),
                max_connections: 1024,
            },
            intake: IntakeConfig {
                body_limit: 64 * 1024,
                batch_body_limit: 4 * 1024 * 1024,
                batch_limit: 1000,
                bytes_in_flight: 64 * 1024 * 1024,
                keep_raw: KeepRaw::Off,
                shop_binding: true,
                keep_note_attributes: Arc::default(),
                keep_line_properties: Arc::default(),
            },
            appender: AppenderConfig {
                writers: 2,
                queue: 4096,
                flush_entries: 256,
                deadline: Duration::from_millis(2500),
                spool_after: Duration::from_millis(500),
            },
            stream: stream_config(),
            redis: RedisConfig {
                response_timeout: Duration::from_secs(2),
                ..redis
            },
            file: None,
            health: health_config(),
        }
    }
}

pub fn health_config() -> HealthConfig {
    HealthConfig {
        after: Duration::from_secs(30),
        pending_warning: None,
        pending_critical: None,
        length_percent: Levels {
            warning: 50,
            critical: 90,
        },
        lag: Levels {
            warning: 500,
            critical: 5000,
        },
        idle_consumers: Levels {
            warning: 1,
            critical: 1,
        },
        backlog_age: Ages {
            warning: Duration::from_secs(60),
            critical: Duration::from_secs(600),
        },
        warehouse_critical: Duration::from_secs(120),
        dead_letters: DeadLetterLevels {
            window: Duration::from_secs(900),
            new: Levels {
                warning: 1,
                critical: 100,
            },
            share_percent: 1,
            unresolved: Some(Duration::from_secs(24 * 3600)),
        },
        silence: Some(Duration::from_secs(24 * 3600)),
        capture_wal: Levels {
            warning: 1 << 30,
            critical: 10 << 30,
        },
        unauthorized_percent: 20,
    }
}

fn thresholds(levels: HealthConfig, retain_acked: u64) -> Thresholds {
    Thresholds {
        levels,
        read_count: 500,
        claim_idle: Duration::from_secs(60),
        retain_acked,
    }
}

fn keyring() -> Keyring {
    let now = time::OffsetDateTime::now_utc().unix_timestamp() * 1000;
    let keyring = Keyring::new(&[SECRET.into()]).unwrap();
    keyring.succeed(None, now.unsigned_abs())
}

/// As `serve` tells it.
fn node(stream: &'static str) -> ProcessInfo {
    ProcessInfo {
        command: "serve",
        version: env!("CARGO_PKG_VERSION"),
        started_at: time::OffsetDateTime::now_utc(),
        has_warehouse: false,
        storage: Stores {
            stream,
            warehouse: None,
        },
    }
}

/// A running ingest side.
pub struct Service {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: Metrics,
    pub stream: Arc<dyn Stream>,
    pub credentials: PublicCredentials,
    pub draining: CancellationToken,
    roles: Roles,
    listeners: CancellationToken,
    served: TaskTracker,
}

impl Service {
    pub async fn start(redis: &RedisServer) -> Self {
        Self::start_with(Settings::new(redis)).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let (metrics, roles) = (Metrics::new(), Roles::new());
        let stream: Arc<dyn Stream> = match &settings.file {
            Some(file) => Arc::new(EmbeddedStream::open(file, &settings.stream, None, metrics.clone()).unwrap()),
            None => Arc::new(RedisStream::new(&settings.redis, &settings.stream, metrics.clone()).unwrap()),
        };
        let stream_kind = if settings.file.is_some() { "embedded" } else { "redis" };
        let dedupe = settings.stream.dedupe_window.is_some();
        let appender = Appender::start(Arc::clone(&stream), None, &settings.appender, dedupe, &metrics, &roles);
        let thresholds = thresholds(settings.health, settings.stream.retain_acked);
        let operations = Operations::new(Arc::clone(&stream), None, &settings.intake, Actor::Api);
        let (append_stats, nodes) = (appender.append_stats().clone(), Nodes::unknown());
        let sources = Sources {
            stream: Arc::clone(&stream),
            warehouse: None,
            nodes: nodes.clone(),
            capture: None,
        };
        let health = Health::start(sources, thresholds, append_stats, None, metrics.clone(), &roles);
        let live = Live::start(stream.clone(), health.clone(), nodes.clone(), node(stream_kind), &roles);
        let credentials = PublicCredentials {
            keyring: Arc::new(ArcSwapOption::from_pointee(keyring())),
            tokens: Arc::new(ArcSwap::from_pointee(Tokens::new(&[API_TOKEN.into()]))),
        };
        let (draining, listeners) = (CancellationToken::new(), CancellationToken::new());
        let public = TcpListener::bind(settings.public.addr).await.unwrap();
        let admin = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let service = Self {
            public: public.local_addr().unwrap(),
            admin: admin.local_addr().unwrap(),
            metrics: metrics.clone(),
            stream,
            credentials: credentials.clone(),
            draining: draining.clone(),
            roles,
            listeners: listeners.clone(),
            served: TaskTracker::new(),
        };
        let probes = Probes {
            health,
            draining,
            alive: Arc::new(AtomicBool::new(true)),
        };
        let keyring = Arc::clone(&credentials.keyring);
        let state = PublicState::new(
            appender,
            probes.clone(),
            credentials,
            settings.intake,
            &settings.public,
            &metrics,
        );
        let private = AdminState {
            probes,
            metrics: metrics.clone(),
            tokens: Arc::new(ArcSwap::from_pointee(Tokens::new(&[ADMIN_TOKEN.into()]))),
            hosts: Arc::new(["orders.internal".to_owned()]),
            operations,
            live,
            keyring,
            nodes,
            settings: Arc::default(),
        };
        let stop = listeners.clone();
        service
            .served
            .spawn(async move { http::serve_public(public, state, &settings.public, &metrics, stop).await });
        service.served.spawn(http::serve_admin(admin, private, listeners));
        service
    }

    /// Entries in the stream, and in the dead letters.
    pub async fn stored(&self) -> (u64, u64) {
        let report = self.stream.report().await.unwrap();
        (report.length, report.dead_letters)
    }

    /// Waits until it takes webhooks.
    pub async fn ready(self) -> Self {
        let addr = self.public;
        eventually("the service is ready", Duration::from_secs(30), async || {
            (wire::get(addr, "/readyz").await.status == 200).then_some(())
        })
        .await;
        self
    }

    /// As SIGTERM does: the listeners first, then what they feed.
    pub async fn stop(self) {
        self.draining.cancel();
        self.listeners.cancel();
        self.served.close();
        self.served.wait().await;
        self.roles.stop().await;
    }

    /// A signed webhook.
    pub async fn webhook(&self, id: &str, body: &[u8]) -> Answer {
        wire::ask(self.public, &webhook(id, body)).await
    }

    pub async fn batch(&self, path: &str, body: &[u8]) -> Answer {
        let authorization = format!("Bearer {API_TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        wire::ask(self.public, &wire::request(&format!("POST {path}"), &headers, body)).await
    }
}

/// The bytes of a signed `orders/create`.
pub fn webhook(id: &str, body: &[u8]) -> Vec<u8> {
    signed("orders/create", id, body)
}

pub fn signed(topic: &str, id: &str, body: &[u8]) -> Vec<u8> {
    let signature = sign(body);
    let headers = [
        ("x-shopify-hmac-sha256", signature.as_str()),
        ("x-shopify-topic", topic),
        ("x-shopify-shop-domain", "example.myshopify.com"),
        ("x-shopify-webhook-id", id),
    ];
    wire::request("POST /webhooks/orders", &headers, body)
}

pub fn sign(body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    STANDARD.encode(mac.chain_update(body).finalize().into_bytes())
}

/// A small whole order as Shopify sends it, with a personal field.
pub fn order(id: u64) -> Vec<u8> {
    let mut order = service::order(id);
    order["email"] = "personal@example.com".into();
    order.to_string().into_bytes()
}

/// One event as a service sends it in a batch.
pub fn event(id: &str) -> String {
    let mut event = service::event(1001);
    event["event_id"] = id.into();
    event.to_string()
}

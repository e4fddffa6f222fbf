//! The configuration as structs, one per concern.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString as Secret;

use super::report::SettingsReport;
use super::retention::RetentionConfig;
use super::secrets::AuthConfig;
use super::shopify::ShopifyAdminConfig;
use super::thresholds::HealthConfig;

/// Everything one process is told, valid as a whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// The public listener.
    pub public: PublicConfig,
    /// The private listener.
    pub admin: AdminConfig,
    /// Who may send.
    pub auth: AuthConfig,
    /// What a request may hold.
    pub intake: IntakeConfig,
    /// The stream, whatever stores it.
    pub stream: StreamConfig,
    /// How to reach Redis; `None`: the stream is embedded, in the data folder.
    pub redis: Option<RedisConfig>,
    /// The appender.
    pub appender: AppenderConfig,
    /// Bytes of the spool in the data folder; `None`: there is none.
    pub spool_limit: Option<u64>,
    /// How to reach PostgreSQL; `None`: the warehouse is embedded, in the data folder.
    pub database: Option<DatabaseConfig>,
    /// This machine or container.
    pub host: String,
    /// The workers of this process.
    pub worker: WorkerConfig,
    /// Whether privacy requests are carried out without an operator.
    pub erases_on_request: bool,
    /// How long rows are kept.
    pub retention: RetentionConfig,
    /// The capture of this process; `None`: the source is not configured.
    pub capture: Option<CaptureConfig>,
    /// The Admin API of the shops.
    pub shopify_admin: ShopifyAdminConfig,
    /// The way out.
    pub shutdown: ShutdownConfig,
    /// When health warns.
    pub health: HealthConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Whether spans go to a collector; where, only OpenTelemetry's SDK reads.
    pub exports_spans: bool,
    /// Folder of everything this program keeps on disk; see [`crate::folder`].
    pub data_dir: PathBuf,
    /// What should be looked at and does not keep it from starting, as sentences without secrets.
    pub warnings: Vec<String>,
    /// `ORDERSTREAM_*` names that mean nothing, each as a sentence with a suggestion.
    pub unknown_names: Vec<String>,
    /// Every setting, for operators.
    pub settings: Arc<SettingsReport>,
    pub(super) inputs: Inputs,
    pub(super) purpose: Purpose,
}

impl Config {
    pub(super) fn auth_is_unset(&self) -> bool {
        let auth = &self.auth;
        auth.shopify_secrets.is_empty()
            && auth.shop_secrets.is_none()
            && auth.api_tokens.is_empty()
            && self.admin.token.is_none()
    }

    /// An address that others can reach, if there is one.
    pub(super) fn first_exposed_address(&self) -> Option<SocketAddr> {
        [Some(self.public.addr), self.admin.addr]
            .into_iter()
            .flatten()
            .find(|addr| is_exposed(*addr))
    }
}

/// Whether others can reach it.
pub(super) fn is_exposed(addr: SocketAddr) -> bool {
    !addr.ip().to_canonical().is_loopback()
}

/// What settings are read from, apart from files. Cheap to clone; kept to read files on SIGHUP.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Variable → text, of the flags given.
    pub flags: Arc<BTreeMap<String, String>>,
    /// The environment.
    pub env: Arc<BTreeMap<String, String>>,
}

/// Shows names only: values may be secret.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("flags", &self.flags.keys())
            .finish_non_exhaustive()
    }
}

/// What a configuration is loaded for: it decides which settings must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Ingest and workers in one process.
    Run,
    /// Only ingest.
    Serve,
    /// Only workers.
    Work,
    /// Only the capture of a database.
    Capture,
    /// Bring the schema up to date.
    Migrate,
    /// Look at the stream.
    Status,
    /// Talk to a running instance over HTTP (`send`, `health`).
    Client,
}

impl Purpose {
    /// Whether it opens the public listener.
    #[must_use]
    pub fn ingests(self) -> bool {
        matches!(self, Self::Run | Self::Serve)
    }

    /// The command that has this purpose; `client` for those that only ask a running instance.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Serve => "serve",
            Self::Work => "work",
            Self::Capture => "capture",
            Self::Migrate => "migrate",
            Self::Status => "status",
            Self::Client => "client",
        }
    }

    /// Whether it captures, where a source is configured.
    #[must_use]
    pub fn captures(self) -> bool {
        matches!(self, Self::Run | Self::Capture)
    }

    /// Whether it runs workers.
    #[must_use]
    pub fn works(self) -> bool {
        matches!(self, Self::Run | Self::Work)
    }
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Lines for people or JSON for collectors.
    pub format: LogFormat,
    /// `RUST_LOG`, checked.
    pub filter: String,
}

/// `ORDERSTREAM_LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One compact line an event.
    Text,
    /// One JSON object a line.
    Json,
}

/// The public listener.
#[derive(Debug, Clone)]
pub struct PublicConfig {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whether that was set, and is not the default.
    pub chosen: bool,
    /// Idle time after which a kept-alive connection is closed.
    pub keep_alive: Duration,
    /// From the first byte of a head (of a connection's first: from its start) to its end; also how
    /// long an answer may lie unread.
    pub header_timeout: Duration,
    /// From the end of the head to the last byte of the body.
    pub body_timeout: Duration,
    /// Connections open at once; at the cap the one that has waited longest gives way to a new one.
    pub max_connections: usize,
}

/// The capture of a shop's own database.
#[derive(Debug, Clone)]
pub struct CaptureConfig {
    /// The database.
    pub url: Secret,
    /// Where orders are read, if elsewhere.
    pub read_url: Option<Secret>,
    /// The mapping file.
    pub file: PathBuf,
    /// Most orders of one read.
    pub batch: usize,
    /// Whether all orders are read at the first start.
    pub takes_snapshot: bool,
    /// Orders a second of a walk.
    pub snapshot_rate: u32,
    /// Whether all orders are read again after changes were lost.
    pub resyncs_on_gap: bool,
    /// How long the source keeps WAL after its events were stored.
    pub ack_delay: Duration,
    /// How often a message is sent through the WAL; `None`: never.
    pub heartbeat: Option<Duration>,
    /// Bound on connecting.
    pub connect_timeout: Duration,
}

/// The private listener.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where it listens; `None`: not at all.
    pub addr: Option<SocketAddr>,
    /// Names that it answers to, besides IP addresses and `localhost`.
    pub hosts: Arc<[String]>,
    /// Bearer token of `/api`.
    pub token: Option<Secret>,
}

/// What a request may hold.
#[derive(Debug, Clone)]
pub struct IntakeConfig {
    /// Bytes of one webhook body.
    pub body_limit: usize,
    /// Bytes of one batch body.
    pub batch_body_limit: usize,
    /// Events of one batch.
    pub batch_limit: usize,
    /// Bytes of all bodies in memory at once; beyond it requests are shed.
    pub bytes_in_flight: usize,
    /// Whether the original body is kept beside the event.
    pub keep_raw: KeepRaw,
    /// Whether a domain's orders must name the shop that its first one named.
    pub shop_binding: bool,
    /// Names of the note attributes that are kept.
    pub keep_note_attributes: Arc<[String]>,
    /// Names of the lines' properties that are kept.
    pub keep_line_properties: Arc<[String]>,
}

/// `ORDERSTREAM_KEEP_RAW`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepRaw {
    /// Not kept.
    #[default]
    Off,
    /// Kept without the named personal fields.
    Redacted,
    /// Kept byte for byte.
    Full,
}

/// The stream, whatever stores it.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Key of the stream.
    pub name: String,
    /// Our consumer group.
    pub group: String,
    /// Key of the dead letters.
    pub dead_letters: String,
    /// Streams that events are spread over; where it is set, side keys have hash tags. Redis only.
    pub partitions: Option<u16>,
    /// Hard cap of the stream, over all partitions.
    pub maxlen: u64,
    /// Acked entries kept, over all partitions.
    pub retain_acked: u64,
    /// Hard cap of the dead letters.
    pub dead_letters_maxlen: u64,
    /// Lifetime of a dedupe key; `None`: dedupe is off. [`Duration::MAX`], which only the embedded
    /// stream knows: a key is remembered for as long as its entry is there.
    pub dedupe_window: Option<Duration>,
}

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `rediss+sentinel://`,
    /// `redis+cluster://`, `rediss+cluster://`.
    pub url: Secret,
    /// PEM file of the CA that signed the server's certificate; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections of the pool.
    pub pool_size: usize,
    /// Bound on connecting.
    pub connect_timeout: Duration,
    /// Bound on one command's or flush's answer, its proof of durability included.
    pub response_timeout: Duration,
    /// What a confirmed append must survive.
    pub durability: Durability,
}

/// `ORDERSTREAM_DURABILITY`: what the stream has proven before an append is confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// It has the append; what that survives is up to its settings.
    #[default]
    Received,
    /// Its append-only file is synced.
    Fsynced,
    /// So many replicas have it too; at least 1.
    Replicated(u32),
}

/// The appender.
#[derive(Debug, Clone)]
pub struct AppenderConfig {
    /// Writer tasks, each with one flush in flight.
    pub writers: usize,
    /// Entries waiting; beyond it requests are shed.
    pub queue: usize,
    /// Entries of one flush.
    pub flush_entries: usize,
    /// From enqueueing to the answer at the latest.
    pub deadline: Duration,
    /// From enqueueing to the spool, where there is one and the stream has not confirmed.
    pub spool_after: Duration,
}

/// How to reach PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `postgres://` or `postgresql://`, as managed databases give it.
    pub url: Secret,
    /// Role that owns the schema, where `migrate` has its own.
    pub migrate_url: Option<Secret>,
    /// Schema of all tables.
    pub schema: String,
    /// Connections of the pool.
    pub pool_size: usize,
    /// Bound on connecting.
    pub connect_timeout: Duration,
    /// Bound on one statement; below `claim_idle`.
    pub statement_timeout: Duration,
    /// Key of the tombstones; `None`: nobody can be forgotten.
    pub forget_key: Option<Secret>,
}

/// The workers of this process.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many.
    pub workers: usize,
    /// Name of the first; the others get `-2`, `-3`, ... appended.
    pub consumer: String,
    /// Entries of one read.
    pub read_count: usize,
    /// How long a read waits for the first entry.
    pub block: Duration,
    /// Attempts before the dead letters.
    pub max_deliveries: u32,
    /// Idle time before an entry is claimed.
    pub claim_idle: Duration,
    /// Delay after the first failed attempt; doubles with each.
    pub retry_delay: Duration,
    /// Silence after which a consumer with nothing pending is removed.
    pub consumer_ttl: Duration,
}

/// `ORDERSTREAM_DRAIN_DELAY` and `_SHUTDOWN_GRACE`.
#[derive(Debug, Clone)]
pub struct ShutdownConfig {
    /// Readiness off this long before draining.
    pub drain_delay: Duration,
    /// In all, drain delay included.
    pub grace: Duration,
}

/// Secrets and URLs as the files say now. URLs are for new connections.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// Who may send.
    pub auth: AuthConfig,
    /// Bearer token of the admin API.
    pub admin_token: Option<Secret>,
    /// Redis, where it is configured.
    pub redis_url: Option<Secret>,
    /// PostgreSQL, where it is configured.
    pub database_url: Option<Secret>,
    /// PostgreSQL as the role that owns the schema, where that is another.
    pub migrate_url: Option<Secret>,
}

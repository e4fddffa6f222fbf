//! Configuration: nested structs, one per concern, read once at start (secrets and URLs again on SIGHUP).
//!
//! Owns every name, default and bound: `config/settings.rs` is the one table from which flags, environment, `NAME_FILE`
//! variants and help come; `config/load.rs` makes the structs from it. Reads files, and nothing else of the world: the
//! environment is handed in. Invariants: a `Config` that exists is valid as a whole; a secret never prints.

mod error;
mod layers;
mod load;
pub mod local;
mod parse;
mod secret_strength;
mod secrets;
pub mod settings;
mod spans;
mod suggest;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::error::{ConfigErrors, Problem};
pub use self::layers::Inputs;
pub(crate) use self::parse::duration;
pub use self::secrets::Reloaded;
pub use secrecy::SecretString as Secret;

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
    /// What should be looked at and does not keep it from starting; whole sentences without secrets.
    pub warnings: Vec<String>,
    /// `ORDERSTREAM_*` names that mean nothing, each as a sentence with a suggestion.
    pub unknown_names: Vec<String>,
    inputs: Inputs,
    purpose: Purpose,
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
            Self::Migrate => "migrate",
            Self::Status => "status",
            Self::Client => "client",
        }
    }

    /// Whether it runs workers.
    #[must_use]
    pub fn works(self) -> bool {
        matches!(self, Self::Run | Self::Work)
    }
}

/// Who may send. Empty means: nobody, that door is closed.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Each verifies a webhook of any shop; newest first.
    pub shopify_secrets: Vec<Secret>,
    /// Secrets by shop domain (lower case), newest first. Where it is there, only these shops are accepted, and
    /// `shopify_secrets` verifies nothing.
    pub shop_secrets: Option<BTreeMap<String, Vec<Secret>>>,
    /// Bearer tokens of `/events/batch`.
    pub api_tokens: Vec<Secret>,
}

/// When one figure warns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// The lowest value that is a warning.
    pub warning: u64,
    /// The highest value that is still only a warning; above it is critical.
    pub critical: u64,
}

/// When an age warns, and when it is critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// The lowest age that is a warning.
    pub warning: Duration,
    /// The lowest age that is critical.
    pub critical: Duration,
}

/// When dead letters warn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterLevels {
    /// How long a dead letter counts as new.
    pub window: Duration,
    /// New dead letters.
    pub new: Levels,
    /// Lowest share of what was accepted within `window`, in percent, that is critical.
    pub share_percent: u64,
    /// Warn when one is unresolved for this long; `None`: never.
    pub unresolved: Option<Duration>,
}

/// Thresholds of the health report.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// How long a state must last before it is reported.
    pub after: Duration,
    /// Lowest number of pending entries that warns; `None`: one more than max(100, 2 × consumers × read count).
    pub pending_warning: Option<u64>,
    /// Highest number of pending entries that is only a warning; `None`: 10 × max(100, 2 × consumers × read count).
    pub pending_critical: Option<u64>,
    /// Stream length in percent of its cap.
    pub length_percent: Levels,
    /// Entries not yet read.
    pub lag: Levels,
    /// Age of the oldest entry that is unread or pending.
    pub backlog_age: Ages,
    /// Critical when no live worker has reached the warehouse for this long.
    pub warehouse_critical: Duration,
    /// Consumers with something pending that were silent for longer than `claim_idle`.
    pub idle_consumers: Levels,
    /// Dead letters, beside how near they are to their cap (`length_percent`).
    pub dead_letters: DeadLetterLevels,
    /// Warn when nothing was accepted for this long; `None`: never.
    pub silence: Option<Duration>,
    /// Lowest share of requests answered 401, in percent, that warns.
    pub unauthorized_percent: u64,
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
    /// From the first byte of a head (of a connection's first: from its start) to its end; also how long an answer may
    /// lie unread.
    pub header_timeout: Duration,
    /// From the end of the head to the last byte of the body.
    pub body_timeout: Duration,
    /// Connections open at once; at the cap the one that has waited longest gives way to a new one.
    pub max_connections: usize,
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
    /// Hard cap of the stream.
    pub maxlen: u64,
    /// Acked entries kept.
    pub retain_acked: u64,
    /// Hard cap of the dead letters.
    pub dead_letters_maxlen: u64,
    /// Lifetime of a dedupe key; `None`: dedupe is off. [`Duration::MAX`], which only the embedded stream knows: a key is
    /// remembered for as long as its entry is there.
    pub dedupe_window: Option<Duration>,
}

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://`, `rediss://`, `unix://`.
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
